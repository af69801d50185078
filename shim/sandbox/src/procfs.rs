//! The node's `/proc`: the host opens it, and a container's process writes labels and kernel
//! parameters to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};

pub(crate) fn open() -> io::Result<OwnedFd> {
    let folder = openat(
        CWD,
        "/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    check(&folder)?;
    Ok(folder)
}

/// Checks that a descriptor refers to a file of procfs, and not to a file mounted over it.
pub(crate) fn check(file: impl AsFd) -> io::Result<()> {
    match fstatfs(file)?.f_type {
        PROC_SUPER_MAGIC => Ok(()),
        other => Err(io::Error::other(format!(
            "it does not lie on procfs, but on a file system of type {other:#x}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_procfs_is_told_from_one_of_another_file_system() {
        check(open().unwrap()).unwrap();
        check(std::fs::File::open("/proc/self/stat").unwrap()).unwrap();
        let error = check(tempfile::tempfile().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("does not lie on procfs"), "{error}");
    }
}
