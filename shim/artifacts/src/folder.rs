//! A folder of the store, by descriptor. Every access is to one name directly in it, and never
//! follows a link, waits for a FIFO's other end, or leaves the file system.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec,
    Timestamps, fchmod, flock, fstat, fsync, futimens, mkdirat, openat2, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

/// Names of a folder that are looked at. More are left for the next time.
const MAX_NAMES: usize = 100_000;
/// Folders in folders that a removal descends into. An entry has two.
const MAX_DEPTH: u32 = 8;
/// Random bytes of a name.
const NAME_BYTES: usize = 16;
/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;
/// Permission bits with which others than root can write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// A file or folder, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// The result of an attempt to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    Yes,
    HeldByAnother,
}

impl Folder {
    pub(crate) fn from_fd(folder: OwnedFd) -> Self {
        Self(folder)
    }

    /// Opens a folder in this one.
    pub(crate) fn sub(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open_in(self.0.as_fd(), name, flags, Mode::empty()).map(Self)
    }

    /// Makes a folder in this one for root alone, and opens it. Fails if the name exists.
    pub(crate) fn make(&self, name: &str) -> io::Result<Self> {
        mkdirat(&self.0, name, Mode::RWXU)?;
        self.sub(name)
    }

    /// Opens the regular file of this name, and checks that only root can have written it.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        // Looked at before it is opened: opening a device can have an effect.
        must_be_ours(&self.stat(name)?, FileType::RegularFile)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open_in(self.0.as_fd(), name, flags, Mode::empty())?;
        must_be_ours(&fstat(&file)?, FileType::RegularFile)?;
        Ok(File::from(file))
    }

    /// Returns the content of the file of this name, of at most `max` bytes.
    pub(crate) fn read(&self, name: &str, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.file(name)?;
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(wrong(format!("it has more than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Makes a file without a name in the folder.
    pub(crate) fn nameless(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, ".", flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// Makes a file for writing, and fails if the name exists.
    pub(crate) fn make_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        open_in(self.0.as_fd(), name, flags, Mode::RUSR).map(File::from)
    }

    /// Makes a file that is read-only and whose content has reached the disk.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = self.make_file(name)?;
        file.write_all(content)?;
        fchmod(&file, Mode::from_raw_mode(0o444))?;
        file.sync_all()
    }

    /// Opens the lock file of this name, and makes it if needed.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open_in(self.0.as_fd(), name, flags, Mode::RUSR | Mode::WUSR)?;
        must_be_ours(&fstat(&file)?, FileType::RegularFile)?;
        Ok(file)
    }

    pub(crate) fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(crate) fn stat_itself(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// Whether only root can have written it.
    pub(crate) fn must_be_ours(&self) -> io::Result<()> {
        must_be_ours(&self.stat_itself()?, FileType::Directory)
    }

    /// Whether it is still in the tree, not removed.
    pub(crate) fn exists(&self) -> bool {
        self.stat_itself().is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// Whether `name` in this folder is the open file or folder.
    pub(crate) fn holds(&self, name: &str, open: impl AsFd) -> io::Result<bool> {
        self.is(name, Identity::of(&fstat(open)?))
    }

    /// Whether `name` in this folder is this file or folder.
    pub(crate) fn is(&self, name: &str, identity: Identity) -> io::Result<bool> {
        match self.stat(name) {
            Ok(named) => Ok(Identity::of(&named) == identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&self.stat_itself()?))
    }

    /// Returns the names in the folder, sorted. A name that is not UTF-8 is not ours and left out.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
            if names.len() == MAX_NAMES {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Renames something in this folder to a name in another one. A file replaces a file; a folder
    /// fails for what is not an empty folder.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str) -> io::Result<()> {
        Ok(renameat(&self.0, name, &to.0, new)?)
    }

    /// Removes what has this name, if anything, with all in it. Links are removed, not followed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_below(name, MAX_DEPTH)
    }

    fn remove_below(&self, name: &str, depth: u32) -> io::Result<()> {
        match self.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            result => return result,
        }
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| wrong(format!("it has folders in folders, more than {MAX_DEPTH}")))?;
        // Often it is empty.
        match unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            result => return gone(result),
        }
        let inner = match self.sub(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            inner => inner?,
        };
        for name in Dir::read_from(&inner.0)?.take(MAX_NAMES) {
            match name?.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => inner.remove_below(name, depth)?,
                Err(_) => return Err(wrong("it has a name that is not UTF-8".to_owned())),
            }
        }
        gone(unlinkat(&self.0, name, AtFlags::REMOVEDIR))
    }

    /// Removes a file, if it exists.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        gone(unlinkat(&self.0, name, AtFlags::empty()))
    }

    /// Sets the permissions of the folder.
    pub(crate) fn chmod(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.0, Mode::from_raw_mode(mode))?)
    }

    /// Waits until the names in the folder have reached the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// Sets the folder's time to now.
    pub(crate) fn touch(&self) -> io::Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        Ok(futimens(
            &self.0,
            &Timestamps {
                last_access: now,
                last_modification: now,
            },
        )?)
    }

    /// Locks the folder, shared with others that do so, if none has it for itself.
    pub(crate) fn try_share(&self) -> io::Result<Locked> {
        try_flock(&self.0, FlockOperation::NonBlockingLockShared)
    }

    /// Locks the folder if no other process, nor another opening of it in this one, has locked it.
    pub(crate) fn try_lock(&self) -> io::Result<Locked> {
        try_flock(&self.0, FlockOperation::NonBlockingLockExclusive)
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        Ok(flock(&self.0, FlockOperation::Unlock)?)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes a lock if it is free.
pub(crate) fn try_flock(file: impl AsFd, operation: FlockOperation) -> io::Result<Locked> {
    match flock(file, operation) {
        Ok(()) => Ok(Locked::Yes),
        Err(Errno::WOULDBLOCK) => Ok(Locked::HeldByAnother),
        Err(error) => Err(error.into()),
    }
}

/// Opens one name, without following anything. `folder` may be [`CWD`] for an absolute path.
pub(crate) fn open_in(
    folder: BorrowedFd<'_>,
    name: &str,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV;
    Ok(openat2(
        folder,
        name,
        flags | OFlags::NOFOLLOW,
        mode,
        resolve,
    )?)
}

/// Opens the root of the file system as the process sees it.
pub(crate) fn open_slash() -> io::Result<Folder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Folder(rustix::fs::openat(CWD, "/", flags, Mode::empty())?))
}

