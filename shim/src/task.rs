//! One task: a container with its processes, from Create to Delete.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use container_cgroup::Cgroup;
use native_container::{Container as Native, Processes};
use oci_spec::runtime::{LinuxSeccomp, Process as ProcessSpec};
use pod_sandbox::Pod;
use shim_protocol::options::RuntimeOptions;
use tokio::sync::{RwLock, Semaphore};

use crate::bundle::Bundle;
use crate::error::TaskError;
use crate::process::Process;
use crate::workload::GuestModule;

/// Most processes of exec that are set up at a time in the containers of one pod. What a set-up
/// blocks on is the pod's own: its file systems, its limits. More wait for their turn without a
/// thread.
pub const MAX_EXEC_SETUPS: usize = 16;

/// A container.
pub struct Task {
    /// Its id.
    pub id: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// What makes it up.
    pub body: Body,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its first process.
    pub init: Arc<Process>,
    /// Its pod, as `namespace/name`; none if CRI did not make it.
    pub pod: Option<String>,
    /// The id of its pod's sandbox; none if CRI did not make it.
    pub sandbox: Option<String>,
    /// What was told of its processes that the kernel killed for want of memory.
    pub oom_kills: OomKills,
    /// Shared by each Kill until its answer is there, and waited for by Delete: containerd hangs up
    /// once a task is deleted, and would fail a Kill that it asked for itself.
    pub kills: Arc<RwLock<()>>,
    /// One permit for each process of exec that is set up. All containers of a pod share them.
    pub exec_setups: Arc<Semaphore>,
    execs: Mutex<HashMap<String, Arc<ExecProcess>>>,
}

/// How many of a container's processes the kernel had killed for want of memory when that was last
/// told.
#[derive(Debug, Default)]
pub struct OomKills(AtomicU64);

impl OomKills {
    /// Whether there are more of them now than were told, which `counted` are from now on.
    pub fn are_new(&self, counted: u64) -> bool {
        self.0.fetch_max(counted, Ordering::Relaxed) < counted
    }
}

/// What makes up a container.
pub enum Body {
    /// A guest in the sandbox of our own.
    Guest(Box<GuestBody>),
    /// A Linux program, set up by libcontainer.
    Native(Native),
    /// A pod's namespaces, held by a thread.
    Pod(PodBody),
}

/// A pod's sandbox.
pub struct PodBody {
    /// None once it was killed.
    pub held: Mutex<Option<Pod>>,
    /// Whose processes its containers see.
    pub processes: Processes,
    /// The options that it was created with, which its containers have unless they come with their
    /// own.
    pub options: RuntimeOptions,
}

/// A guest's container.
pub struct GuestBody {
    /// Its process.
    pub process: guest_sandbox::Guest,
    /// What it runs.
    pub guest: GuestModule,
    /// The spec's filter of system calls, which holds for its further processes too.
    pub seccomp: Option<LinuxSeccomp>,
}

/// A process that exec added.
pub struct ExecProcess {
    /// The process.
    pub process: Arc<Process>,
    /// What it shall run.
    pub spec: ProcessSpec,
}

impl Task {
    /// A container that was just made.
    pub fn new(id: String, bundle: &Bundle, body: Body, cgroup: Cgroup, init: Process) -> Self {
        let sandbox = bundle.sandbox().map(str::to_owned);
        let (bundle, pod) = (bundle.folder().to_owned(), bundle.pod());
        let (init, oom_kills, kills, execs) = (
            Arc::new(init),
            OomKills::default(),
            Arc::default(),
            Mutex::default(),
        );
        let exec_setups = Arc::new(Semaphore::new(MAX_EXEC_SETUPS));
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
            exec_setups,
            execs,
        }
    }

    /// A container of the pod whose sandbox is `sandbox`.
    #[must_use]
    pub fn of_pod(self, sandbox: Option<&Self>) -> Self {
        let exec_setups = sandbox.map_or_else(
            || Arc::clone(&self.exec_setups),
            |sandbox| Arc::clone(&sandbox.exec_setups),
        );
        Self {
            exec_setups,
            ..self
        }
    }

    /// Its guest, if it is one.
    pub fn guest(&self) -> Option<&GuestModule> {
        match &self.body {
            Body::Guest(body) => Some(&body.guest),
            Body::Native(_) | Body::Pod(_) => None,
        }
    }

    /// The process that a request means: an empty `exec` names the first one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn process(&self, exec: &str) -> Result<Arc<Process>, TaskError> {
        if exec.is_empty() {
            Ok(Arc::clone(&self.init))
        } else {
            Ok(Arc::clone(&self.exec(exec)?.process))
        }
    }

    /// The exec of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn exec(&self, exec: &str) -> Result<Arc<ExecProcess>, TaskError> {
        self.execs()
            .get(exec)
            .cloned()
            .ok_or_else(|| TaskError::NoExec {
                id: self.id.clone(),
                exec: exec.to_owned(),
            })
    }

    /// All that exec added and nobody deleted.
    pub fn all_execs(&self) -> Vec<Arc<ExecProcess>> {
        self.execs().values().cloned().collect()
    }

    /// Adds an exec.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn add_exec(&self, exec: ExecProcess) -> Result<(), TaskError> {
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

    /// The exec is gone.
    pub fn forget_exec(&self, exec: &str) {
        self.execs().remove(exec);
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<ExecProcess>>> {
        // Every change is one insert or remove, so the map is whole even if its last holder
        // panicked.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kill_for_want_of_memory_is_told_once() {
        let kills = OomKills::default();
        // As a process after another is killed; by whom, the counter tells.
        let told: Vec<bool> = [0, 1, 1, 3, 3, 2]
            .map(|counted| kills.are_new(counted))
            .into();
        assert_eq!(told, [false, true, false, true, false, false]);
    }
}
