//! The store's folder: opened without following a link, checked, and made if it does not exist.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, fstatvfs, mkdirat, openat2,
};
use rustix::io::Errno;

use crate::error::Unusable;
use crate::folder::{Folder, foreign_owner, open_permissions, open_slash, random_name};

/// The layout of the folders. One that this version cannot read would have another name.
const LAYOUT: &str = "v1";
/// Mode bit of a folder in which each user can remove only what is theirs.
const STICKY: u32 = 0o1000;

/// Where a store is, and how large it may become.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Its folder. It is made if it does not exist.
    pub folder: PathBuf,
    /// The most bytes that it may hold.
    pub max_bytes: u64,
    /// The largest share of its file system that it may take.
    pub max_disk_share: Percent,
}

/// A share, from 1 to 100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// The whole.
    pub const WHOLE: Self = Self(100);

    /// Returns the share, or none for what is not from 1 to 100.
    pub const fn new(percent: u8) -> Option<Self> {
        match percent {
            1..=100 => Some(Self(percent)),
            _ => None,
        }
    }

    /// Returns this share of `bytes`, rounded down.
    pub fn of(self, bytes: u64) -> u64 {
        let share = u128::from(bytes) * u128::from(self.0) / 100;
        u64::try_from(share).expect("a share is not more than the whole")
    }
}

/// The open folders of a store.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) entries: Folder,
    pub(crate) failures: Folder,
    pub(crate) locks: Folder,
    pub(crate) drafts: Folder,
}

impl Folders {
    /// Opens the folders in the store's folder at `path`, and makes what is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Unusable> {
        Self::in_root(&open_root(path)?, path)
    }

    /// Opens the folders in this root, which errors name `path`.
    pub(crate) fn in_root(root: &Folder, path: &Path) -> Result<Self, Unusable> {
        let step = |operation: &str, source: io::Error| Unusable::Io {
            operation: operation.to_owned(),
            path: path.to_owned(),
            source,
        };
        let flags = fstatvfs(root.as_fd())
            .map_err(|error| step("read the properties of its file system", error.into()))?
            .f_flag;
        if flags.contains(StatVfsMountFlags::NOEXEC) {
            return Err(Unusable::NoExec(path.to_owned()));
        }
        if flags.contains(StatVfsMountFlags::RDONLY) {
            return Err(Unusable::ReadOnly(path.to_owned()));
        }
        let layout_path = path.join(LAYOUT);
        let layout = enter(root, LAYOUT, &layout_path, Mode::RWXU)?;
        let open = |name: &str| enter(&layout, name, &layout_path.join(name), Mode::RWXU);
        let folders = Self {
            entries: open("entries")?,
            failures: open("failures")?,
            locks: open("locks")?,
            drafts: open("drafts")?,
        };
        folders
            .try_to_write()
            .map_err(|error| step("make and remove a folder in it", error))?;
        Ok(folders)
    }

    /// Whether none of them was removed since it was opened.
    pub(crate) fn exist(&self) -> bool {
        [&self.entries, &self.failures, &self.locks, &self.drafts]
            .iter()
            .all(|folder| folder.exists())
    }

    fn try_to_write(&self) -> io::Result<()> {
        let name = random_name()?;
        match self.drafts.make(&name) {
            Ok(_) => self.drafts.remove(&name),
            // What is in a store on a full disk can still be used.
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Walks to the store's folder. A user who can write to a part of the path could put another folder
/// there later, so each part is checked.
fn open_root(path: &Path) -> Result<Folder, Unusable> {
    let mut parts = Vec::new();
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(Unusable::NotAbsolute(path.to_owned()));
    }
    for component in components {
        match component {
            Component::Normal(name) => parts.push(name),
            _ => return Err(Unusable::NotAbsolute(path.to_owned())),
        }
    }
    let Some((last, above)) = parts.split_last() else {
        return Err(Unusable::NotAbsolute(path.to_owned()));
    };
    let mut at = PathBuf::from("/");
    let io_error = |at: &Path, source: io::Error| Unusable::Io {
        operation: format!("open {}", at.display()),
        path: path.to_owned(),
        source,
    };
    let mut folder = open_slash().map_err(|error| io_error(&at, error))?;
    check_above(&folder, &at)?;
    // Readable by others, as the folders of /var/lib are; the store's own is not.
    let readable = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    for name in above {
        at.push(name);
        folder = open_or_make(&folder, name.as_ref(), &at, readable)?;
        check_above(&folder, &at)?;
    }
    at.push(last);
    enter(&folder, last, &at, Mode::RWXU)
}

/// Opens a folder that belongs to the store, and makes it if it does not exist.
fn enter(
    above: &Folder,
    name: impl AsRef<Path>,
    path: &Path,
    mode: Mode,
) -> Result<Folder, Unusable> {
    let folder = open_or_make(above, name.as_ref(), path, mode)?;
    let stat = stat(&folder, path)?;
    check_owner(&stat, path)?;
    if let Some(mode) = open_permissions(&stat) {
        let path = path.to_owned();
        return Err(Unusable::WritableByOthers { path, mode });
    }
    Ok(folder)
}

fn open_or_make(above: &Folder, name: &Path, path: &Path, mode: Mode) -> Result<Folder, Unusable> {
    let io_error = |operation: &str, source: Errno| Unusable::Io {
        operation: format!("{operation} {}", path.display()),
        path: path.to_owned(),
        source: source.into(),
    };
    let mut is_new = false;
    loop {
        match open_folder(above, name) {
            Ok(folder) => return Ok(Folder::from_fd(folder)),
            Err(Errno::NOENT) if !is_new => {}
            Err(Errno::LOOP) => return Err(Unusable::Symlink(path.to_owned())),
            Err(Errno::NOTDIR) => return Err(file_or_link(above, name, path)),
            Err(error) => return Err(io_error("open", error)),
        }
        match mkdirat(above, name, mode) {
            // Another host may have made it.
            Ok(()) | Err(Errno::EXIST) => is_new = true,
            Err(Errno::ROFS) => return Err(Unusable::ReadOnly(path.to_owned())),
            Err(error) => return Err(io_error("make", error)),
        }
    }
}

fn open_folder(above: &Folder, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A mount point is fine: the store may have a disk of its own.
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
    openat2(above, name, flags, Mode::empty(), resolve)
}

/// Opened as a folder, a link is reported as a file.
fn file_or_link(above: &Folder, name: &Path, path: &Path) -> Unusable {
    let is_link = name
        .to_str()
        .and_then(|name| above.stat(name).ok())
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    if is_link {
        Unusable::Symlink(path.to_owned())
    } else {
        Unusable::NotAFolder(path.to_owned())
    }
}

/// Checks that no user but root can replace what is in a folder above the store.
fn check_above(folder: &Folder, path: &Path) -> Result<(), Unusable> {
    let stat = stat(folder, path)?;
    check_owner(&stat, path)?;
    match open_permissions(&stat) {
        Some(mode) if mode & STICKY == 0 => {
            let path = path.to_owned();
            Err(Unusable::WritableByOthers { path, mode })
        }
        _ => Ok(()),
    }
}

fn check_owner(stat: &Stat, path: &Path) -> Result<(), Unusable> {
    foreign_owner(stat).map_or(Ok(()), |owner| {
        let path = path.to_owned();
        Err(Unusable::NotRootOwned { path, owner })
    })
}

fn stat(folder: &Folder, path: &Path) -> Result<Stat, Unusable> {
    folder.stat_itself().map_err(|source| Unusable::Io {
        operation: format!("look at {}", path.display()),
        path: path.to_owned(),
        source,
    })
}
