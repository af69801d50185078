//! The host's side of a guest's process: asked for, waited for until it is ready, started.
//!
//! ```text
//! host                               zygote                guest's process
//!  │ fork, please ───────────────────► │ clone3 ───────────► │ waits for its orders
//!  │ ◄────────────────── number, pidfd │                     │
//!  │ cgroup (systemd), oom_score_adj                         │
//!  │ open namespaces, clone mounts                           │
//!  │ cgroup files, orders ─────────────────────────────────► │ set-up, prepare
//!  │ ◄─────────────────────────── ready, or which step failed│
//!  │ start ────────────────────────────────────────────────► │ run
//! ```

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use container_cgroup::Entrance;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::Serialize;

use crate::child;
use crate::child::orders::{Answer, ContainerOrders, START};
use crate::error::{Failure, SandboxError, Step as _};
use crate::kernel::Newborn;
use crate::plan::{Plan, Proc};
use crate::wire::{LONGEST_ANSWER, Message, WireFd, read_exact, room_for, write_all};
use crate::workload::Workload;
use crate::zygote::{Entry, Request, Zygote};

mod exec;
mod holder;
pub(crate) mod sources;

pub use exec::{NewExec, NewNativeExec, exec, exec_native};
pub use holder::{NewHolder, hold};

/// How long a process may take from its fork until it is ready. The engine may load a large guest on a busy machine;
/// kubelet gives up after two minutes.
const PATIENCE: Duration = Duration::from_secs(110);

/// The standard streams of a container's process.
#[derive(Debug)]
pub enum Stdio {
    /// Three streams; one that is missing is `/dev/null`.
    Streams {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A terminal's slave side: all three streams, and the process's controlling terminal.
    Terminal(OwnedFd),
}

/// What a guest's container is made from, but for its plan.
#[derive(Debug)]
pub struct NewGuest<W> {
    /// What runs in it.
    pub workload: W,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Its root file system, as [`rootfs::mount`](crate::rootfs::mount) gives it.
    pub rootfs: OwnedFd,
}

/// A container's first process that waits to be told what it shall do. It ends when this is dropped.
#[derive(Debug)]
pub struct ForkedGuest<W> {
    waiting: Waiting,
    plan: Plan,
    workload: PhantomData<W>,
}

/// A process of a container: ready to be started, or started. It is a child of the calling process, which waits for it
/// through [`Guest::pidfd`]. One that is dropped before it was started ends.
#[derive(Debug)]
pub struct Guest {
    name: String,
    pid: u32,
    pidfd: OwnedFd,
    /// None once it was started.
    control: Mutex<Option<OwnedFd>>,
    /// What its workload said of itself.
    told: Option<String>,
    /// The user namespace that it is in, which its further processes enter; none: the node's.
    users: Option<OwnedFd>,
    /// What Linux programs beside it see of processes.
    proc: Option<Proc>,
}

/// Forks a container's first process, called `name`: the container's id. What `plan` says of it is done when it is
/// prepared. `adopt` is called with its number while it waits, outside its cgroup still, when `entrance` is
/// [`Entrance::Afterwards`].
///
/// # Errors
/// When the zygote cannot fork it or is lost, or `adopt` fails: then nothing of the process is left.
pub fn fork<W: Workload>(
    zygote: &Zygote,
    name: String,
    plan: Plan,
    entrance: Entrance,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<ForkedGuest<W>, SandboxError> {
    let (entry, namespaces) = (child::container::<W>, sources::namespaces_to_make(&plan.namespaces));
    let birth = Birth { name, entry, namespaces, inside: None, entrance, oom_score_adj: plan.process.oom_score_adj };
    Ok(ForkedGuest { waiting: birth.fork(zygote, adopt)?, plan, workload: PhantomData })
}

impl<W: Workload> ForkedGuest<W> {
    /// Has the process carry its plan out, and waits until it is ready to start.
    ///
    /// # Errors
    /// When a step fails or the workload refuses: then nothing of the process is left.
    pub fn prepare(self, new: NewGuest<W>) -> Result<Guest, SandboxError> {
        let Self { waiting, plan, .. } = self;
        let NewGuest { workload, stdio, rootfs } = new;
        let host = SandboxError::Host;
        let users = plan.users.as_ref().map(sources::users).transpose().map_err(host)?;
        let seen = plan.proc.clone();
        let orders = ContainerOrders {
            name: waiting.name.clone(),
            joined: sources::namespaces_to_join(&plan.namespaces).map_err(host)?,
            sources: sources::mounts(&plan.mounts, users.as_ref()).map_err(host)?,
            rootfs: WireFd::new(rootfs),
            proc: sources::proc_if(!plan.sysctls.is_empty() || sources::is_labelled(&plan.process)).map_err(host)?,
            users: sources::shared(users.as_ref()).map_err(host)?,
            stdio: stdio.into(),
            plan,
            workload,
        };
        Ok(Guest { users, proc: seen, ..waiting.obey(&orders)? })
    }
}

impl Guest {
    /// Its number in the host's pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it has ended; its end is read with waitid(2) and `P_PIDFD`.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What its workload said of itself when it was ready ([`Workload::tell`]): no more than a claim, as the bytes of a
    /// guest may have taken the process over by then.
    pub fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// Lets it run.
    ///
    /// # Errors
    /// When it was started before, or has ended.
    pub fn start(&self) -> Result<(), SandboxError> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let control = control.ok_or_else(|| SandboxError::Started(self.name.clone()))?;
        write_all(&control, &[START]).map_err(|_| SandboxError::Gone(self.name.clone()))
    }
}

/// What is decided about a process before it is forked.
struct Birth<'a> {
    name: String,
    entry: Entry,
    namespaces: u64,
    inside: Option<&'a Guest>,
    entrance: Entrance,
    oom_score_adj: Option<i32>,
}

