//! Where a mount goes: a path of the container's, made where it is missing.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, lstat, mkdir, open, readlinkat};
use rustix::io::Errno;

/// What a path is made as where it is missing. The mode of both is 0755.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// Steps on the way to a path: its names, and those of the links on it. More is a loop of links.
const STEPS: usize = 1024;

/// The place that `path` leads to, links followed. What is missing is made, also where a link leads to something that is
/// missing: images have `/etc/resolv.conf` as a link into `/run`.
///
/// The root is the container's already, so that neither `..` nor a link leads out of it, whoever changes them meanwhile.
pub(super) fn make(path: &Path, kind: Kind) -> io::Result<PathBuf> {
    let mut place = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = names(path);
    for _ in 0..STEPS {
        let Some(name) = ahead.pop_front() else { return Ok(place) };
        if name == ".." {
            place.pop();
            continue;
        }
        let next = place.join(&name);
        match lstat(&next) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
                let link = PathBuf::from(OsString::from_vec(readlinkat(CWD, &next, Vec::new())?.into_bytes()));
                if link.is_absolute() {
                    place = PathBuf::from("/");
                }
                let mut longer = names(&link);
                longer.append(&mut ahead);
                ahead = longer;
            }
            Ok(_) => place = next,
            Err(Errno::NOENT) => {
                let kind = if ahead.is_empty() { kind } else { Kind::Folder };
                match make_one(&next, kind) {
                    // Made now, or by another container that mounts the same: looked at in the next step.
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

fn make_one(path: &Path, kind: Kind) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    match kind {
        Kind::Folder => mkdir(path, mode),
        Kind::File => open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, mode).map(drop),
    }
}
