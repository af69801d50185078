//! One task, from Create to Delete. containerd-shimkit serves the protocol and calls one method for each verb.
//!
//! What shimkit's Task service does not have, and this module therefore cannot offer yet: exec, pids (containerd loses
//! its tasks when it restarts), pause, resume, update, terminals, OOM events. `docs/architecture.md` keeps the list.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};
use containerd_shimkit::sandbox::sync::WaitableCell;
use containerd_shimkit::sandbox::{Error, Instance, InstanceConfig};
use containerd_shimkit::set_logger_kv;

use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::guest;
use crate::guest::image::Containerd;
use crate::sandbox::{CgroupDriver, Program, Request, Sandbox};
use crate::stdio::{self, InputPump};
use crate::wasi::WasiContext;

/// Where libcontainer keeps its state, one folder for each containerd namespace.
const STATE: &str = "/run/containerd/wasmedge";

/// The exit status of a task whose process was lost, as if it had been killed.
const LOST: u32 = 137;

/// One task: a container and, once started, its process.
pub struct Task {
    id: String,
    sandbox: Sandbox,
    exit: WaitableCell<(u32, DateTime<Utc>)>,
    input: Mutex<Option<InputPump>>,
}

impl Instance for Task {
    async fn new(id: String, config: &InstanceConfig) -> Result<Self, Error> {
        let exits = Exits::subscribe()?;
        let (sandbox, input) = create(&id, config).await?;
        log::info!("created task {id}, process {}", sandbox.pid());
        let exit = WaitableCell::new();
        watch(id.clone(), sandbox.pid(), exits, exit.clone());
        Ok(Self { id, sandbox, exit, input: Mutex::new(input) })
    }

    async fn start(&self) -> Result<u32, Error> {
        self.sandbox.start()?;
        u32::try_from(self.sandbox.pid()).map_err(|error| Error::Others(error.to_string()))
    }

    async fn kill(&self, signal: u32) -> Result<(), Error> {
        log::info!("signal {signal} for task {}", self.id);
        Ok(self.sandbox.kill(signal)?)
    }

    async fn delete(&self) -> Result<(), Error> {
        self.sandbox.delete()?;
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        log::info!("deleted task {}", self.id);
        Ok(())
    }

    async fn wait(&self) -> (u32, DateTime<Utc>) {
        *self.exit.wait().await
    }
}

/// Waits for the process on a thread of its own, which sleeps in the kernel until then, and tells all who wait for the task.
fn watch(id: String, pid: i32, exits: Exits, exit: WaitableCell<(u32, DateTime<Utc>)>) {
    // Whatever happens to the thread, waiters get an answer.
    let guard = exit.clone().set_guard_with(|| (LOST, Utc::now()));
    tokio::task::spawn_blocking(move || {
        let _guard = guard;
        let status = exits.wait(pid).unwrap_or_else(|| {
            log::error!("lost the process {pid} of task {id}");
            LOST
        });
        log::info!("task {id} ended with status {status}");
        // Only this thread sets it, once.
        let _ = exit.set((status, Utc::now()));
    });
}

/// bundle → workload → WASI context → standard streams → process.
async fn create(id: &str, config: &InstanceConfig) -> Result<(Sandbox, Option<InputPump>), CreateError> {
    let bundle = Bundle::load(&config.bundle)?;
    set_logger_kv([("task", id), ("pod", bundle.pod().unwrap_or("-"))]);
    let store = Containerd::new(&config.containerd_address, &config.namespace);
    let workload = guest::select(&bundle, id, &store).await?;
    let program = Program::new(workload, |entrypoint| WasiContext::of(&bundle, entrypoint))?;
    let (stdio, input) = stdio::open(config)?;
    let cgroups = if config.config.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    let state = Path::new(STATE).join(&config.namespace);
    let request = Request { id: id.to_owned(), bundle: config.bundle.clone(), state, cgroups, program, stdio };
    Ok((Sandbox::create(request)?, input))
}

/// The exits of this host's children, from before a container's process exists: one that dies at once is not missed.
///
/// containerd-shim's reaper waits for every child and tells its subscribers; nothing else may wait for them, or exit
/// codes would be lost to whoever came second.
struct Exits(Subscription);

impl Exits {
    fn subscribe() -> Result<Self, CreateError> {
        monitor_subscribe(Topic::Pid).map(Self).map_err(|error| CreateError::Sandbox(format!("cannot listen for exits: {error}")))
    }

    /// The exit code of process `pid`, or 128 plus the signal that ended it. Blocks until then; `None` if the reaper is gone.
    fn wait(&self, pid: i32) -> Option<u32> {
        loop {
            match self.0.rx.recv().ok()? {
                ExitEvent { subject: Subject::Pid(ended), exit_code } if ended == pid => return u32::try_from(exit_code).ok(),
                _ => {}
            }
        }
    }
}
