//! The folder that a compile helper writes into: a file system in memory of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::mount::MountAttrFlags;

use crate::error::{Step as _, StoreError};
use crate::folder::open_in;
use crate::key::Key;
use crate::mounts;

/// The name of the file that the helper writes, and by which a guest's process opens it.
pub const ARTIFACT: &str = "artifact";
/// Files and folders that a helper may make in its folder: the artifact, and the linker's.
const MAX_FILES: u32 = 64;

/// The bounds and the owner of a draft's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftSpace {
    /// The most bytes that all files in it may have together.
    pub max_bytes: u64,
    /// The user to which it belongs.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A folder for the result of a compile. It is mounted nowhere and has no path; it is gone with the
/// last descriptor of it. Its memory is charged to the cgroup of the process that writes.
#[derive(Debug)]
pub struct Draft {
    pub(crate) key: Key,
    space: DraftSpace,
    mount: OwnedFd,
}

impl Draft {
    pub(crate) fn new(key: Key, space: DraftSpace) -> Result<Self, StoreError> {
        let parameters = [
            ("size", space.max_bytes.to_string()),
            ("nr_inodes", MAX_FILES.to_string()),
            ("mode", "0700".to_owned()),
            ("uid", space.uid.to_string()),
            ("gid", space.gid.to_string()),
        ];
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = mounts::in_memory(&parameters, attributes)
            .step(|| "make a folder in memory for the compile helper")?;
        Ok(Self { key, space, mount })
    }

    /// Returns the folder: a detached mount, for fchdir(2), openat(2) or move_mount(2). The helper
    /// writes the file [`ARTIFACT`] in it.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Returns the most bytes that the artifact may have.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.space.max_bytes
    }

    /// Opens the artifact that the helper wrote, and returns its size. The helper read hostile
    /// bytes, so anything can be there; nothing but a plain file is opened.
    pub(crate) fn artifact(&self) -> Result<(File, u64), StoreError> {
        // A path alone: opening a FIFO or a device can have an effect.
        let found = match open_in(
            self.folder(),
            ARTIFACT,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return bad(format!("there is no file `{ARTIFACT}`"));
            }
            found => found.or_else(|error| bad(format!("it cannot be opened: {error}")))?,
        };
        let stat = fstat(&found).step(|| "look at the artifact of the compile helper")?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return bad(format!("`{ARTIFACT}` is a {kind:?}, not a file"));
        }
        if stat.st_nlink != 1 {
            return bad(format!("`{ARTIFACT}` has {} names", stat.st_nlink));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 {
            return bad(format!("`{ARTIFACT}` is empty"));
        }
        if size > self.max_bytes() {
            return bad(format!(
                "`{ARTIFACT}` claims {size} bytes in a folder of {}",
                self.max_bytes()
            ));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open_in(self.folder(), ARTIFACT, flags, Mode::empty())
            .or_else(|error| bad(format!("it cannot be opened: {error}")))?;
        let opened = fstat(&file).step(|| "look at the artifact of the compile helper")?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return bad(format!("`{ARTIFACT}` was replaced"));
        }
        Ok((File::from(file), size))
    }
}

fn bad<T>(what: String) -> Result<T, StoreError> {
    Err(StoreError::BadDraft(what))
}