impl Birth<'_> {
    /// Forks the process, which waits for its orders.
    fn fork(self, zygote: &Zygote, adopt: impl FnOnce(u32) -> Result<(), String>) -> Result<Waiting, SandboxError> {
        let Self { name, entry, namespaces, inside, entrance, oom_score_adj } = self;
        let host = SandboxError::Host;
        let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .step(|| format!("make a socket to {name}"))
            .map_err(host)?;
        set_socket_timeout(&control, Timeout::Recv, Some(PATIENCE)).step(|| format!("limit the wait for {name}")).map_err(host)?;
        let mut request = Request::new(entry, theirs, namespaces);
        if let Some(guest) = inside {
            request = request.inside(guest.pidfd.try_clone().step(|| format!("refer to the container of {name}")).map_err(host)?);
        }
        let (cgroup_files, adoption) = match entrance {
            Entrance::Tasks(files) => (files, Adoption::Itself),
            Entrance::Folder(folder) => {
                request = request.in_cgroup(folder);
                (Vec::new(), Adoption::Itself)
            }
            Entrance::Afterwards => (Vec::new(), Adoption::ByHost),
        };
        let newborn = Unready(Some(zygote.fork(&request)?));
        // This end must be the child's alone, so that its end is seen.
        drop(request);
        if adoption == Adoption::ByHost {
            adopt(newborn.pid()).map_err(|cause| host(Failure::of(format!("bring {name} into its cgroup"), cause)))?;
        }
        if let Some(adjustment) = oom_score_adj {
            let file = format!("/proc/{}/oom_score_adj", newborn.pid());
            std::fs::write(&file, adjustment.to_string()).step(|| format!("write {adjustment} to {file}")).map_err(host)?;
        }
        Ok(Waiting { name, control, cgroup_files, newborn })
    }
}

/// A process that waits for its orders. It ends when this is dropped.
#[derive(Debug)]
struct Waiting {
    name: String,
    control: OwnedFd,
    /// Through which it joins its cgroup, if it was not born there.
    cgroup_files: Vec<OwnedFd>,
    newborn: Unready,
}

