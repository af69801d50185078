//! Whose users a container has: the node's, or those of a user namespace.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Kind, Mount};
use serde::{Deserialize, Serialize};

use super::devices::Device;
use super::{GuestMount, Refused, TmpfsOption};

/// A user namespace, which is the pod's: what its users are called outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// The file of the host's that refers to it. The host opens it.
    pub path: PathBuf,
    /// UserNamespace.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

/// Numbers that follow each other on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first one, in the namespace.
    pub inside: u32,
    /// What that one is on the node.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// UserNamespace or groups: what a number is looked up in.
type Ids = fn(&UserNamespace) -> &[IdRange];

impl UserNamespace {
    /// What `linux.namespaces` and the mappings beside it say; none: the node's users.
    ///
    /// # Errors
    /// When the namespace would have to be made: it is the pod's, and exists before its containers.
    /// When its mappings are missing, or root is not among them: somebody must own what is made for
    /// the container.
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
            let said = mapped.iter().find(|(_, ranges)| !ranges.is_empty());
            return said.map_or(Ok(None), |(field, _)| {
                Err(Refused::new(
                    *field,
                    "there is no user namespace that they could be of",
                ))
            });
        };
        let Some(path) = namespace.path().as_ref().filter(|path| path.is_absolute()) else {
            return Err(Refused::new(
                format!("linux.namespaces[{index}]"),
                "a user namespace is joined, by an absolute path, and never made: containerd makes \
                 one for a pod with `hostUsers: false`, \
                 unless it is on the node's network",
            ));
        };
        for (field, ranges) in mapped {
            if outside(ranges, 0).is_none() {
                return Err(Refused::new(
                    field,
                    "they must say who root of the user namespace is on the node",
                ));
            }
        }
        Ok(Some(Self {
            path: path.clone(),
            uids,
            gids,
        }))
    }

    /// Who root of the namespace is on the node: user and group.
    pub fn root(&self) -> (u32, u32) {
        let root = |ranges| outside(ranges, 0).expect("it is checked when this is made");
        (root(&self.uids), root(&self.gids))
    }

    /// Whether `uidmap` and `gidmap`, options of containerd's for a root file system, are of this
    /// namespace.
    pub(crate) fn are_said_by(&self, uidmap: &str, gidmap: &str) -> bool {
        let words = |ranges: &[IdRange]| {
            let word =
                |range: &IdRange| format!("{}:{}:{}", range.inside, range.outside, range.size);
            ranges.iter().map(word).collect::<Vec<_>>().join(",")
        };
        uidmap == words(&self.uids) && gidmap == words(&self.gids)
    }

    /// Gives device nodes the owners that they have outside.
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

    /// Gives a file system in memory the owners that it has outside.
    pub(super) fn own_files(&self, at: &Path, options: &mut [TmpfsOption]) -> Result<(), Refused> {
        let kinds: [(&str, Ids); 2] = [("uid", |users| &users.uids), ("gid", |users| &users.gids)];
        for TmpfsOption { key, value } in options {
            let Some((_, ids)) = kinds.iter().find(|(kind, _)| kind == key) else {
                continue;
            };
            let said = value.as_deref().unwrap_or_default();
            let found = said.parse().ok().and_then(|id| outside(ids(self), id));
            let refuse = || {
                Refused::new(
                    "mounts[].options",
                    format!(
                        "{}: the pod's user namespace has no {key} {said}",
                        at.display()
                    ),
                )
            };
            *value = Some(found.ok_or_else(refuse)?.to_string());
        }
        Ok(())
    }

    /// As [`UserNamespace::own_files`], of what is mounted.
    pub(super) fn own_mounts(&self, mounts: &mut [GuestMount]) -> Result<(), Refused> {
        for mount in mounts {
            if let GuestMount::Tmpfs(tmpfs) = mount {
                self.own_files(&tmpfs.destination, &mut tmpfs.options)?;
            }
        }
        Ok(())
    }
}

/// Whose the files of a bind mount are in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// Who they belong to on the node.
    Kept,
    /// Whoever has the same number in the container's user namespace. Of the mount alone, not of
    /// what is mounted below it.
    Mapped,
}

impl Owners {
    /// What a mount's own mappings say: none, or those of the container's user namespace.
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
                "the container has no user namespace whose they could be",
            ));
        };
        if (&uids, &gids) == (&users.uids, &users.gids) {
            return Ok(Self::Mapped);
        }
        Err((
            field(uids != users.uids),
            "files are mapped as the container's user namespace is, or not at all",
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

/// What `inside` is on the node.
fn outside(ranges: &[IdRange], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let from_first = inside
            .checked_sub(range.inside)
            .filter(|from_first| *from_first < range.size)?;
        range.outside.checked_add(from_first)
    })
}
