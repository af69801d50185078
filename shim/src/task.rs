//! One task: a container with its process, from Create to Delete.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};

use crate::bundle::Bundle;
use crate::error::{CreateError, TaskError};
use crate::guest;
use crate::guest::image::ContentStore;
use crate::lifecycle::{State, Verb, Verdict};
use crate::options::RuntimeOptions;
use crate::sandbox::{Program, Request, Sandbox, Whom};
use crate::stdio::{self, Input, Streams};
use crate::wasi::WasiContext;

/// Where libcontainer keeps its state, one folder for each containerd namespace.
const STATE: &str = "/run/containerd/wasmedge";
/// The exit status of a task whose process was lost, as if it had been killed.
const LOST: u32 = 137;
/// The signal that nothing survives.
const SIGKILL: u32 = 9;

/// What a task is created from.
#[derive(Debug)]
pub struct NewTask {
    /// The container's id.
    pub id: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The names of its standard streams.
    pub streams: Streams,
    /// The handler's options.
    pub options: RuntimeOptions,
}

/// How and when a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 plus the signal that ended the process.
    pub status: u32,
    /// When.
    pub at: SystemTime,
}

/// A task.
pub struct Task {
    /// The container's id.
    pub id: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The names of its standard streams.
    pub streams: Streams,
    sandbox: Sandbox,
    input: Mutex<Option<Input>>,
    started: Mutex<bool>,
    announcing: Mutex<()>,
    ended: Arc<Ended>,
}

/// The end of a task, and those who wait for it.
#[derive(Default)]
struct Ended {
    exit: Mutex<Option<Exit>>,
    signal: Condvar,
}

impl Task {
    /// bundle → workload → WASI context → standard streams → process.
    ///
    /// # Errors
    /// When the container cannot be created; then nothing of it is left.
    pub async fn create(new: NewTask, store: &impl ContentStore) -> Result<Self, CreateError> {
        let NewTask { id, namespace, bundle: folder, streams, options } = new;
        // Before there is a process: one that dies at once is not missed.
        let exits = Exits::subscribe()?;
        let bundle = Bundle::load(&folder)?;
        let workload = guest::select(&bundle, &id, store).await?;
        let program = Program::new(workload, |entrypoint| WasiContext::of(&bundle, entrypoint))?;
        let (stdio, input) = stdio::open(&streams)?;
        let state = Path::new(STATE).join(namespace);
        let sandbox =
            Sandbox::create(Request { id: id.clone(), bundle: folder.clone(), state, cgroups: options.cgroups(), program, stdio })?;
        let ended = Arc::new(Ended::default());
        exits.watch(&id, sandbox.pid(), Arc::clone(&ended))?;
        log::info!("created task {id} of pod {}, process {}", bundle.pod().unwrap_or("-"), sandbox.pid());
        Ok(Self {
            id,
            bundle: folder,
            streams,
            sandbox,
            input: Mutex::new(input),
            started: Mutex::new(false),
            announcing: Mutex::new(()),
            ended,
        })
    }

    /// The container's process, as this host numbers it.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.sandbox.pid()).expect("the kernel gave this number to a process, so it is positive")
    }

    /// Held while an event about this task is made true and sent, so that events leave in the order of what happened.
    pub fn announcing(&self) -> MutexGuard<'_, ()> {
        lock(&self.announcing)
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<Exit> {
        *lock(&self.ended.exit)
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state_when(*lock(&self.started))
    }

    fn state_when(&self, started: bool) -> State {
        match (self.exit(), started) {
            (Some(_), _) => State::Exited,
            (None, true) => State::Running,
            (None, false) => State::Created,
        }
    }

    /// Lets the process run.
    ///
    /// # Errors
    /// When it was started already, or is gone.
    pub fn start(&self) -> Result<(), TaskError> {
        let mut started = lock(&self.started);
        self.refused(self.state_when(*started).verdict(Verb::Start))?;
        self.sandbox.start()?;
        *started = true;
        Ok(())
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When it has ended, or there is no such signal.
    pub fn kill(&self, signal: u32, whom: Whom) -> Result<(), TaskError> {
        self.refused(self.state().verdict(Verb::Kill))?;
        log::info!("signal {signal} for task {}", self.id);
        Ok(self.sandbox.kill(signal, whom)?)
    }

    /// Closes our end of the standard input: the process sees its end once containerd's end is closed too.
    pub fn close_input(&self) {
        if let Some(input) = lock(&self.input).as_mut() {
            input.close();
        }
    }

    /// Waits until the task has ended.
    pub fn wait(&self) -> Exit {
        let mut exit = lock(&self.ended.exit);
        loop {
            match *exit {
                Some(exit) => return exit,
                None => exit = self.ended.signal.wait(exit).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Removes the container: its process if it was never started, its cgroup, its state.
    ///
    /// # Errors
    /// When it is running, or something of it cannot be removed.
    pub fn delete(&self) -> Result<Exit, TaskError> {
        let verdict = self.state().verdict(Verb::Delete);
        self.refused(verdict)?;
        if verdict == Verdict::EndFirst {
            self.sandbox.kill(SIGKILL, Whom::All)?;
        }
        let exit = self.wait();
        self.sandbox.delete()?;
        lock(&self.input).take();
        log::info!("deleted task {}", self.id);
        Ok(exit)
    }

    fn refused(&self, verdict: Verdict) -> Result<(), TaskError> {
        match verdict {
            Verdict::Do | Verdict::EndFirst => Ok(()),
            Verdict::Refuse(why) => Err(TaskError::WrongState { id: self.id.clone(), why }),
            Verdict::AlreadyGone => Err(TaskError::Gone { id: self.id.clone() }),
        }
    }
}

/// The exits of this host's children.
///
/// containerd-shim's reaper waits for every child and tells its subscribers; nothing else may wait for them, or exit
/// codes would be lost to whoever came second.
struct Exits(Subscription);

impl Exits {
    fn subscribe() -> Result<Self, CreateError> {
        monitor_subscribe(Topic::Pid).map(Self).map_err(|error| CreateError::Sandbox(format!("cannot listen for exits: {error}")))
    }

    /// Waits for process `pid` on a thread of its own, which sleeps until then, and tells all who wait for the task.
    fn watch(self, id: &str, pid: i32, ended: Arc<Ended>) -> Result<(), CreateError> {
        let id = id.to_owned();
        let watch = move || {
            let status = self.wait(pid).unwrap_or_else(|| {
                log::error!("lost process {pid} of task {id}");
                LOST
            });
            log::info!("task {id} ended with status {status}");
            *lock(&ended.exit) = Some(Exit { status, at: SystemTime::now() });
            ended.signal.notify_all();
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(watch);
        thread.map(drop).map_err(|error| CreateError::Sandbox(format!("cannot start a thread that waits for the process: {error}")))
    }

    /// The exit status of process `pid`; `None` if the reaper is gone.
    fn wait(&self, pid: i32) -> Option<u32> {
        loop {
            match self.0.rx.recv().ok()? {
                ExitEvent { subject: Subject::Pid(ended), exit_code } if ended == pid => return u32::try_from(exit_code).ok(),
                _ => {}
            }
        }
    }
}

/// A lock whose holder panicked guards plain values, which are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
