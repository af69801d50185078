//! Delete: removes everything of a container, its record last.

use std::sync::Arc;

use rustix::process::Signal;

use crate::error::TaskError;
use crate::host::Host;
use crate::mounted;
use crate::task::{Body, Task};

/// Removes the container after its first process has exited.
///
/// # Errors
/// If a part cannot be removed: its record stays then, and containerd may repeat the request.
pub(crate) fn delete(host: &Arc<Host>, task: &Task) -> Result<(), TaskError> {
    let failed = |what: &'static str| {
        move |error: Box<dyn std::error::Error + Send + Sync>| TaskError::Remove {
            id: task.id.clone(),
            what,
            source: error,
        }
    };
    // Processes beside the first one that do not share its pid namespace.
    task.cgroup
        .kill(Signal::KILL.as_raw().unsigned_abs())
        .map_err(|error| failed("processes")(error.into()))?;
    match &task.body {
        Body::Guest(_) | Body::Pod(_) => {}
        Body::Native(container) => {
            container
                .delete()
                .map_err(|error| failed("libcontainer's state")(error.into()))?;
            mounted::detach(&task.bundle.join("rootfs"));
        }
    }
    task.cgroup
        .remove()
        .map_err(|error| failed("cgroup")(error.into()))?;
    host.records
        .remove(&host.namespace, &task.id)
        .map_err(|error| failed("record")(error.into()))?;
    host.logs.detach(&task.id);
    Ok(())
}
