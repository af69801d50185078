//! Namespaces and files that the host opens for a container's process, which sees none of the
//! node's files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::child::messages::{NamespaceFile, SourceNamespaces};
use crate::error::{Failure, Step as _};
use crate::plan::{GuestMount, Namespace, Namespaces, ProcessPlan, UserNamespace};
use crate::procfs;
use crate::wire::WireFd;

/// Returns the `CLONE_NEW*` of the namespaces that a container's first process is forked with.
///
/// Not the cgroup namespace: its root is the cgroup of the process when it is made, and on version
/// 1 the process joins its cgroup later.
pub(super) fn namespaces_to_make(namespaces: &Namespaces) -> u64 {
    let Namespaces {
        net,
        ipc,
        uts,
        cgroup: _,
    } = namespaces;
    let always = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let planned = [
        (net, libc::CLONE_NEWNET),
        (ipc, libc::CLONE_NEWIPC),
        (uts, libc::CLONE_NEWUTS),
    ];
    let new = planned
        .iter()
        .filter(|(namespace, _)| **namespace == Namespace::New)
        .map(|(_, flag)| flag);
    u64::from(new.fold(always, |flags, flag| flags | flag).unsigned_abs())
}

/// Opens the namespaces that a container's first process joins.
pub(super) fn namespaces_to_join(namespaces: &Namespaces) -> Result<Vec<NamespaceFile>, Failure> {
    let Namespaces {
        net,
        ipc,
        uts,
        cgroup,
    } = namespaces;
    let mut joined = Vec::new();
    for (what, namespace) in [
        ("network", net),
        ("ipc", ipc),
        ("uts", uts),
        ("cgroup", cgroup),
    ] {
        if let Namespace::Join(path) = namespace {
            let file = WireFd::new(self::namespace(what, path)?);
            joined.push(NamespaceFile {
                name: format!("{what} namespace {}", path.display()),
                file,
            });
        }
    }
    Ok(joined)
}

/// Opens a namespace.
pub(super) fn namespace(kind: &str, path: &Path) -> Result<OwnedFd, Failure> {
    File::open(path)
        .map(OwnedFd::from)
        .step(|| format!("open the {kind} namespace {}", path.display()))
}

/// Opens the mount namespaces between which the process `pid` moves to open the sources of its bind
/// mounts, if it has any.
pub(super) fn source_namespaces(
    mounts: &[GuestMount],
    pid: u32,
) -> Result<Option<SourceNamespaces>, Failure> {
    let mount_namespace = |process: &str| {
        namespace("mount", &Path::new("/proc").join(process).join("ns/mnt")).map(WireFd::new)
    };
    if !mounts
        .iter()
        .any(|mount| matches!(mount, GuestMount::Bind(_)))
    {
        return Ok(None);
    }
    Ok(Some(SourceNamespaces {
        node: mount_namespace("self")?,
        own: mount_namespace(&pid.to_string())?,
    }))
}

/// Opens the user namespace of a container.
pub(crate) fn users(users: &UserNamespace) -> Result<OwnedFd, Failure> {
    namespace("user", &users.path)
}

/// Duplicates its descriptor, for another process.
pub(super) fn shared(users: Option<&OwnedFd>) -> Result<Option<WireFd>, Failure> {
    users
        .map(|users| {
            users
                .try_clone()
                .map(WireFd::new)
                .step(|| "refer to the user namespace")
        })
        .transpose()
}

/// Opens the node's `/proc` for a set-up that writes there; the process closes it after that.
pub(super) fn proc_if(needed: bool) -> Result<Option<WireFd>, Failure> {
    needed
        .then(|| procfs::open().map(WireFd::new).step(|| "open /proc"))
        .transpose()
}

/// Returns whether the process takes a label of AppArmor's or SELinux's, which is written to a file
/// of `/proc`.
pub(super) fn is_labelled(process: &ProcessPlan) -> bool {
    process.apparmor.is_some() || process.selinux.is_some()
}
