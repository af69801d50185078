//! The Task service (containerd's `task.v2` API over ttrpc): requests in, [`Task`]s moved, responses and events out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty,
    KillRequest, PidsRequest, PidsResponse, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim::protos::events::task::{TaskCreate, TaskDelete, TaskExit, TaskIO, TaskStart};
use containerd_shim::protos::protobuf::MessageField;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::types::task::ProcessInfo;
use containerd_shim::{ExitSignal, TtrpcContext, TtrpcResult, mount, util};
use rustix::mount::UnmountFlags;

use crate::cgroup;
use crate::error::TaskError;
use crate::events::Events;
use crate::guest::image::Containerd;
use crate::lifecycle::State;
use crate::options::RuntimeOptions;
use crate::sandbox::Whom;
use crate::stdio::Streams;
use crate::task::{NewTask, Task};

mod unserved;

/// All tasks of one pod.
pub struct Service {
    namespace: String,
    store: Containerd,
    events: Events,
    exit: Arc<ExitSignal>,
    runtime: tokio::runtime::Runtime,
    tasks: Mutex<HashMap<String, Arc<Task>>>,
}

impl Service {
    /// A service without tasks. `exit` is signalled once containerd asks to shut down and no task is left.
    pub fn new(namespace: String, containerd: &str, events: Events, exit: Arc<ExitSignal>, runtime: tokio::runtime::Runtime) -> Self {
        let store = Containerd::new(containerd, namespace.clone());
        Self { namespace, store, events, exit, runtime, tasks: Mutex::default() }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Arc<Task>>> {
        // Every change is one insert or remove, so the map is whole even if its last holder panicked.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.tasks().get(id).cloned().ok_or_else(|| TaskError::NotFound { id: id.to_owned() })
    }

    /// The task; refuses a request about one of its exec processes, of which there are none.
    fn task_itself(&self, id: &str, exec: &str) -> Result<Arc<Task>, TaskError> {
        if exec.is_empty() { self.task(id) } else { Err(TaskError::NoExec { id: id.to_owned(), exec: exec.to_owned() }) }
    }

    /// Sends the one exit event of `task`, whether or not it was ever started.
    fn announce_exit(&self, task: Arc<Task>) {
        let events = self.events.clone();
        self.runtime.spawn_blocking(move || {
            let exit = task.wait();
            let _announcing = task.announcing();
            let (id, pid, exited_at) = (task.id.clone(), task.pid(), timestamp(exit.at));
            events.send(TaskExit { container_id: id.clone(), id, pid, exit_status: exit.status, exited_at, ..Default::default() });
        });
    }

    fn create_task(&self, request: &CreateTaskRequest) -> Result<Arc<Task>, TaskError> {
        if self.tasks().contains_key(&request.id) {
            return Err(TaskError::Exists { id: request.id.clone() });
        }
        if request.terminal {
            return Err(TaskError::Unserved { what: "a terminal (`tty: true`)" });
        }
        if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
            return Err(TaskError::Unserved { what: "starting from a checkpoint" });
        }
        let options = RuntimeOptions::decode(request.options.as_ref())?;
        let rootfs = Path::new(&request.bundle).join("rootfs");
        mount_rootfs(request, &rootfs)?;
        let streams = Streams { stdin: request.stdin.clone(), stdout: request.stdout.clone(), stderr: request.stderr.clone() };
        let new =
            NewTask { id: request.id.clone(), namespace: self.namespace.clone(), bundle: request.bundle.clone().into(), streams, options };
        let _inside = self.runtime.enter();
        match self.runtime.block_on(Task::create(new, &self.store)) {
            Ok(task) => {
                let task = Arc::new(task);
                self.tasks().insert(request.id.clone(), Arc::clone(&task));
                Ok(task)
            }
            Err(error) => {
                unmount(&rootfs);
                log::error!("cannot create task {}: {}", request.id, crate::error::chain(&error));
                Err(error.into())
            }
        }
    }
}

fn mount_rootfs(request: &CreateTaskRequest, rootfs: &Path) -> Result<(), TaskError> {
    let failed = |reason: String| TaskError::Rootfs { path: rootfs.display().to_string(), reason };
    std::fs::create_dir_all(rootfs).map_err(|error| failed(error.to_string()))?;
    for layer in &request.rootfs {
        let named = |text: &'_ str| -> Option<String> { (!text.is_empty()).then(|| text.to_owned()) };
        let (kind, source) = (named(&layer.type_), named(&layer.source));
        mount::mount_rootfs(kind.as_deref(), source.as_deref(), &layer.options, rootfs).map_err(|error| {
            unmount(rootfs);
            failed(error.to_string())
        })?;
    }
    Ok(())
}

