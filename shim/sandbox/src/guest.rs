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
//!
//! | file | what |
//! |---|---|
//! | `guest/pending.rs` | a process that carries its orders out: whoever waits for it decides how, and how long |
//! | `guest/reap.rs` | the end of a process that is of no use |
//! | `guest/exec.rs` | more processes in a container |
//! | `guest/view.rs` | the `/proc` that Linux programs among those see |
//! | `guest/holder.rs` | a process that holds a pod's namespaces |
//! | `guest/sources.rs` | what the host opens for a process |

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use container_cgroup::JoinMethod;
use process_forker::{Child, Entry, SpawnRequest, Zygote};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::Serialize;

use crate::child;
use crate::child::orders::{ContainerOrders, START};
use crate::error::{Failure, SandboxError, Step as _};
use crate::plan::Plan;
use crate::wire::{Message, WireFd, write_all};
use crate::workload::Workload;
use reap::Unready;
use view::View;

mod exec;
mod holder;
mod pending;
mod reap;
pub(crate) mod sources;
mod view;

pub use exec::{NewExec, NewNativeExec, exec, exec_native};
pub use holder::{NewHolder, hold};
pub use pending::{Killed, Pending, Progress};

/// How long a process may take to read its orders, which begin with the way into its cgroup.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

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

/// A container's first process that waits to be told what it shall do. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct ForkedGuest<W> {
    waiting: Waiting,
    plan: Plan,
    workload: PhantomData<W>,
}

/// A process of a container: ready to be started, or started. It is a child of the calling process,
/// which waits for it through [`Guest::pidfd`]. One that is dropped before it was started ends.
#[derive(Debug)]
pub struct Guest {
    name: String,
    pid: u32,
    pidfd: OwnedFd,
    /// None once it was started.
    control: Mutex<Option<Arc<OwnedFd>>>,
    /// What its workload said of itself.
    told: Option<String>,
    /// The user namespace that it is in, which its further processes enter; none: the node's.
    users: Option<OwnedFd>,
    /// The `/proc` that Linux programs beside it see; none: they see none.
    view: Option<View>,
    /// Whether SIGKILL ended it before it was ready.
    was_killed: bool,
}

