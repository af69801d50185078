//! A container's process: set up by libcontainer in a fork of the zygote, so that neither it nor the guest ever runs
//! in the host, which has threads.
//!
//! ```text
//! host ── spawns ─► zygote of this container ── libcontainer ─► container process (child of the host)
//!      ◄─ create, start, kill, delete ─────►                    namespaces, cgroup, pivot_root, seccomp, then
//!                                                               prepare │ wait for Start │ run
//! ```

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;

use anyhow::Context as _;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use serde::{Deserialize, Serialize};
use zygote::{WireFd, Zygote};

use crate::error::CreateError;
use crate::guest::{Form, Workload};
use crate::stdio::Stdio;
use crate::wasi::WasiContext;

mod executor;
mod intermediate;

use executor::Executor;

/// Who sets up cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// We write to the cgroup file system.
    Cgroupfs,
    /// systemd is asked over D-Bus.
    Systemd,
}

/// To whom a signal goes.
///
/// Not all by default: libcontainer freezes the cgroup to find all, and on cgroup v1 a frozen process wakes from its
/// sleep, so that a sleeping guest could end with code 0 before the signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whom {
    /// The first process; when it ends, the kernel ends the others of its pid namespace.
    First,
    /// Every process of the container.
    All,
}

/// What a sandbox is made from.
#[derive(Serialize, Deserialize)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Where libcontainer keeps its state of this containerd namespace.
    pub state: PathBuf,
    /// Who sets up cgroups.
    pub cgroups: CgroupDriver,
    /// What runs in it.
    pub program: Program,
    /// Its standard streams.
    pub stdio: Stdio,
}

/// What runs in a container, in the form in which it crosses into the zygote.
#[derive(Serialize, Deserialize)]
pub enum Program {
    /// A Linux program.
    Native,
    /// A guest.
    Wasm {
        /// Its bytes.
        file: WireFd<File>,
        /// Binary or text.
        form: Form,
        /// Where it was found, for messages.
        origin: String,
        /// The function to call.
        function: String,
        /// What it sees of the world.
        wasi: WasiContext,
    },
}

impl Program {
    /// The program of a container that runs `workload`; `wasi` makes the context of a guest.
    ///
    /// # Errors
    /// When `wasi` fails.
    pub fn new(
        workload: Workload,
        wasi: impl FnOnce(&crate::guest::Entrypoint) -> Result<WasiContext, CreateError>,
    ) -> Result<Self, CreateError> {
        Ok(match workload {
            Workload::Native => Self::Native,
            Workload::Wasm(guest) => {
                let wasi = wasi(&guest.entrypoint)?;
                Self::Wasm {
                    file: WireFd::new(guest.file),
                    form: guest.form,
                    origin: guest.origin,
                    function: guest.entrypoint.function,
                    wasi,
                }
            }
        })
    }
}

/// A created container. Its process waits for [`Sandbox::start`].
pub struct Sandbox {
    zygote: Zygote,
    pid: i32,
}

thread_local! {
    /// libcontainer's handle, in the zygote of the container.
    static CONTAINER: RefCell<Option<Container>> = const { RefCell::new(None) };
}

impl Sandbox {
    /// Creates the container and waits until its process is ready to start.
    ///
    /// # Errors
    /// When the process cannot be set up, or the guest cannot run: then nothing of it is left.
    pub fn create(request: Request) -> Result<Self, CreateError> {
        let zygote = Zygote::global().spawn();
        let created = zygote.try_run(|request: Request| create(request).map_err(|error| format!("{error:#}")), request);
        let pid = created.map_err(|error| CreateError::Zygote(error.to_string()))?.map_err(CreateError::Sandbox)?;
        Ok(Self { zygote, pid })
    }

    /// The container's process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets the process run.
    ///
    /// # Errors
    /// When it is gone, or was started already.
    pub fn start(&self) -> Result<(), CreateError> {
        self.ask(Verb::Start)
    }

    /// Sends `signal` to the container's first process, or to all of them.
    ///
    /// # Errors
    /// When there is no such signal, or the container has ended.
    pub fn kill(&self, signal: u32, whom: Whom) -> Result<(), CreateError> {
        self.ask(Verb::Kill(signal, whom))
    }

    /// Ends what still runs and removes cgroup and state.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn delete(&self) -> Result<(), CreateError> {
        self.ask(Verb::Delete)
    }

    fn ask(&self, verb: Verb) -> Result<(), CreateError> {
        let answer = self.zygote.try_run(|verb: Verb| act(verb).map_err(|error| format!("{error:#}")), verb);
        answer.map_err(|error| CreateError::Zygote(error.to_string()))?.map_err(CreateError::Sandbox)
    }
}

/// What the host asks of a container's zygote.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Verb {
    Start,
    Kill(u32, Whom),
    Delete,
}

/// Runs in the container's zygote.
fn create(request: Request) -> anyhow::Result<i32> {
    let Request { id, bundle, state, cgroups, program, stdio } = request;
    let mut builder = ContainerBuilder::new(id.clone(), SyscallType::Linux).with_executor(Executor::new(program)?).with_root_path(state)?;
    if let Some(fd) = stdio.stdin {
        builder = builder.with_stdin(fd.into_inner());
    }
    if let Some(fd) = stdio.stdout {
        builder = builder.with_stdout(fd.into_inner());
    }
    if let Some(fd) = stdio.stderr {
        builder = builder.with_stderr(fd.into_inner());
    }
    // A sibling of this zygote, so a child of the host, which waits for it.
    let init = builder.as_init(bundle).as_sibling(true).with_systemd(cgroups == CgroupDriver::Systemd);
    let container = init.build()?;
    let pid = container.pid().with_context(|| format!("container {id} was created without a process"))?;
    CONTAINER.replace(Some(container));
    Ok(pid.as_raw())
}

/// Runs in the container's zygote.
fn act(verb: Verb) -> anyhow::Result<()> {
    CONTAINER.with_borrow_mut(|container| {
        let container = container.as_mut().context("the container was not created")?;
        match verb {
            Verb::Start => container.start()?,
            Verb::Kill(number, whom) => {
                let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
                container.kill(signal.with_context(|| format!("there is no signal {number}"))?, whom == Whom::All)?;
            }
            Verb::Delete => container.delete(true)?,
        }
        Ok(())
    })
}