fn unmount(rootfs: &Path) {
    // One mount for each that Create made. containerd, which unmounts too before it removes the bundle, may be faster:
    // then nothing is mounted there (EINVAL) or the folder is gone.
    while rustix::mount::unmount(rootfs, UnmountFlags::DETACH).is_ok() {}
}

fn timestamp(at: std::time::SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(at))
}

impl containerd_shim::Task for Service {
    fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> TtrpcResult<CreateTaskResponse> {
        let task = self.create_task(&request)?;
        let CreateTaskRequest { id, bundle, rootfs, stdin, stdout, stderr, .. } = request;
        let io = TaskIO { stdin, stdout, stderr, ..Default::default() };
        let pid = task.pid();
        self.events.send(TaskCreate { container_id: id, bundle, rootfs, io: MessageField::some(io), pid, ..Default::default() });
        self.announce_exit(task);
        Ok(CreateTaskResponse { pid, ..Default::default() })
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let task = self.task_itself(&request.id, &request.exec_id)?;
        let pid = task.pid();
        // Held over both, so that the exit of a guest that ends at once is announced after its start.
        let _announcing = task.announcing();
        task.start()?;
        self.events.send(TaskStart { container_id: request.id, pid, ..Default::default() });
        Ok(StartResponse { pid, ..Default::default() })
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let task = self.task_itself(&request.id, &request.exec_id)?;
        let status = match task.state() {
            State::Created => Status::CREATED,
            State::Running => Status::RUNNING,
            State::Exited => Status::STOPPED,
        };
        let exit = task.exit();
        Ok(StateResponse {
            id: request.id,
            bundle: task.bundle.display().to_string(),
            pid: task.pid(),
            status: status.into(),
            stdin: task.streams.stdin.clone(),
            stdout: task.streams.stdout.clone(),
            stderr: task.streams.stderr.clone(),
            exit_status: exit.map(|exit| exit.status).unwrap_or_default(),
            exited_at: exit.map(|exit| timestamp(exit.at)).unwrap_or_default(),
            ..Default::default()
        })
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        let task = self.task(&request.id)?;
        let listed = match task.state() {
            State::Exited => Vec::new(),
            // An error would make containerd, which asks when it restarts, give up a running task. A process that ends
            // between the two looks has left its cgroup: then there is none to list.
            State::Created | State::Running => cgroup::processes(task.pid()).unwrap_or_else(|error| {
                log::warn!("cannot list the processes of task {}: {error}", request.id);
                Vec::new()
            }),
        };
        let processes = listed.into_iter().map(|pid| ProcessInfo { pid, ..Default::default() }).collect();
        Ok(PidsResponse { processes, ..Default::default() })
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let whom = if request.all { Whom::All } else { Whom::First };
        self.task_itself(&request.id, &request.exec_id)?.kill(request.signal, whom)?;
        Ok(Empty::new())
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        let exit = self.task_itself(&request.id, &request.exec_id)?.wait();
        Ok(WaitResponse { exit_status: exit.status, exited_at: timestamp(exit.at), ..Default::default() })
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> TtrpcResult<DeleteResponse> {
        let task = self.task_itself(&request.id, &request.exec_id)?;
        let exit = task.delete()?;
        unmount(&task.bundle.join("rootfs"));
        self.tasks().remove(&request.id);
        let (pid, exit_status, exited_at) = (task.pid(), exit.status, timestamp(exit.at));
        self.events.send(TaskDelete { container_id: request.id, pid, exit_status, exited_at: exited_at.clone(), ..Default::default() });
        Ok(DeleteResponse { pid, exit_status, exited_at, ..Default::default() })
    }

    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        let task = self.task_itself(&request.id, &request.exec_id)?;
        if request.stdin {
            task.close_input();
        }
        Ok(Empty::new())
    }

    fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        let task = self.task(&request.id)?;
        let failed = |error: containerd_shim::Error| TaskError::Stats { id: request.id.clone(), reason: error.to_string() };
        let metrics = containerd_shim::cgroup::collect_metrics(task.pid()).map_err(failed)?;
        let metrics = util::convert_to_any(Box::new(metrics)).map_err(failed)?;
        Ok(StatsResponse { stats: MessageField::some(metrics), ..Default::default() })
    }

    fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> TtrpcResult<ConnectResponse> {
        let task = self.task(&request.id)?;
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.pid(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> TtrpcResult<Empty> {
        // containerd asks after each deleted task; the pod's others go on.
        if self.tasks().is_empty() {
            self.exit.signal();
        }
        Ok(Empty::new())
    }

    unserved::verbs!();
}
