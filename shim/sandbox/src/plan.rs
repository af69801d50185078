//! The plan of a guest's process: everything that its set-up does, decided from the OCI spec before
//! anything is done.
//!
//! ```text
//! Spec + KernelFeatures ── Plan::of ──► Plan ── sent to the zygote's fork ──► applied there
//!                        └───────► Refused: the spec's field, and the reason
//! ```
//!
//! | file | content |
//! |---|---|
//! | `plan/namespaces.rs` | namespaces to make and to join, the names in them, their sysctls |
//! | `plan/users.rs` | the user namespace, and owners of files |
//! | `plan/mounts.rs` | the root and the mounts below it |
//! | `plan/options.rs` | the options of a mount |
//! | `plan/proc.rs` | the `/proc` of Linux programs beside the guest |
//! | `plan/devices.rs` | the nodes and links of `/dev` |
//! | `plan/process.rs` | privileges of a process: identity, limits, labels, filters |
//! | `plan/capabilities.rs` | the capabilities that it keeps |
//! | `plan/refusals.rs` | fields that are refused if they have a value |
//! | `plan/kernel_features.rs` | features of the running kernel |
//! | `plan/row.rs`, `plan/rows.rs` | the table of every field of the spec: docs/reference/oci-spec.md |
//!
//! A field that the crate `oci-spec` does not know is lost before the spec comes here, as in every
//! runtime that reads the spec into types. The reference page mentions it.

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

/// Everything that the set-up of a container's first process does. It has no descriptors: they are
/// sent beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Namespaces to make or to join. Mount and pid namespaces are always new.
    pub namespaces: Namespaces,
    /// The pod's user namespace, joined at the end of the set-up; none: the node's users.
    pub users: Option<UserNamespace>,
    /// The host name, in a UTS namespace of the container's own.
    pub hostname: Option<String>,
    /// The NIS domain name, likewise.
    pub domainname: Option<String>,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: Vec<Sysctl>,
    /// How the root file system is mounted.
    pub root: Root,
    /// `/dev`, made before the mounts.
    pub devices: Devices,
    /// Mounts below the root, in the order in which they are made.
    pub mounts: Vec<GuestMount>,
    /// Paths in the container to hide; those that do not exist are skipped.
    pub masked: Vec<PathBuf>,
    /// Paths in the container to make read-only, with everything below them; those that do not
    /// exist are skipped.
    pub readonly: Vec<PathBuf>,
    /// The `/proc` of Linux programs that are started beside the guest; none: they have none.
    pub proc: Option<Proc>,
    /// The privileges of the process.
    pub process: ProcessPlan,
}

impl Plan {
    /// Makes the plan for `spec` on a node with these `kernel_features`; paths in it may be
    /// relative to `bundle`, its folder. Reads nothing: `filters` compiles profiles, always to the
    /// same filters.
    ///
    /// # Errors
    /// If the spec requests what a guest does not get, or what the node's kernel does not have.
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

/// The spec requests what this runtime does not do for a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refused {
    /// The field of the OCI spec, as in `linux.personality` or `mounts[3].options`.
    pub field: String,
    /// The reason, with an alternative if there is one.
    pub reason: String,
}

impl Refused {
    /// Creates a refusal of `field`.
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests;
