//! Privileges of a process of a container: its first one, or an exec.

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxSeccomp, PosixRlimit, PosixRlimitType, Process};
use serde::{Deserialize, Serialize};

use super::{CapabilitySets, KernelFeatures, Refused, Support};
use crate::seccomp::{self, FilterCache};

/// The umask if the spec has none (as runc).
const DEFAULT_UMASK: u32 = 0o022;

/// The kind of program that runs in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// A guest in our engine: it gets the privileges that it can use.
    Guest,
    /// A Linux program of the container's root (`exec` only): it gets the spec's privileges.
    Native,
}

/// The privileges of a process. Applied in the order of the fields, after the mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// -1000 to 1000, for `/proc/self/oom_score_adj`; none: as inherited.
    pub oom_score_adj: Option<i32>,
    /// Limits, each resource once.
    pub rlimits: Vec<Rlimit>,
    /// The AppArmor profile, entered at once (`changeprofile` to
    /// `/proc/thread-self/attr/apparmor/current`).
    pub apparmor: Option<String>,
    /// The SELinux label, entered at once (`/proc/thread-self/attr/current`); the node's policy
    /// must allow that transition.
    pub selinux: Option<String>,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The permission bits that new files do not get.
    pub umask: u32,
    /// The capabilities that it keeps.
    pub capabilities: CapabilitySets,
    /// Whether set-user-id files and the like can add privileges.
    pub no_new_privileges: NoNewPrivileges,
    /// System call filters, installed last, in this order. The first allows the installation of the
    /// next.
    pub filters: Vec<seccomp::SeccompFilter>,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The resource.
    pub resource: Resource,
    /// The current limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The maximum to which the process can raise it.
    pub hard: u64,
}

/// The resources of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of RLIMIT_*, in getrlimit(2)"
)]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

impl Resource {
    /// Returns rustix's name of the resource.
    pub fn kernel(self) -> rustix::process::Resource {
        use rustix::process::Resource as Kernel;
        match self {
            Self::Cpu => Kernel::Cpu,
            Self::Fsize => Kernel::Fsize,
            Self::Data => Kernel::Data,
            Self::Stack => Kernel::Stack,
            Self::Core => Kernel::Core,
            Self::Rss => Kernel::Rss,
            Self::Nproc => Kernel::Nproc,
            Self::Nofile => Kernel::Nofile,
            Self::Memlock => Kernel::Memlock,
            Self::As => Kernel::As,
            Self::Locks => Kernel::Locks,
            Self::Sigpending => Kernel::Sigpending,
            Self::Msgqueue => Kernel::Msgqueue,
            Self::Nice => Kernel::Nice,
            Self::Rtprio => Kernel::Rtprio,
            Self::Rttime => Kernel::Rttime,
        }
    }
}

/// `PR_SET_NO_NEW_PRIVS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoNewPrivileges {
    /// Set: no program that the process executes has more privileges than the process.
    Set,
    /// Left as it is.
    Unset,
}

impl ProcessPlan {
    /// Returns the privileges of a process that only waits.
    pub(crate) fn without_privileges() -> Self {
        Self {
            oom_score_adj: None,
            rlimits: Vec::new(),
            apparmor: None,
            selinux: None,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            umask: DEFAULT_UMASK,
            capabilities: CapabilitySets::default(),
            no_new_privileges: NoNewPrivileges::Set,
            filters: Vec::new(),
        }
    }

    /// Decides from the spec's `process` (of a container, or of an `exec` in it) and its
    /// container's `linux.seccomp`.
    ///
    /// # Errors
    /// If they request what is not supported, or what the node's kernel does not have.
    pub fn of(
        process: &Process,
        seccomp: Option<&LinuxSeccomp>,
        runs: WorkloadKind,
        kernel_features: KernelFeatures,
        filters: &FilterCache,
    ) -> Result<Self, Refused> {
        super::refusals::of_process(process)?;
        let user = process.user();
        Ok(Self {
            oom_score_adj: oom_score_adj(process)?,
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            apparmor: apparmor(process, kernel_features)?,
            selinux: selinux(
                "process.selinuxLabel",
                process.selinux_label().as_deref(),
                kernel_features,
            )?,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(DEFAULT_UMASK),
            capabilities: CapabilitySets::of(process.capabilities().as_ref(), user.uid(), runs),
            no_new_privileges: match (runs, process.no_new_privileges()) {
                (WorkloadKind::Guest, _) | (WorkloadKind::Native, Some(true)) => {
                    NoNewPrivileges::Set
                }
                (WorkloadKind::Native, _) => NoNewPrivileges::Unset,
            },
            filters: seccomp_filters(seccomp, runs, kernel_features, filters)?,
        })
    }
}

