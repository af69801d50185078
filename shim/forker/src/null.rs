//! The null device, opened on the node or on a file system of the runtime's, never below a root
//! that a guest can write, and checked before it is used.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, major, minor};

/// Opens the node's null device.
///
/// # Errors
/// When it is missing, or another file is in its place.
pub fn open_on_node(access: OFlags) -> io::Result<OwnedFd> {
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
///
/// # Errors
/// When it refers to another file.
pub fn check(null: impl AsFd) -> io::Result<()> {
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
    fn other_files_and_devices_are_not_the_null_device() {
        check(open_on_node(OFlags::PATH).unwrap()).unwrap();
        for other in ["/dev/zero", "/dev", "/proc/self/stat"] {
            let file = rustix::fs::open(other, OFlags::PATH, Mode::empty()).unwrap();
            let error = check(file).unwrap_err().to_string();
            assert!(error.contains("is not the null device"), "{other}: {error}");
        }
    }
}
