//! Options of containerd's mounts: parsed here, without I/O.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Mount, overlay};
use crate::error::{Failure, Step as _};
use crate::plan::{AttributeChange, Owners, Reach, UserNamespace};
use crate::{detached, kernel};

/// An option, with its flag for mount(2) and its attribute for mount_setattr(2).
type MountOption = (&'static str, MountFlags, u64);

const NO_ATTRIBUTE: u64 = 0;

/// containerd's options of a root file system with files that belong to users of a user namespace.
const UIDMAP: &str = "uidmap=";
const GIDMAP: &str = "gidmap=";

/// Options that set a flag.
const ON: &[MountOption] = &[
    ("dirsync", MountFlags::DIRSYNC, NO_ATTRIBUTE),
    ("noatime", MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME),
    ("nodev", MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
    (
        "nodiratime",
        MountFlags::NODIRATIME,
        libc::MOUNT_ATTR_NODIRATIME,
    ),
    ("noexec", MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ("nosuid", MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
    ("relatime", MountFlags::RELATIME, libc::MOUNT_ATTR_RELATIME),
    ("ro", MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
    (
        "strictatime",
        MountFlags::STRICTATIME,
        libc::MOUNT_ATTR_STRICTATIME,
    ),
    ("sync", MountFlags::SYNCHRONOUS, NO_ATTRIBUTE),
];

/// Options that clear a flag.
const OFF: &[MountOption] = &[
    ("async", MountFlags::SYNCHRONOUS, NO_ATTRIBUTE),
    ("atime", MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME),
    ("defaults", MountFlags::empty(), NO_ATTRIBUTE),
    ("dev", MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
    (
        "diratime",
        MountFlags::NODIRATIME,
        libc::MOUNT_ATTR_NODIRATIME,
    ),
    ("exec", MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ("norelatime", MountFlags::RELATIME, NO_ATTRIBUTE),
    (
        "nostrictatime",
        MountFlags::STRICTATIME,
        libc::MOUNT_ATTR_STRICTATIME,
    ),
    ("rw", MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
    ("suid", MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
];

/// Flags of mount(2) that a mount has no attribute for.
const SYNCHRONOUS: MountFlags = MountFlags::SYNCHRONOUS.union(MountFlags::DIRSYNC);

/// Maximum length of a parameter's value in fsconfig(2).
const MAX_VALUE: usize = 255;

/// Flags for a destination that is given as a link in /proc.
const FOLLOW: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_SYMLINKS);

/// The modes of access times; one excludes the others.
const ACCESS_TIMES: &[&str] = &["noatime", "relatime", "strictatime", "atime"];

/// A parsed mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreparedMount {
    source: String,
    /// The path in the root; empty for the root itself.
    pub(super) target: String,
    /// The folder at which relative paths in `how` start.
    pub(super) start: Option<Start>,
    how: How,
}

/// The folder at which relative paths start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// This folder.
    Folder(PathBuf),
    /// This folder, with the owners of its files mapped to the container's users.
    Mapped(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
enum How {
    /// An existing folder.
    Bind {
        reach: Reach,
        attributes: AttributeChange,
        owners: Owners,
    },
    /// A new file system.
    New {
        fs_type: String,
        flags: MountFlags,
        data: CString,
    },
    /// An overlay with parameters that fsconfig(2) takes, so that it can be made detached.
    Overlay {
        parameters: Vec<String>,
        attributes: u64,
    },
}

impl PreparedMount {
    /// Parses `mount`.
    pub(super) fn of(mount: &Mount, users: Option<&UserNamespace>) -> Result<Self, Failure> {
        let Mount {
            fs_type,
            source,
            target,
            options,
        } = mount;
        let refuse = |cause: &str| {
            Failure::of(
                format!("mount {fs_type} {source} with {}", options.join(",")),
                cause,
            )
        };
        let mut reach = (fs_type == "bind").then_some(Reach::Single);
        let mut flags = MountFlags::empty();
        let mut attributes = AttributeChange::default();
        let mut data = Vec::new();
        let owners = owners(options, users).map_err(refuse)?;
        for option in options.iter().filter(|option| !is_mapping(option)) {
            match option.as_str() {
                "bind" => reach = reach.or(Some(Reach::Single)),
                "rbind" => reach = Some(Reach::Recursive),
                "loop" => {
                    return Err(refuse(
                        "image files with a file system (option loop) are not supported",
                    ));
                }
                "remount" => return Err(refuse("there is no mount to change")),
                word => match (find(ON, word), find(OFF, word)) {
                    (Some((_, flag, attribute)), _) => {
                        flags.insert(*flag);
                        switch_on(&mut attributes, word, *attribute);
                    }
                    (_, Some((_, flag, attribute))) => {
                        flags.remove(*flag);
                        switch_off(&mut attributes, word, *attribute);
                    }
                    (None, None) => data.push(word.to_owned()),
                },
            }
        }
        let Some(reach) = reach else {
            let (start, data) = match (fs_type.as_str(), owners) {
                ("overlay", Owners::Kept) => {
                    let (start, data) = overlay::shorten(data);
                    (start.map(Start::Folder), data)
                }
                ("overlay", Owners::Mapped) => {
                    let (start, data) = overlay::from_common_folder(&data)
                        .ok_or_else(|| refuse("its layers have no common folder to be mapped"))?;
                    (Some(Start::Mapped(start)), data)
                }
                (_, Owners::Kept) => (None, data),
                (_, Owners::Mapped) => {
                    return Err(refuse(
                        "owners of files can be mapped in an overlay or a folder only",
                    ));
                }
            };
            if fs_type == "overlay"
                && start.is_none()
                && !flags.intersects(SYNCHRONOUS)
                && data.iter().all(|word| is_a_parameter(word))
            {
                let how = How::Overlay {
                    parameters: data,
                    attributes: attributes.set,
                };
                return Ok(Self {
                    source: source.clone(),
                    target: target.clone(),
                    start,
                    how,
                });
            }
            let data = data.join(",");
            if data.len() > overlay::MAX_DATA {
                return Err(refuse(&format!(
                    "the options are longer than the {} bytes that the kernel takes",
                    overlay::MAX_DATA
                )));
            }
            let data = CString::new(data).map_err(|_| refuse("an option holds a zero byte"))?;
            let how = How::New {
                fs_type: fs_type.clone(),
                flags,
                data,
            };
            return Ok(Self {
                source: source.clone(),
                target: target.clone(),
                start,
                how,
            });
        };
        if let Some(unknown) = data.first() {
            return Err(refuse(&format!("a bind mount has no option {unknown}")));
        }
        Ok(Self {
            source: source.clone(),
            target: target.clone(),
            start: None,
            how: How::Bind {
                reach,
                attributes,
                owners,
            },
        })
    }

    /// Makes it as a detached mount, if that is possible: a folder that becomes the root, or an
    /// overlay.
    pub(super) fn make_detached(
        &self,
        users: Option<&OwnedFd>,
    ) -> Option<Result<OwnedFd, Failure>> {
        match self.how {
            How::Bind {
                reach,
                attributes,
                owners,
            } if self.target.is_empty() => Some(
                clone(&self.source, reach, attributes, mapping(owners, users))
                    .step(|| format!("mount {self}")),
            ),
            How::Overlay {
                ref parameters,
                attributes,
            } if self.target.is_empty() => {
                Some(layered(&self.source, parameters, attributes).step(|| format!("mount {self}")))
            }
            How::Bind { .. } | How::New { .. } | How::Overlay { .. } => None,
        }
    }

    /// Makes it at `place`.
    pub(super) fn make(&self, place: &Path, users: Option<&OwnedFd>) -> rustix::io::Result<()> {
        match &self.how {
            How::Bind {
                reach,
                attributes,
                owners,
            } => {
                let tree = clone(&self.source, *reach, *attributes, mapping(*owners, users))?;
                move_mount(&tree, "", CWD, place, FOLLOW)
            }
            How::Overlay {
                parameters,
                attributes,
            } => move_mount(
                layered(&self.source, parameters, *attributes)?,
                "",
                CWD,
                place,
                FOLLOW,
            ),
            How::New {
                fs_type,
                flags,
                data,
            } => rustix::mount::mount(&self.source, place, fs_type, *flags, data.as_c_str()),
        }
    }
}

impl fmt::Display for PreparedMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Bind { .. } => write!(f, "{}", self.source),
            How::Overlay { parameters, .. } => {
                write!(f, "overlay {} with {}", self.source, parameters.join(","))
            }
            How::New { fs_type, data, .. } => write!(
                f,
                "{fs_type} {} with {}",
                self.source,
                data.to_string_lossy()
            ),
        }
    }
}

/// Returns whether containerd requests that files belong to the container's users.
fn owners(options: &[String], users: Option<&UserNamespace>) -> Result<Owners, &'static str> {
    let find = |prefix: &str| {
        options
            .iter()
            .find_map(|option| option.strip_prefix(prefix))
    };
    match (find(UIDMAP), find(GIDMAP)) {
        (None, None) => Ok(Owners::Kept),
        (Some(uidmap), Some(gidmap))
            if users.is_some_and(|users| users.matches(uidmap, gidmap)) =>
        {
            Ok(Owners::Mapped)
        }
        _ => {
            Err("its files are mapped to other users than those of the container's user namespace")
        }
    }
}

fn is_mapping(option: &str) -> bool {
    [UIDMAP, GIDMAP]
        .iter()
        .any(|prefix| option.starts_with(prefix))
}

fn mapping(owners: Owners, users: Option<&OwnedFd>) -> Option<&OwnedFd> {
    users.filter(|_| owners == Owners::Mapped)
}

fn clone(
    source: &str,
    reach: Reach,
    attributes: AttributeChange,
    users: Option<&OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let recursive = match reach {
        Reach::Single => OpenTreeFlags::empty(),
        Reach::Recursive => OpenTreeFlags::AT_RECURSIVE,
    };
    let tree = open_tree(
        CWD,
        source,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive,
    )?;
    kernel::set_mount_attributes(&tree, attributes, Reach::Single)
        .and_then(|()| users.map_or(Ok(()), |users| kernel::map_owners(&tree, users.as_fd())))
        .map_err(|error| {
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL)
        })?;
    Ok(tree)
}

/// Returns whether fsconfig(2) takes this option of an overlay as mount(2) does, which has an
/// escape for a comma in a path.
fn is_a_parameter(word: &str) -> bool {
    let value = word.split_once('=').map_or("", |(_, value)| value);
    value.len() <= MAX_VALUE && !word.contains(['\\', ',', '\0'])
}

/// Makes a detached overlay. An attached one needs a private mount namespace, a copy of the node's
/// with all its mounts, and the end of that waits for every processor.
fn layered(source: &str, parameters: &[String], attributes: u64) -> rustix::io::Result<OwnedFd> {
    let words = parameters.iter().map(|word| {
        word.split_once('=')
            .map_or((word.as_str(), None), |(key, value)| (key, Some(value)))
    });
    let read_only = (attributes & libc::MOUNT_ATTR_RDONLY != 0).then_some(("ro", None));
    detached::make(
        "overlay",
        [("source", Some(source))]
            .into_iter()
            .chain(words)
            .chain(read_only),
        attributes,
    )
}

fn find<'a>(words: &'a [MountOption], word: &str) -> Option<&'a MountOption> {
    words.iter().find(|(known, _, _)| *known == word)
}

fn switch_on(attributes: &mut AttributeChange, word: &str, attribute: u64) {
    if ACCESS_TIMES.contains(&word) {
        attributes.set &= !libc::MOUNT_ATTR__ATIME;
        attributes.clear |= libc::MOUNT_ATTR__ATIME;
    }
    attributes.set |= attribute;
    if attribute & libc::MOUNT_ATTR__ATIME == 0 {
        attributes.clear &= !attribute;
    }
}

fn switch_off(attributes: &mut AttributeChange, word: &str, attribute: u64) {
    attributes.set &= !attribute;
    attributes.clear |= if ACCESS_TIMES.contains(&word) || attribute == libc::MOUNT_ATTR_STRICTATIME
    {
        libc::MOUNT_ATTR__ATIME
    } else {
        attribute
    };
}

#[cfg(test)]
mod tests;
