//! Creation of a pod's sandbox container. It has no root file system, and a process only if the pod
//! has a user namespace.

use std::sync::{Arc, Mutex};

use native_container::Processes;
use oci_spec::runtime::LinuxNamespaceType;
use pod_sandbox::{NewPod, PodError};

use super::NewTask;
use super::cgroup::NewCgroup;
use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::host::Host;
use crate::process::{self, Process};
use crate::task::{Body, PodBody, Task};

/// Creates the container. Blocks.
pub(super) fn create(host: &Arc<Host>, bundle: &Bundle, new: NewTask) -> Result<Task, CreateError> {
    let plan = NewPod::from_spec(&new.id, bundle.spec())?;
    let cgroup = NewCgroup::make(host, bundle, &new.options)?;
    let pod =
        pod_sandbox::hold(plan, host.zygotes.main(), &cgroup).map_err(|error| match error {
            // So that a lost zygote has the same text and the same consequence for every process.
            PodError::Holder(error) => error.into(),
            error => CreateError::from(error),
        })?;
    let pidfd = pod.pidfd().map(process::share_pidfd).transpose()?;
    let init = Process::new(&new.id, "", new.streams);
    init.attach(pod.pid(), pidfd, None);
    let body = Body::Pod(PodBody {
        held: Mutex::new(Some(pod)),
        processes: processes(bundle),
        options: new.options.clone(),
    });
    Ok(Task::new(new.id, bundle, body, cgroup.keep(), init))
}

/// Returns the pid namespace that the pod's containers see. The sandbox's spec has a pid namespace
/// unless the pod sees the node's processes.
fn processes(sandbox: &Bundle) -> Processes {
    let namespaces = sandbox
        .spec()
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let own = namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid);
    if own { Processes::Own } else { Processes::Node }
}