/// Forks a container's first process, called `name`: the container's id. What `plan` says of it is
/// done when it is prepared. `adopt` is called with its number while it waits, outside its cgroup
/// still, when `entrance` is [`JoinMethod::Scope`].
///
/// # Errors
/// When the zygote cannot fork it or is lost, or `adopt` fails: then nothing of the process is
/// left.
pub fn fork<W: Workload>(
    zygote: &Zygote,
    name: String,
    plan: Plan,
    entrance: JoinMethod,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<ForkedGuest<W>, SandboxError> {
    let (entry, namespaces) = (
        child::container::<W>,
        sources::namespaces_to_make(&plan.namespaces),
    );
    let birth = Birth {
        name,
        entry,
        namespaces,
        entrance,
        oom_score_adj: plan.process.oom_score_adj,
    };
    Ok(ForkedGuest {
        waiting: birth.fork(zygote, adopt)?,
        plan,
        workload: PhantomData,
    })
}

impl<W: Workload> ForkedGuest<W> {
    /// Has the process carry its plan out; it is ready to start when the result is.
    ///
    /// # Errors
    /// When the orders cannot be written: then nothing of the process is left.
    pub fn prepare(self, new: NewGuest<W>) -> Result<Pending, SandboxError> {
        let Self { waiting, plan, .. } = self;
        let NewGuest {
            workload,
            stdio,
            rootfs,
        } = new;
        let host = SandboxError::Host;
        let users = plan
            .users
            .as_ref()
            .map(sources::users)
            .transpose()
            .map_err(host)?;
        let seen = plan.proc.clone();
        let orders = ContainerOrders {
            name: waiting.name.clone(),
            joined: sources::namespaces_to_join(&plan.namespaces).map_err(host)?,
            sources: sources::mounts(&plan.mounts, users.as_ref()).map_err(host)?,
            rootfs: WireFd::new(rootfs),
            proc: sources::proc_if(!plan.sysctls.is_empty() || sources::is_labelled(&plan.process))
                .map_err(host)?,
            users: sources::shared(users.as_ref()).map_err(host)?,
            stdio: stdio.into(),
            plan,
            workload,
        };
        Ok(waiting.obey(&orders)?.with_users(users).with_proc(seen))
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

    /// What its workload said of itself when it was ready ([`Workload::tell`]): no more than a
    /// claim, as the bytes of a guest may have taken the process over by then.
    pub fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// Ends it, which was not started, and waits for its end.
    fn end(self) {
        Unready::new(Child {
            pid: self.pid,
            pidfd: self.pidfd,
        })
        .end(Duration::ZERO);
    }

    /// Whether SIGKILL ended it before it was ready.
    pub fn was_killed(&self) -> bool {
        self.was_killed
    }

    /// Lets it run.
    ///
    /// # Errors
    /// When it was started before, or has ended. One that [was killed](Self::was_killed) counts as
    /// started.
    pub fn start(&self) -> Result<(), SandboxError> {
        if self.was_killed {
            return Ok(());
        }
        let control = self
            .control
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let control = control.ok_or_else(|| SandboxError::Started(self.name.clone()))?;
        write_all(&*control, &[START]).map_err(|_| SandboxError::Gone(self.name.clone()))
    }
}

/// What is decided about a process before it is forked.
struct Birth {
    name: String,
    entry: Entry,
    namespaces: u64,
    entrance: JoinMethod,
    oom_score_adj: Option<i32>,
}

impl Birth {
    /// Forks the process, which waits for its orders.
    fn fork(
        self,
        zygote: &Zygote,
        adopt: impl FnOnce(u32) -> Result<(), String>,
    ) -> Result<Waiting, SandboxError> {
        let Self {
            name,
            entry,
            namespaces,
            entrance,
            oom_score_adj,
        } = self;
        let host = SandboxError::Host;
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .step(|| format!("make a socket to {name}"))
        .map_err(host)?;
        set_socket_timeout(&control, Timeout::Send, Some(SEND_TIMEOUT))
            .step(|| format!("limit the wait for {name}"))
            .map_err(host)?;
        let mut request = SpawnRequest::new(entry, theirs, namespaces);
        let (cgroup_files, adoption) = match entrance {
            JoinMethod::Tasks(files) => (files, Adoption::Itself),
            JoinMethod::Folder(folder) => {
                request = request.in_cgroup(folder);
                (Vec::new(), Adoption::Itself)
            }
            JoinMethod::Scope => (Vec::new(), Adoption::ByHost),
        };
        let newborn = Unready::new(zygote.spawn(&request)?);
        // This end must be the child's alone, so that its end is seen.
        drop(request);
        if adoption == Adoption::ByHost {
            adopt(newborn.pid()).map_err(|cause| {
                host(Failure::of(format!("bring {name} into its cgroup"), cause))
            })?;
        }
        if let Some(adjustment) = oom_score_adj {
            let file = format!("/proc/{}/oom_score_adj", newborn.pid());
            std::fs::write(&file, adjustment.to_string())
                .step(|| format!("write {adjustment} to {file}"))
                .map_err(host)?;
        }
        Ok(Waiting {
            name,
            control,
            cgroup_files,
            newborn,
        })
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
    /// Gives the process its orders.
    fn obey(self, orders: &impl Serialize) -> Result<Pending, SandboxError> {
        let Self {
            name,
            control,
            cgroup_files,
            newborn,
        } = self;
        let orders = Message::of(orders)
            .step(|| format!("write the orders of {name}"))
            .map_err(SandboxError::Host)?;
        // A process that failed before it read them all has said why, or will.
        let sent = Message::of_descriptors(cgroup_files)
            .send(&control)
            .and_then(|()| orders.send(&control));
        Ok(Pending::new(name, control, newborn, sent))
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

#[cfg(test)]
mod tests;
