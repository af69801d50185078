//! The null device, which hides files: opened on the node or on a file system of ours, never below
//! a root that a guest can write, and checked before it is used.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, major, minor};

/// Opens the node's null device.
pub(crate) fn open_on_node(access: OFlags) -> io::Result<OwnedFd> {
    let null = rustix::fs::openat(
        CWD,
        "/dev/null",
        access | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    check(&null)?;
    Ok(null)
}

/// Checks that a descriptor refers to the null device: character device 1:3.
pub(crate) fn check(null: impl AsFd) -> io::Result<()> {
    let found = fstat(null)?;
    let number = (major(found.st_rdev), minor(found.st_rdev));
    match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice if number == (1, 3) => Ok(()),
        kind => Err(io::Error::other(format!(
            "/dev/null is not the null device, but a {kind:?} {}:{}",
            number.0, number.1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_device_is_told_from_other_files_and_devices() {
        check(open_on_node(OFlags::PATH).unwrap()).unwrap();
        for other in ["/dev/zero", "/dev", "/proc/self/stat"] {
            let file = rustix::fs::open(other, OFlags::PATH, Mode::empty()).unwrap();
            let error = check(file).unwrap_err().to_string();
            assert!(error.contains("is not the null device"), "{other}: {error}");
        }
    }
}
