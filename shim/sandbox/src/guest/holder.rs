//! A process that only holds a pod's namespaces.

use std::path::PathBuf;
use std::time::Duration;

use container_cgroup::JoinMethod;
use process_forker::Zygote;

use super::{Guest, NewProcess, sources};
use crate::child;
use crate::child::messages::HolderSetup;
use crate::error::SandboxError;
use crate::plan::{Namespaces, Sysctl};
use crate::wire::WireFd;

/// The process makes some namespaces, and runs nothing of the pod's.
const HOLDER_TIMEOUT: Duration = Duration::from_mins(1);

/// The namespaces of a pod.
#[derive(Debug)]
pub struct NewHolder {
    /// The pod's id, for messages and as the name of the process.
    pub name: String,
    /// The user namespace, which exists.
    pub users: PathBuf,
    /// The others. Those that are new belong to the user namespace.
    pub namespaces: Namespaces,
    /// The host's name to set, in a UTS namespace that is new.
    pub hostname: Option<String>,
    /// The NIS domain's name to set, likewise.
    pub domainname: Option<String>,
    /// Kernel parameters of the namespaces.
    pub sysctls: Vec<Sysctl>,
    /// -1000 to 1000, for `/proc/self/oom_score_adj`; none: as inherited.
    pub oom_score_adj: Option<i32>,
    /// How the process comes into its cgroup.
    pub join_method: JoinMethod,
}

/// Forks a process that has the namespaces when it is started, and does nothing then. `join` is as
/// in [`fork`](super::fork).
///
/// # Errors
/// When a step fails or the zygote is lost: then nothing of the process is left.
pub fn hold(
    zygote: &Zygote,
    new: NewHolder,
    join: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Guest, SandboxError> {
    let NewHolder {
        name,
        users,
        namespaces,
        hostname,
        domainname,
        sysctls,
        oom_score_adj,
        join_method,
    } = new;
    let new_process = NewProcess {
        name: name.clone(),
        entry: child::holder,
        namespaces: 0,
        join_method,
        oom_score_adj,
    };
    let host = SandboxError::Host;
    let request = HolderSetup {
        name,
        users: WireFd::new(sources::namespace("user", &users).map_err(host)?),
        joined: sources::namespaces_to_join(&namespaces).map_err(host)?,
        proc: sources::proc_if(!sysctls.is_empty()).map_err(host)?,
        namespaces,
        hostname,
        domainname,
        sysctls,
    };
    new_process
        .fork(zygote, join)?
        .set_up(&request)?
        .wait(HOLDER_TIMEOUT)
}
