//! A task: a container with its processes, from Create to Delete.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use container_cgroup::Cgroup;
use native_container::{Container as Native, Processes};
use oci_spec::runtime::{LinuxSeccomp, Process as ProcessSpec};
use pod_sandbox::Pod;
use runtime_options::RuntimeOptions;
use tokio::sync::{RwLock, Semaphore};

use crate::artifact::{Execution, Policy};
use crate::bundle::Bundle;
use crate::error::TaskError;
use crate::process::Process;
use crate::workload::GuestModule;
use crate::workload::digest::FileDigest;

/// Maximum number of containers and exec processes that are set up at the same time in one pod. A
/// set-up blocks on the pod's own file systems and limits; further set-ups wait without a thread.
pub(crate) const MAX_SETUPS: usize = 16;

/// A container.
pub(crate) struct Task {
    /// The container's id.
    pub(crate) id: String,
    /// The bundle's folder.
    pub(crate) bundle: PathBuf,
    /// The kind of container, with what is particular to it.
    pub(crate) body: Body,
    /// The container's cgroup.
    pub(crate) cgroup: Cgroup,
    /// The container's first process.
    pub(crate) init: Arc<Process>,
    /// The pod, as `namespace/name`; none if CRI did not create the container.
    pub(crate) pod: Option<String>,
    /// The id of the pod's sandbox; none if CRI did not create the container.
    pub(crate) sandbox: Option<String>,
    /// The OOM kills that were reported.
    pub(crate) oom_kills: OomKills,
    /// Each Kill holds it for reading until its response is sent, and Delete for writing:
    /// containerd closes the connection once a task is deleted, and its own Kill would fail.
    pub(crate) kills: Arc<RwLock<()>>,
    /// One permit for each container and each exec process that is set up. All containers of a pod
    /// share them.
    pub(crate) setups: Arc<Semaphore>,
    execs: Mutex<HashMap<String, Arc<TaskExec>>>,
}

/// The count of OOM kills in a container when they were last reported.
#[derive(Debug, Default)]
pub(crate) struct OomKills(AtomicU64);

impl OomKills {
    /// Records the current count; returns whether it is above the last one.
    pub(crate) fn record(&self, counted: u64) -> bool {
        self.0.fetch_max(counted, Ordering::Relaxed) < counted
    }
}

/// The kinds of containers.
pub(crate) enum Body {
    /// A guest in guest-sandbox.
    Guest(Box<GuestBody>),
    /// A Linux program, set up by libcontainer.
    Native(Native),
    /// A pod's namespaces, held by a thread or a process.
    Pod(PodBody),
}

/// The sandbox of a pod.
pub(crate) struct PodBody {
    /// None once it was killed.
    pub(crate) held: Mutex<Option<Pod>>,
    /// The pid namespace that its containers see.
    pub(crate) processes: Processes,
    /// The options that it was created with, which its containers have unless they come with their
    /// own.
    pub(crate) options: RuntimeOptions,
}

/// The container of a guest.
pub(crate) struct GuestBody {
    /// The guest's process.
    pub(crate) process: guest_sandbox::Guest,
    /// The program that it runs.
    pub(crate) guest: GuestModule,
    /// The code that its first process runs.
    pub(crate) execution: Execution,
    /// What decides the code of further guests in it.
    pub(crate) policy: Policy,
    /// The digest of the file of the last guest that Exec ran: a probe runs the same again and
    /// again.
    pub(crate) last_exec: Mutex<Option<FileDigest>>,
    /// The spec's system call filter, which applies to its exec processes too.
    pub(crate) seccomp: Option<LinuxSeccomp>,
}

/// A process that Exec added.
pub(crate) struct TaskExec {
    /// Its state.
    pub(crate) process: Arc<Process>,
    /// The program that it is to run.
    pub(crate) spec: ProcessSpec,
    /// The code of a guest that was started.
    pub(crate) execution: OnceLock<Execution>,
}

impl Task {
    /// Creates the task of a container that was just set up.
    pub(crate) fn new(
        id: String,
        bundle: &Bundle,
        body: Body,
        cgroup: Cgroup,
        init: Process,
    ) -> Self {
        let sandbox = bundle.sandbox().map(str::to_owned);
        let (bundle, pod) = (bundle.folder().to_owned(), bundle.pod());
        let (init, oom_kills, kills, execs) = (
            Arc::new(init),
            OomKills::default(),
            Arc::default(),
            Mutex::default(),
        );
        let setups = Arc::new(Semaphore::new(MAX_SETUPS));
        Self {
            id,
            bundle,
            body,
            cgroup,
            init,
            pod,
            sandbox,
            oom_kills,
            kills,
            setups,
            execs,
        }
    }

    /// Joins the pod of `sandbox`: the task shares its permits for set-ups.
    #[must_use]
    pub(crate) fn of_pod(self, sandbox: Option<&Self>) -> Self {
        let setups = sandbox.map_or_else(
            || Arc::clone(&self.setups),
            |sandbox| Arc::clone(&sandbox.setups),
        );
        Self { setups, ..self }
    }

    /// Returns the guest's program; none for other kinds of containers.
    pub(crate) fn guest(&self) -> Option<&GuestModule> {
        match &self.body {
            Body::Guest(body) => Some(&body.guest),
            Body::Native(_) | Body::Pod(_) => None,
        }
    }

    /// Returns the process that a request means: an empty `exec` names the first one.
    ///
    /// # Errors
    /// If there is none of that name.
    pub(crate) fn process(&self, exec: &str) -> Result<Arc<Process>, TaskError> {
        if exec.is_empty() {
            Ok(Arc::clone(&self.init))
        } else {
            Ok(Arc::clone(&self.exec(exec)?.process))
        }
    }

    /// Returns the exec process of that name.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn exec(&self, exec: &str) -> Result<Arc<TaskExec>, TaskError> {
        self.execs()
            .get(exec)
            .cloned()
            .ok_or_else(|| TaskError::NoExec {
                id: self.id.clone(),
                exec: exec.to_owned(),
            })
    }

    /// Returns all exec processes that were not deleted.
    pub(crate) fn all_execs(&self) -> Vec<Arc<TaskExec>> {
        self.execs().values().cloned().collect()
    }

    /// Adds an exec process.
    ///
    /// # Errors
    /// If there is one of that name.
    pub(crate) fn add_exec(&self, exec: TaskExec) -> Result<(), TaskError> {
        let name = exec.process.id.exec.clone();
        let mut execs = self.execs();
        if execs.contains_key(&name) {
            return Err(TaskError::ExecExists {
                id: self.id.clone(),
                exec: name,
            });
        }
        execs.insert(name, Arc::new(exec));
        Ok(())
    }

    /// Removes a deleted exec process.
    pub(crate) fn remove_exec(&self, exec: &str) {
        self.execs().remove(exec);
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<TaskExec>>> {
        // Every change is one insert or remove, so the map is consistent even if its last holder
        // panicked.
        failures::lock_ignoring_poison(&self.execs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_oom_kill_is_reported_once() {
        let kills = OomKills::default();
        // The counter is read after each killed process, and may lag or cover several kills.
        let reported: Vec<bool> = [0, 1, 1, 3, 3, 2]
            .map(|counted| kills.record(counted))
            .into();
        assert_eq!(reported, [false, true, false, true, false, false]);
    }
}