/// Returns a name that no other process chooses.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0_u8; NAME_BYTES];
    // The kernel gives up to 256 bytes whole.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// The owner, if it is not root.
pub(crate) fn foreign_owner(stat: &Stat) -> Option<u32> {
    (stat.st_uid != 0).then_some(stat.st_uid)
}

/// The permissions, if others than root can write.
pub(crate) fn open_permissions(stat: &Stat) -> Option<u32> {
    let mode = stat.st_mode & PERMISSIONS;
    (mode & WRITABLE_BY_OTHERS != 0).then_some(mode)
}

fn must_be_ours(stat: &Stat, kind: FileType) -> io::Result<()> {
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != kind {
        return Err(wrong(format!("it is a {found:?}, not a {kind:?}")));
    }
    if let Some(owner) = foreign_owner(stat) {
        return Err(wrong(format!("it belongs to user {owner}, not to root")));
    }
    if let Some(mode) = open_permissions(stat) {
        return Err(wrong(format!(
            "others than root can write it (mode {mode:04o})"
        )));
    }
    Ok(())
}

/// An error about what was found, not about a failure to look.
fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Takes the absence of what is to be removed as success.
fn gone(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error means that what was found is not what should be there; else it is a failure to
/// look, from which nothing follows.
pub(crate) fn is_about_content(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::InvalidData,
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
    ];
    kinds.contains(&error.kind())
        || [Errno::LOOP, Errno::XDEV, Errno::NXIO]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
