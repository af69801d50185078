//! One task, from Create to Delete. containerd-shimkit serves the protocol and calls one method for each verb.
//!
//! What shimkit's Task service does not have, and this module therefore cannot offer yet: exec, pids (containerd loses
//! its tasks when it restarts), pause, resume, update, terminals, OOM events. `docs/architecture.md` keeps the list.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use containerd_shimkit::sandbox::sync::WaitableCell;
use containerd_shimkit::sandbox::{Error, Instance, InstanceConfig};
use containerd_shimkit::set_logger_kv;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::guest;
use crate::guest::image::Containerd;
use crate::outcome::SIGNAL_BASE;
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
        let (sandbox, input) = create(&id, config).await?;
        log::info!("created task {id}, process {}", sandbox.pid());
        Ok(Self { id, sandbox, exit: WaitableCell::new(), input: Mutex::new(input) })
    }

    async fn start(&self) -> Result<u32, Error> {
        // Whatever happens below, waiters get an answer.
        let guard = self.exit.clone().set_guard_with(|| (LOST, Utc::now()));
        let process = Process::open(self.sandbox.pid())?;
        self.sandbox.start()?;
        let (exit, id) = (self.exit.clone(), self.id.clone());
        // A thread for each running task: it sleeps in the kernel until its process ends.
        tokio::task::spawn_blocking(move || {
            let _guard = guard;
            let status = process.wait().unwrap_or_else(|error| {
                log::error!("lost the process of task {id}: {error}");
                LOST
            });
            log::info!("task {id} ended with status {status}");
            // Set already only if the guard was dropped, which it is not while this runs.
            let _ = exit.set((status, Utc::now()));
        });
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

/// A process of ours, held by a descriptor: its number cannot come to mean another process meanwhile.
struct Process(OwnedFd);

impl Process {
    fn open(pid: i32) -> std::io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or_else(|| std::io::Error::other(format!("{pid} is no process")))?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// The exit code, or 128 plus the signal that ended the process. Blocks until then.
    fn wait(self) -> std::io::Result<u32> {
        let status = loop {
            match rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| i32::from(SIGNAL_BASE) + signal));
        let code = code.and_then(|code| u32::try_from(code).ok());
        code.ok_or_else(|| std::io::Error::other("the process neither exited nor was killed"))
    }
}
