//! The mounted cgroup hierarchies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::CgroupError;
use crate::files;

#[cfg(test)]
mod tests;

const MOUNTS: &str = "/proc/self/mountinfo";
/// The usual root of cgroup mounts; other mounts are private to some program.
const USUAL_ROOT: &str = "/sys/fs/cgroup";

/// The kernel interface through which containers are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The mounted cgroup hierarchies. Cloning costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies(Arc<Tree>);

/// The mounts by version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    V1(Vec<Hierarchy>),
    V2(PathBuf),
}

/// One hierarchy of cgroup v1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// The controllers bound to it, or `name=…` if it has none.
    pub(crate) controllers: Vec<String>,
    /// The mount point.
    pub(crate) mount: PathBuf,
}

impl Hierarchies {
    /// Finds the mounted hierarchies. Mounts do not change in a node host's lifetime, so one call
    /// is enough.
    pub fn find() -> Result<Self, CgroupError> {
        let tree = tree(&files::read(Path::new(MOUNTS))?).ok_or(CgroupError::NotMounted)?;
        Ok(Self(Arc::new(tree)))
    }

    /// Returns the hierarchies below `root`: cgroup v2 if it holds `cgroup.controllers`; otherwise
    /// each folder is a hierarchy of cgroup v1 that is named after its controllers (`cpu,cpuacct`),
    /// and `systemd` is the one without controllers.
    pub fn at(root: &Path) -> Result<Self, CgroupError> {
        if root.join("cgroup.controllers").exists() {
            return Ok(Self(Arc::new(Tree::V2(root.to_owned()))));
        }
        let mut hierarchies = Vec::new();
        for entry in root.read_dir().map_err(CgroupError::io("read", root))? {
            let entry = entry.map_err(CgroupError::io("read", root))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let controllers = match name.as_str() {
                "systemd" => vec![SYSTEMD.to_owned()],
                joined => joined.split(',').map(str::to_owned).collect(),
            };
            hierarchies.push(Hierarchy {
                controllers,
                mount: entry.path(),
            });
        }
        hierarchies.sort_by(|one, other| one.mount.cmp(&other.mount));
        if hierarchies.is_empty() {
            Err(CgroupError::NotMounted)
        } else {
            Ok(Self(Arc::new(Tree::V1(hierarchies))))
        }
    }

    /// Returns the kernel interface through which containers are limited.
    pub fn version(&self) -> Version {
        match *self.0 {
            Tree::V1(_) => Version::V1,
            Tree::V2(_) => Version::V2,
        }
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.0
    }

    /// Returns the mount points of all hierarchies.
    pub(crate) fn mounts(&self) -> Vec<&Path> {
        match self.tree() {
            Tree::V1(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.mount.as_path())
                .collect(),
            Tree::V2(root) => vec![root],
        }
    }

    /// Returns the mount point of `controller`. On cgroup v2 it is the same for all, enabled or
    /// not.
    pub(crate) fn mount_of(&self, controller: &str) -> Option<&Path> {
        match self.tree() {
            Tree::V1(hierarchies) => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.has(controller))
                .map(|found| found.mount.as_path()),
            Tree::V2(root) => Some(root),
        }
    }
}

/// The hierarchy in which systemd keeps its units on cgroup v1.
pub(crate) const SYSTEMD: &str = "name=systemd";

impl Hierarchy {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }
}

/// Finds the hierarchies in the lines of mountinfo (proc_pid_mountinfo(5)). With controllers
/// mounted as v1 the version is v1, even when a v2 tree without controllers is mounted beside them
/// ("hybrid").
fn tree(mounts: &str) -> Option<Tree> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2: Option<PathBuf> = None;
    for (kind, mount, options) in mounts.lines().filter_map(mount) {
        let usual = mount.starts_with(USUAL_ROOT);
        match kind {
            "cgroup2" if v2.is_none() || mount == Path::new(USUAL_ROOT) => v2 = Some(mount),
            "cgroup" => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|option| is_controller(option))
                    .map(str::to_owned)
                    .collect();
                match v1.iter_mut().find(|known| known.controllers == controllers) {
                    Some(known) if usual && !known.mount.starts_with(USUAL_ROOT) => {
                        known.mount = mount;
                    }
                    Some(_) => {}
                    None => v1.push(Hierarchy { controllers, mount }),
                }
            }
            _ => {}
        }
    }
    let controlled = v1.iter().any(|hierarchy| {
        hierarchy
            .controllers
            .iter()
            .any(|name| !name.starts_with("name="))
    });
    if controlled {
        Some(Tree::V1(v1))
    } else {
        v2.map(Tree::V2)
    }
}

/// Returns type, mount point and super options of a line of mountinfo.
fn mount(line: &str) -> Option<(&str, PathBuf, &str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some((
        after.next()?,
        unescape(before.split(' ').nth(4)?),
        after.nth(1)?,
    ))
}

/// Decodes the octal escapes of blanks and the like.
fn unescape(text: &str) -> PathBuf {
    let replaced = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    PathBuf::from(
        replaced
            .iter()
            .fold(text.to_owned(), |text, (code, meant)| {
                text.replace(code, meant)
            }),
    )
}

/// Returns whether a super option names a controller and is not a mount option (cgroups(7),
/// "Mounting v1 controllers").
fn is_controller(option: &str) -> bool {
    let ordinary = [
        "rw",
        "ro",
        "none",
        "noprefix",
        "clone_children",
        "xattr",
        "cpuset_v2_mode",
        "all",
        "seclabel",
    ];
    !ordinary.contains(&option) && !option.starts_with("release_agent=")
}
