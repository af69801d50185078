//! What the set-up of a guest's process does: decided once, from the OCI spec, before anything is
//! done.
//!
//! ```text
//! Spec + KernelFeatures ── Plan::of ──► Plan ── crosses into the zygote's fork ──► carried out there, step by step
//!                        └───────► Refused: the spec's field, and why
//! ```
//!
//! | file | what |
//! |---|---|
//! | `plan/namespaces.rs` | which namespaces are made and which are joined, the names in them, their sysctls |
//! | `plan/users.rs` | the user namespace that its users are of |
//! | `plan/mounts.rs` | the root and what is mounted below it |
//! | `plan/options.rs` | the words of a mount's options |
//! | `plan/proc.rs` | what Linux programs beside the guest see of processes |
//! | `plan/devices.rs` | the nodes and links of `/dev` |
//! | `plan/process.rs` | what a process of the container is allowed: identity, limits, labels, filters |
//! | `plan/capabilities.rs` | which of root's powers it keeps |
//! | `plan/refusals.rs` | fields that are refused as soon as they say anything |
//! | `plan/kernel_features.rs` | what the host's kernel can do |
//! | `plan/row.rs`, `plan/rows.rs` | the table of every field of the spec: docs/reference/oci-spec.md |
//!
//! What it cannot see: a field that the crate `oci-spec` does not know is gone before the spec
//! comes here, as it is in every runtime that reads the spec into types. The reference page says
//! so.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::seccomp::FilterCache;

mod capabilities;
mod devices;
mod kernel_features;
mod mounts;
mod namespaces;
mod options;
mod proc;
mod process;
mod refusals;
mod row;
mod rows;
mod users;

pub use capabilities::CapabilitySets;
pub use devices::{Device, DeviceKind, Devices};
pub use kernel_features::{KernelFeatures, Support};
pub use mounts::{
    AttributeChange, Attributes, Bind, GuestMount, Propagation, PropagationKind, Reach, Root,
    Tmpfs, TmpfsOption,
};
pub use namespaces::{Namespace, Namespaces, Sysctl};
pub(crate) use proc::PROC;
pub use proc::Proc;
pub use process::{NoNewPrivileges, ProcessPlan, Resource, Rlimit, WorkloadKind};
pub use row::{Handling, SpecField};
pub use rows::ROWS;
pub use users::{IdRange, Owners, UserNamespace};

/// Everything that the set-up of a container's first process does. No descriptors: they travel
/// beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Namespaces to make or to join. Those of mounts and of processes are always new.
    pub namespaces: Namespaces,
    /// The pod's user namespace, joined when the set-up is done; none: the node's users.
    pub users: Option<UserNamespace>,
    /// The host's name to set, in a UTS namespace of the container's own.
    pub hostname: Option<String>,
    /// The NIS domain's name to set, likewise.
    pub domainname: Option<String>,
    /// Kernel parameters to write, of namespaces of the container's own.
    pub sysctls: Vec<Sysctl>,
    /// How the root file system is mounted.
    pub root: Root,
    /// `/dev`, made before the mounts.
    pub devices: Devices,
    /// Mounts below the root, in the order in which they are made.
    pub mounts: Vec<GuestMount>,
    /// Paths in the container of which nothing is to be seen; those that do not exist there are
    /// skipped.
    pub masked: Vec<PathBuf>,
    /// Paths in the container that are made read-only, with all below them; those that do not exist
    /// there are skipped.
    pub readonly: Vec<PathBuf>,
    /// What Linux programs that are started beside the guest see of processes; none: nothing.
    pub proc: Option<Proc>,
    /// What the process itself is allowed.
    pub process: ProcessPlan,
}

impl Plan {
    /// Decides what `spec` comes to on a host with these `kernel_features`; paths in it may be relative to
    /// `bundle`, the folder that it lies in. Reads nothing: `filters` makes programs from profiles,
    /// always the same from the same.
    ///
    /// # Errors
    /// When the spec asks for what a guest does not get, or for what the host does not have.
    pub fn of(
        spec: &Spec,
        bundle: &Path,
        kernel_features: KernelFeatures,
        filters: &FilterCache,
    ) -> Result<Self, Refused> {
        refusals::of_spec(spec)?;
        let linux = spec.linux().as_ref();
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| Refused::new("process", "a container without one cannot start"))?;
        let namespaces = Namespaces::of(linux)?;
        let users = UserNamespace::of(linux)?;
        let mut mounts = mounts::Mounts::of(spec, bundle, users.as_ref(), kernel_features)?;
        let devices = linux
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default();
        let mut devices = Devices::of(devices, std::mem::take(&mut mounts.dev))?;
        if let Some(users) = &users {
            users.own_devices(&mut devices.nodes)?;
            users.own_files(Path::new("/dev"), &mut devices.options)?;
            users.own_mounts(&mut mounts.made)?;
        }
        let within = |paths: Option<&Vec<String>>| {
            paths
                .into_iter()
                .flatten()
                .map(|path| mounts::within(Path::new(path)))
                .collect()
        };
        let masked: Vec<PathBuf> = within(linux.and_then(|linux| linux.masked_paths().as_ref()));
        let readonly: Vec<PathBuf> =
            within(linux.and_then(|linux| linux.readonly_paths().as_ref()));
        Ok(Self {
            hostname: namespaces::name("hostname", spec.hostname().as_deref(), &namespaces.uts)?,
            domainname: namespaces::name(
                "domainname",
                spec.domainname().as_deref(),
                &namespaces.uts,
            )?,
            sysctls: Sysctl::all(spec, &namespaces)?,
            namespaces,
            users,
            root: Root::of(spec)?,
            devices,
            mounts: mounts.made,
            proc: Proc::of(spec, &masked, &readonly),
            masked,
            readonly,
            process: ProcessPlan::of(
                process,
                linux.and_then(|linux| linux.seccomp().as_ref()),
                WorkloadKind::Guest,
                kernel_features,
                filters,
            )?,
        })
    }
}

/// The spec asks for what this runtime does not do for a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refused {
    /// The field of the OCI spec, as in `linux.personality` or `mounts[3].options`.
    pub field: String,
    /// Why, and what to do instead where that is known.
    pub reason: String,
}

impl Refused {
    /// A refusal of `field`.
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests;