fn oom_score_adj(process: &Process) -> Result<Option<i32>, Refused> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => Err(Refused::new(
            "process.oomScoreAdj",
            format!("{score} is not between -1000 and 1000"),
        )),
        score => Ok(score),
    }
}

fn rlimits(limits: &[PosixRlimit]) -> Result<Vec<Rlimit>, Refused> {
    let mut seen = BTreeSet::new();
    let limit = |(index, limit): (usize, &PosixRlimit)| {
        let refuse = |reason: String| Refused::new(format!("process.rlimits[{index}]"), reason);
        let resource = Resource::of(limit.typ());
        if !seen.insert(resource) {
            return Err(refuse(format!("a second limit of {}", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(refuse(format!(
                "soft limit {} is above hard limit {}",
                limit.soft(),
                limit.hard()
            )));
        }
        Ok(Rlimit {
            resource,
            soft: limit.soft(),
            hard: limit.hard(),
        })
    };
    limits.iter().enumerate().map(limit).collect()
}

fn apparmor(process: &Process, kernel_features: KernelFeatures) -> Result<Option<String>, Refused> {
    match process.apparmor_profile().as_deref() {
        None | Some("" | "unconfined") => Ok(None),
        Some(profile) if kernel_features.apparmor == Support::Present => {
            Ok(Some(profile.to_owned()))
        }
        Some(profile) => Err(Refused::new(
            "process.apparmorProfile",
            format!("{profile}: this node's kernel has no AppArmor, or has it off"),
        )),
    }
}

/// Returns the label that `field` requests.
pub(super) fn selinux(
    field: &str,
    label: Option<&str>,
    kernel_features: KernelFeatures,
) -> Result<Option<String>, Refused> {
    match label {
        None | Some("") => Ok(None),
        Some(label) if kernel_features.selinux == Support::Present => Ok(Some(label.to_owned())),
        Some(label) => Err(Refused::new(
            field,
            format!("{label}: this node's kernel has no SELinux, or has it off"),
        )),
    }
}

fn seccomp_filters(
    profile: Option<&LinuxSeccomp>,
    runs: WorkloadKind,
    kernel_features: KernelFeatures,
    filters: &FilterCache,
) -> Result<Vec<seccomp::SeccompFilter>, Refused> {
    let ours = match (runs, kernel_features.seccomp) {
        (WorkloadKind::Guest, Support::Present) => Some(filters.engine()),
        // Without filters the other confinement still applies. A profile in the spec is refused
        // below.
        (WorkloadKind::Guest, Support::Absent) | (WorkloadKind::Native, _) => None,
    };
    let refuse = |reason: String| Refused::new("linux.seccomp", reason);
    let theirs = match profile {
        None => None,
        Some(_) if kernel_features.seccomp == Support::Absent => {
            return Err(refuse(
                "this node's kernel has no seccomp filters".to_owned(),
            ));
        }
        Some(profile) => Some(
            filters
                .profile(profile, runs)
                .map_err(|error| refuse(failures::chain(&error)))?,
        ),
    };
    Ok(ours.into_iter().chain(theirs).collect())
}

impl Resource {
    fn of(resource: PosixRlimitType) -> Self {
        match resource {
            PosixRlimitType::RlimitCpu => Self::Cpu,
            PosixRlimitType::RlimitFsize => Self::Fsize,
            PosixRlimitType::RlimitData => Self::Data,
            PosixRlimitType::RlimitStack => Self::Stack,
            PosixRlimitType::RlimitCore => Self::Core,
            PosixRlimitType::RlimitRss => Self::Rss,
            PosixRlimitType::RlimitNproc => Self::Nproc,
            PosixRlimitType::RlimitNofile => Self::Nofile,
            PosixRlimitType::RlimitMemlock => Self::Memlock,
            PosixRlimitType::RlimitAs => Self::As,
            PosixRlimitType::RlimitLocks => Self::Locks,
            PosixRlimitType::RlimitSigpending => Self::Sigpending,
            PosixRlimitType::RlimitMsgqueue => Self::Msgqueue,
            PosixRlimitType::RlimitNice => Self::Nice,
            PosixRlimitType::RlimitRtprio => Self::Rtprio,
            PosixRlimitType::RlimitRttime => Self::Rttime,
        }
    }
}
