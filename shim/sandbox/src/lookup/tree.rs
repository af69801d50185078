//! A container's files, resolved as the kernel does in the container's mount namespace.
//!
//! A running container has that namespace, and the kernel resolves there. For one that is being
//! created no mount is made yet, so symbolic links and planned mounts are walked together here, one
//! name at a time: `O_PATH | O_NOFOLLOW` relative to the descriptor of the folder before, never by
//! a whole path. `..` is a step back on that walk and is never resolved by the kernel, so no walk
//! leaves the container's files, whatever is renamed meanwhile.
//!
//! A mount is identified by its place: the path without symbolic links. Each place in a mount
//! namespace has one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{MountSource, PlannedMount};
use crate::error::{Failure, Step as _};

/// Maximum number of symbolic links on the way to one file (path_resolution(7)).
const MAX_LINKS: usize = 40;

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A container's files.
#[derive(Debug)]
pub(super) enum MountTree {
    Planned(Planned),
    Running(OwnedFd),
}

/// The target of a path.
#[derive(Debug)]
pub(super) enum TreeEntry {
    /// An `O_PATH` descriptor.
    Opened(OwnedFd),
    /// A folder that will be made.
    EmptyFolder,
}

impl MountTree {
    /// Returns the files of a running container, by the root of its first process.
    pub(super) fn of_running(root: OwnedFd) -> Self {
        Self::Running(root)
    }

    /// Returns the files of a container that is being created. Source paths are the calling
    /// process's.
    pub(super) fn of_planned(root: OwnedFd, mounts: &[PlannedMount]) -> Result<Self, Failure> {
        let mut tree = Planned {
            root: Rc::new(Node::of(root).step(|| "read the type of the root file system")?),
            ..Planned::default()
        };
        for PlannedMount {
            destination,
            source,
        } in mounts
        {
            let (node, what) = match source {
                MountSource::Empty => (Ok(Node::Empty), "a new file system".to_owned()),
                MountSource::Bind { path, recursive } => {
                    (open_source(path, *recursive), path.display().to_string())
                }
            };
            node.and_then(|node| tree.mount(destination, node))
                .step(|| format!("mount {what} on {}", destination.display()))?;
        }
        Ok(Self::Planned(tree))
    }

    /// Opens `path` with `O_PATH`, which has no effect on the file.
    pub(super) fn open(&self, path: &Path) -> Result<TreeEntry, Errno> {
        match self {
            Self::Running(root) => loop {
                // EAGAIN: something was renamed while the kernel walked the path (openat2(2)).
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                match rustix::fs::openat2(root, path, PATH, Mode::empty(), resolve) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    result => return result.map(TreeEntry::Opened),
                }
            },
            Self::Planned(tree) => match &*tree.walk(path, |_| Err(Errno::NOENT))?.1 {
                Node::Empty => Ok(TreeEntry::EmptyFolder),
                Node::Real { fd, .. } => {
                    Ok(TreeEntry::Opened(rustix::io::fcntl_dupfd_cloexec(fd, 3)?))
                }
            },
        }
    }
}

/// Opens the source of a bind mount. If mounts below the source are not included, a clone shows
/// what they hide.
fn open_source(path: &Path, recursive: bool) -> Result<Node, Errno> {
    Node::of(if recursive {
        rustix::fs::open(path, PATH, Mode::empty())?
    } else {
        open_tree(
            CWD,
            path,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?
    })
}

/// The file at a place.
#[derive(Debug, Default)]
enum Node {
    /// An existing file.
    Real { fd: OwnedFd, kind: FileType },
    /// A folder that is empty but for mounts and folders made in it.
    #[default]
    Empty,
}

impl Node {
    fn of(fd: OwnedFd) -> Result<Self, Errno> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        Ok(Self::Real { fd, kind })
    }

    fn child(&self, name: &OsStr) -> Result<Self, Errno> {
        match self {
            Self::Empty => Err(Errno::NOENT),
            Self::Real { fd, .. } => Self::of(rustix::fs::openat(
                fd,
                name,
                PATH | OFlags::NOFOLLOW,
                Mode::empty(),
            )?),
        }
    }

    fn is_folder(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::Real {
                    kind: FileType::Directory,
                    ..
                }
        )
    }
}

/// The files of a container that is being created.
#[derive(Debug, Default)]
pub(super) struct Planned {
    root: Rc<Node>,
    /// Mounts by their place.
    mounts: BTreeMap<PathBuf, Rc<Node>>,
    /// Parent folders that the set-up makes for destinations of mounts.
    made: BTreeSet<PathBuf>,
}

impl Planned {
    /// Mounts `node` over all mounts and made folders at that place and below it.
    fn mount(&mut self, destination: &Path, node: Node) -> Result<(), Errno> {
        let mut made = Vec::new();
        let (place, _) = self.walk(destination, |missing| {
            made.push(missing.to_owned());
            Ok(Node::Empty)
        })?;
        self.made.extend(made);
        if place == Path::new("/") {
            // A process's root is below what is mounted on it later.
            return Ok(());
        }
        self.mounts
            .retain(|mounted, _| !mounted.starts_with(&place));
        self.made.retain(|made| !made.starts_with(&place));
        self.mounts.insert(place, Rc::new(node));
        Ok(())
    }

    /// Resolves `path` to a place and the file there. `missing` decides on names that do not exist.
    fn walk(
        &self,
        path: &Path,
        mut missing: impl FnMut(&Path) -> Result<Node, Errno>,
    ) -> Result<(PathBuf, Rc<Node>), Errno> {
        let mut place = PathBuf::from("/");
        // The folders from the root down to the place, without the root.
        let mut above: Vec<Rc<Node>> = Vec::new();
        let mut ahead = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            let here = above.last().unwrap_or(&self.root);
            if !here.is_folder() {
                return Err(Errno::NOTDIR);
            }
            match name.as_bytes() {
                b"." => continue,
                b".." => {
                    above.pop();
                    place.pop();
                    continue;
                }
                _ => {}
            }
            let next = place.join(&name);
            let node = if let Some(mounted) = self.mounts.get(&next) {
                Rc::clone(mounted)
            } else if self.made.contains(&next) {
                Rc::new(Node::Empty)
            } else {
                match here.child(&name) {
                    Err(Errno::NOENT) => Rc::new(missing(&next)?),
                    child => Rc::new(child?),
                }
            };
            if let Node::Real {
                fd,
                kind: FileType::Symlink,
            } = &*node
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = PathBuf::from(OsString::from_vec(
                    rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes(),
                ));
                if target.is_absolute() {
                    above.clear();
                    place = PathBuf::from("/");
                }
                let mut names = names(&target);
                names.append(&mut ahead);
                ahead = names;
                continue;
            }
            above.push(node);
            place = next;
        }
        let node = above.pop().unwrap_or_else(|| Rc::clone(&self.root));
        Ok((place, node))
    }
}

/// Splits a path into names. One that ends with a slash names a folder, and gets a final `.`.
fn names(path: &Path) -> VecDeque<OsString> {
    let bytes = path.as_os_str().as_bytes();
    let mut names: VecDeque<OsString> = bytes
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect();
    if bytes.ends_with(b"/") {
        names.push_back(".".into());
    }
    names
}
