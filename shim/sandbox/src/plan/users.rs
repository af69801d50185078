//! User namespaces, and owners of files in them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Kind, Mount};
use serde::{Deserialize, Serialize};

use super::devices::Device;
use super::{GuestMount, Refused, TmpfsOption};

/// The user namespace of a pod, with its id mappings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// The node's file that refers to it. The host opens it.
    pub path: PathBuf,
    /// The mapping of users.
    pub uids: Vec<IdRange>,
    /// The mapping of groups.
    pub gids: Vec<IdRange>,
}

/// A range of ids, consecutive on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id in the namespace.
    pub inside: u32,
    /// The first id on the node.
    pub outside: u32,
    /// The number of ids.
    pub size: u32,
}

/// Selects the mapping of users or of groups.
type Ids = fn(&UserNamespace) -> &[IdRange];

impl UserNamespace {
    /// Decides from `linux.namespaces` and its mappings; none: the node's users.
    ///
    /// # Errors
    /// If the namespace would have to be made: it is the pod's, and exists before its containers.
    /// If its mappings are missing, or do not include root, which owns what is made for the
    /// container.
    pub fn of(linux: Option<&Linux>) -> Result<Option<Self>, Refused> {
        let Some(linux) = linux else { return Ok(None) };
        let uids = ranges(linux.uid_mappings().as_deref());
        let gids = ranges(linux.gid_mappings().as_deref());
        let listed = linux
            .namespaces()
            .iter()
            .flatten()
            .enumerate()
            .find(|(_, namespace)| namespace.typ() == Kind::User);
        let mapped = [("linux.uidMappings", &uids), ("linux.gidMappings", &gids)];
        let Some((index, namespace)) = listed else {
            let used = mapped.iter().find(|(_, ranges)| !ranges.is_empty());
            return used.map_or(Ok(None), |(field, _)| {
                Err(Refused::new(
                    *field,
                    "there is no user namespace to which they belong",
                ))
            });
        };
        let Some(path) = namespace.path().as_ref().filter(|path| path.is_absolute()) else {
            return Err(Refused::new(
                format!("linux.namespaces[{index}]"),
                "a user namespace is joined, by an absolute path, and never made: containerd makes \
                 one for a pod with `hostUsers: false`, unless it is on the node's network",
            ));
        };
        for (field, ranges) in mapped {
            if outside(ranges, 0).is_none() {
                return Err(Refused::new(
                    field,
                    "they must map root of the user namespace to the node",
                ));
            }
        }
        Ok(Some(Self {
            path: path.clone(),
            uids,
            gids,
        }))
    }

    /// Returns the user and group id of the namespace's root on the node.
    pub fn root(&self) -> (u32, u32) {
        let root = |ranges| outside(ranges, 0).expect("the constructor checks it");
        (root(&self.uids), root(&self.gids))
    }

    /// Returns whether `uidmap` and `gidmap`, containerd's options of a root file system, are the
    /// mappings of this namespace.
    pub(crate) fn matches(&self, uidmap: &str, gidmap: &str) -> bool {
        let option = |ranges: &[IdRange]| {
            let part =
                |range: &IdRange| format!("{}:{}:{}", range.inside, range.outside, range.size);
            ranges.iter().map(part).collect::<Vec<_>>().join(",")
        };
        uidmap == option(&self.uids) && gidmap == option(&self.gids)
    }

    /// Maps the owners of device nodes to the node's ids.
    pub(super) fn own_devices(&self, nodes: &mut [Device]) -> Result<(), Refused> {
        for node in nodes {
            let refuse = |what: &str, id: u32| {
                Refused::new(
                    "linux.devices[]",
                    format!(
                        "/dev/{}: the pod's user namespace has no {what} {id}",
                        node.path.display()
                    ),
                )
            };
            node.uid = outside(&self.uids, node.uid).ok_or_else(|| refuse("user", node.uid))?;
            node.gid = outside(&self.gids, node.gid).ok_or_else(|| refuse("group", node.gid))?;
        }
        Ok(())
    }

    /// Maps the owner of a new file system to the node's ids.
    pub(super) fn own_files(&self, at: &Path, options: &mut [TmpfsOption]) -> Result<(), Refused> {
        let kinds: [(&str, Ids); 2] = [("uid", |users| &users.uids), ("gid", |users| &users.gids)];
        for TmpfsOption { key, value } in options {
            let Some((_, ids)) = kinds.iter().find(|(kind, _)| kind == key) else {
                continue;
            };
            let id = value.as_deref().unwrap_or_default();
            let found = id.parse().ok().and_then(|id| outside(ids(self), id));
            let refuse = || {
                Refused::new(
                    "mounts[].options",
                    format!(
                        "{}: the pod's user namespace has no {key} {id}",
                        at.display()
                    ),
                )
            };
            *value = Some(found.ok_or_else(refuse)?.to_string());
        }
        Ok(())
    }

    /// Maps the owners of all new file systems among the mounts.
    pub(super) fn own_mounts(&self, mounts: &mut [GuestMount]) -> Result<(), Refused> {
        for mount in mounts {
            if let GuestMount::Tmpfs(tmpfs) = mount {
                self.own_files(&tmpfs.destination, &mut tmpfs.options)?;
            }
        }
        Ok(())
    }
}

/// The owners of a bind mount's files in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// The owners on the node.
    Kept,
    /// The owners with the same ids in the container's user namespace. For the mount alone, not for
    /// mounts below it.
    Mapped,
}

impl Owners {
    /// Decides from a mount's own mappings: none, or those of the container's user namespace.
    pub(super) fn of(
        mount: &Mount,
        users: Option<&UserNamespace>,
    ) -> Result<Self, (&'static str, &'static str)> {
        let (uids, gids) = (
            ranges(mount.uid_mappings().as_deref()),
            ranges(mount.gid_mappings().as_deref()),
        );
        if uids.is_empty() && gids.is_empty() {
            return Ok(Self::Kept);
        }
        let field = |wrong: bool| if wrong { "uidMappings" } else { "gidMappings" };
        let Some(users) = users else {
            return Err((
                field(!uids.is_empty()),
                "the container has no user namespace to which they belong",
            ));
        };
        if (&uids, &gids) == (&users.uids, &users.gids) {
            return Ok(Self::Mapped);
        }
        Err((
            field(uids != users.uids),
            "they must equal those of the container's user namespace, or be left out",
        ))
    }
}

fn ranges(mappings: Option<&[LinuxIdMapping]>) -> Vec<IdRange> {
    let range = |mapping: &LinuxIdMapping| IdRange {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        size: mapping.size(),
    };
    mappings.unwrap_or_default().iter().map(range).collect()
}

/// Returns the node's id for the id `inside` the namespace.
fn outside(ranges: &[IdRange], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let from_first = inside
            .checked_sub(range.inside)
            .filter(|from_first| *from_first < range.size)?;
        range.outside.checked_add(from_first)
    })
}
