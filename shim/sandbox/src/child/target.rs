//! Mount points: paths of the container, made where they are missing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

/// The kind of file that is made where a path is missing. The mode of both is 0755.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// Maximum number of steps on the way to a path: its names, and those of the links on it. More is a
/// loop of links.
const MAX_STEPS: usize = 1024;

/// Opens the file or folder that `path` leads to below `root`, links followed. Missing files and
/// folders are made, also behind a link: images have `/etc/resolv.conf` as a link into `/run`.
///
/// Each name is looked up below the descriptor of its folder. So neither `..` nor a link leads out
/// of the root, and the file that was checked is mounted upon even if another container changes a
/// shared volume meanwhile.
pub(super) fn make(root: &OwnedFd, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    // From the root to the current folder.
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut ahead: VecDeque<OsString> = names(path);
    for _ in 0..MAX_STEPS {
        let Some(name) = ahead.pop_front() else {
            return way.pop().ok_or_else(|| {
                io::Error::other("it leads to the root, and nothing is mounted over that")
            });
        };
        if name == ".." {
            way.pop();
            continue;
        }
        let folder = way.last().unwrap_or(root).as_fd();
        match openat(
            folder,
            &name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(found) if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink => {
                let link = PathBuf::from(OsString::from_vec(
                    readlinkat(&found, "", Vec::new())?.into_bytes(),
                ));
                if link.is_absolute() {
                    way.clear();
                }
                let mut longer = names(&link);
                longer.append(&mut ahead);
                ahead = longer;
            }
            Ok(found) => way.push(found),
            Err(Errno::NOENT) => {
                let kind = if ahead.is_empty() { kind } else { Kind::Folder };
                match make_one(folder, &name, kind) {
                    // Made now, or by another container that mounts the same: checked in the next
                    // step.
                    Ok(()) | Err(Errno::EXIST) => ahead.push_front(name),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::LOOP.into())
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn make_one(folder: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    match kind {
        Kind::Folder => mkdirat(folder, name, mode),
        Kind::File => openat(
            folder,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
            mode,
        )
        .map(drop),
    }
}