impl Waiting {
    /// Gives the process its orders, and waits until they are carried out.
    fn obey(self, orders: &impl Serialize) -> Result<Guest, SandboxError> {
        let Self { name, control, cgroup_files, newborn } = self;
        let orders = Message::of(orders).step(|| format!("write the orders of {name}")).map_err(SandboxError::Host)?;
        let sent = Message::of_descriptors(cgroup_files).send(&control).and_then(|()| orders.send(&control));
        let told = match wait(&control).or_else(|error| sent.and(Err(error))) {
            Ok(Answer::Ready(told)) => told,
            Ok(Answer::Failed(failure)) => return Err(SandboxError::Setup(failure)),
            Ok(Answer::Refused(text)) => return Err(SandboxError::Refused(text)),
            Err(error) => return Err(SandboxError::Died { name, how: newborn.end(&error) }),
        };
        let Newborn { pid, pidfd } = newborn.into_ready();
        Ok(Guest { name, pid, pidfd, control: Mutex::new(Some(control)), told, users: None, proc: None })
    }
}

/// Who brings a process into its cgroup.
#[derive(PartialEq, Eq)]
enum Adoption {
    /// It was born there, or goes there itself.
    Itself,
    /// The host has it moved.
    ByHost,
}

/// Waits until a process is ready, or says why not.
fn wait(control: &OwnedFd) -> io::Result<Answer> {
    let mut length = [0; 8];
    read_exact(control, &mut length)?;
    let mut answer = vec![0; room_for(u64::from_ne_bytes(length), LONGEST_ANSWER)?];
    read_exact(control, &mut answer)?;
    rmp_serde::from_slice(&answer).map_err(io::Error::other)
}

/// A process that is not ready: it ends, and is waited for, unless it becomes so.
#[derive(Debug)]
struct Unready(Option<Newborn>);

impl Unready {
    fn newborn(&self) -> &Newborn {
        self.0.as_ref().expect("it is taken out only when this is given up")
    }

    fn pid(&self) -> u32 {
        self.newborn().pid
    }

    fn into_ready(mut self) -> Newborn {
        self.0.take().expect("it is taken out only here")
    }

    /// How it ended, given that its socket had nothing to say but `error`.
    fn end(mut self, error: &io::Error) -> String {
        let newborn = self.0.take().expect("it is taken out only when this is given up");
        if error.kind() == io::ErrorKind::WouldBlock {
            let wait = std::fs::read_to_string(format!("/proc/{}/wchan", newborn.pid)).unwrap_or_default();
            end_and_reap(&newborn);
            return format!("it was still not done after {} s (waiting in the kernel: {wait})", PATIENCE.as_secs());
        }
        // It closed its socket a moment before it counts as ended; it is not to be taken for one that we killed.
        let end = Timespec { tv_sec: 2, tv_nsec: 0 };
        if let Err(error) = poll(&mut [PollFd::new(&newborn.pidfd, PollFlags::IN)], Some(&end)) {
            tracing::debug!(pid = newborn.pid, %error, "the end of a process could not be waited for");
        }
        let gone = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        match end_and_reap(&newborn) {
            _ if !gone => format!("its answer makes no sense ({error})"),
            Some(end) => end,
            None => "it ended".to_owned(),
        }
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(newborn) = self.0.take() {
            end_and_reap(&newborn);
        }
    }
}

/// Kills a process that has not ended by itself, and waits for its end: what it was.
fn end_and_reap(newborn: &Newborn) -> Option<String> {
    let id = || WaitId::PidFd(newborn.pidfd.as_fd());
    let ended = rustix::io::retry_on_intr(|| waitid(id(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)).ok().flatten();
    let status = ended.or_else(|| {
        if let Err(error) = pidfd_send_signal(&newborn.pidfd, Signal::KILL) {
            tracing::debug!(pid = newborn.pid, %error, "the process had ended");
        }
        rustix::io::retry_on_intr(|| waitid(id(), WaitIdOptions::EXITED)).ok().flatten()
    })?;
    status
        .terminating_signal()
        .map(|signal| format!("it was ended by signal {signal}"))
        .or_else(|| status.exit_status().map(|code| format!("it ended with code {code}")))
}

#[cfg(test)]
mod tests;
