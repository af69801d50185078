//! The host's side of a guest's process: spawned, set up, waited for until it is ready, started.
//!
//! ```text
//! host                               zygote                guest's process
//!  │ spawn request ──────────────────► │ clone3 ───────────► │ waits for its setup request
//!  │ ◄────────────────── number, pidfd │                     │
//!  │ cgroup (systemd), oom_score_adj                         │
//!  │ open namespaces                                         │
//!  │ cgroup files, setup request ──────────────────────────► │ clones mounts, applies it, prepares the workload
//!  │ ◄────────────────────────── ready, or the failed step ──│
//!  │ start ────────────────────────────────────────────────► │ runs
//! ```
//!
//! | file | what |
//! |---|---|
//! | `guest/pending.rs` | a process that applies its setup request; its user decides how to wait, and how long |
//! | `guest/reap.rs` | killing and reaping a process that does not become ready |
//! | `guest/address_space.rs` | the check of a limit of the address space |
//! | `guest/exec.rs` | more processes in a container |
//! | `guest/view.rs` | the `/proc` that Linux programs among those see |
//! | `guest/holder.rs` | a process that holds a pod's namespaces |
//! | `guest/sources.rs` | namespaces and files that the host opens for a process |

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use container_cgroup::JoinMethod;
use process_forker::{Child, Entry, SpawnRequest, Zygote};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::Serialize;

use crate::child;
use crate::child::messages::{ContainerSetup, START};
use crate::error::{Failure, SandboxError, Step as _};
use crate::plan::Plan;
use crate::wire::{Message, WireFd, write_all};
use crate::workload::Workload;
use reap::ChildGuard;
use view::View;

mod address_space;
mod exec;
mod holder;
mod pending;
mod reap;
pub(crate) mod sources;
mod view;

pub use exec::{NewExec, NewNativeExec, exec, exec_native};
pub use holder::{NewHolder, hold};
pub use pending::{Killed, Pending, Progress};

/// How long a process may take to read its setup request, which begins with its cgroup's files.
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

/// The parts of a guest's container beside its plan.
#[derive(Debug)]
pub struct NewGuest<W> {
    /// The guest and its engine.
    pub workload: W,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Its root file system, as [`rootfs::mount`](crate::rootfs::mount) returns it.
    pub rootfs: OwnedFd,
}

/// A container's first process, which waits for its setup request. It is killed when this is
/// dropped.
#[derive(Debug)]
pub struct ForkedGuest<W> {
    process: ForkedProcess,
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
    /// Its user namespace, which its further processes enter; none: the node's.
    users: Option<OwnedFd>,
    /// The `/proc` of Linux programs beside it; none: they see none.
    view: Option<View>,
    /// Whether SIGKILL ended it before it was ready.
    was_killed: bool,
}

/// Forks a container's first process, called `name`: the container's id. `plan` is applied when it
/// is prepared. `join` is called with its number while it waits, outside its cgroup
/// still, when `join_method` is [`JoinMethod::Scope`].
///
/// # Errors
/// When the zygote cannot fork it or is lost, or `join` fails: then nothing of the process is
/// left.
pub fn fork<W: Workload>(
    zygote: &Zygote,
    name: String,
    plan: Plan,
    join_method: JoinMethod,
    join: impl FnOnce(u32) -> Result<(), String>,
) -> Result<ForkedGuest<W>, SandboxError> {
    let (entry, namespaces) = (
        child::container::<W>,
        sources::namespaces_to_make(&plan.namespaces),
    );
    let new_process = NewProcess {
        name,
        entry,
        namespaces,
        join_method,
        oom_score_adj: plan.process.oom_score_adj,
    };
    Ok(ForkedGuest {
        process: new_process.fork(zygote, join)?,
        plan,
        workload: PhantomData,
    })
}

impl<W: Workload> ForkedGuest<W> {
    /// Has the process apply its plan; it can be started when the result is ready.
    ///
    /// # Errors
    /// When the setup request cannot be written: then nothing of the process is left.
    pub fn prepare(self, new: NewGuest<W>) -> Result<Pending, SandboxError> {
        let Self { process, plan, .. } = self;
        let NewGuest {
            workload,
            stdio,
            rootfs,
        } = new;
        let host = SandboxError::Host;
        address_space::check(process.child.pid(), &plan.process)?;
        let users = plan
            .users
            .as_ref()
            .map(sources::users)
            .transpose()
            .map_err(host)?;
        let seen = plan.proc.clone();
        let request = ContainerSetup {
            name: process.name.clone(),
            joined: sources::namespaces_to_join(&plan.namespaces).map_err(host)?,
            sources: sources::source_namespaces(&plan.mounts, process.child.pid()).map_err(host)?,
            rootfs: WireFd::new(rootfs),
            proc: sources::proc_if(!plan.sysctls.is_empty() || sources::is_labelled(&plan.process))
                .map_err(host)?,
            users: sources::shared(users.as_ref()).map_err(host)?,
            stdio: stdio.into(),
            plan,
            workload,
        };
        Ok(process.set_up(&request)?.with_users(users).with_proc(seen))
    }
}

impl Guest {
    /// Returns its number in the host's pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns a handle that is readable when it has ended; its exit status is read with waitid(2)
    /// and `P_PIDFD`.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it before it was started, and waits for its end.
    fn end(self) {
        ChildGuard::new(Child {
            pid: self.pid,
            pidfd: self.pidfd,
        })
        .end(Duration::ZERO);
    }

    /// Returns whether SIGKILL ended it before it was ready.
    pub fn was_killed(&self) -> bool {
        self.was_killed
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it was started before, or has ended. One that [was killed](Self::was_killed) counts as
    /// started.
    pub fn start(&self) -> Result<(), SandboxError> {
        if self.was_killed {
            return Ok(());
        }
        let control = failures::lock_ignoring_poison(&self.control).take();
        let control = control.ok_or_else(|| SandboxError::Started(self.name.clone()))?;
        write_all(&*control, &[START]).map_err(|_| SandboxError::Gone(self.name.clone()))
    }
}

/// A process that is to be forked.
struct NewProcess {
    name: String,
    entry: Entry,
    namespaces: u64,
    join_method: JoinMethod,
    oom_score_adj: Option<i32>,
}

impl NewProcess {
    /// Forks the process, which waits for its setup request.
    fn fork(
        self,
        zygote: &Zygote,
        join: impl FnOnce(u32) -> Result<(), String>,
    ) -> Result<ForkedProcess, SandboxError> {
        let Self {
            name,
            entry,
            namespaces,
            join_method,
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
        let (cgroup_files, joined_by) = match join_method {
            JoinMethod::Tasks(files) => (files, JoinedBy::Itself),
            JoinMethod::Folder(folder) => {
                request = request.in_cgroup(folder);
                (Vec::new(), JoinedBy::Itself)
            }
            JoinMethod::Scope => (Vec::new(), JoinedBy::Host),
        };
        let child = ChildGuard::new(zygote.spawn(&request)?);
        // This end must be the child's alone, so that its end is seen.
        drop(request);
        if joined_by == JoinedBy::Host {
            join(child.pid()).map_err(|cause| {
                host(Failure::of(format!("bring {name} into its cgroup"), cause))
            })?;
        }
        if let Some(adjustment) = oom_score_adj {
            let file = format!("/proc/{}/oom_score_adj", child.pid());
            std::fs::write(&file, adjustment.to_string())
                .step(|| format!("write {adjustment} to {file}"))
                .map_err(host)?;
        }
        Ok(ForkedProcess {
            name,
            control,
            cgroup_files,
            child,
        })
    }
}

/// A process that waits for its setup request. It is killed when this is dropped.
#[derive(Debug)]
struct ForkedProcess {
    name: String,
    control: OwnedFd,
    /// The files through which it joins its cgroup, if it was not forked into it.
    cgroup_files: Vec<OwnedFd>,
    child: ChildGuard,
}

impl ForkedProcess {
    /// Sends the process its setup request.
    fn set_up(self, request: &impl Serialize) -> Result<Pending, SandboxError> {
        let Self {
            name,
            control,
            cgroup_files,
            child,
        } = self;
        let request = Message::of(request)
            .step(|| format!("write the setup request of {name}"))
            .map_err(SandboxError::Host)?;
        // A process that failed before it read all of it has reported why, or will.
        let sent = Message::of_descriptors(cgroup_files)
            .send(&control)
            .and_then(|()| request.send(&control));
        Ok(Pending::new(name, control, child, sent))
    }
}

/// The process that brings another one into its cgroup.
#[derive(PartialEq, Eq)]
enum JoinedBy {
    /// It was forked there, or joins by itself.
    Itself,
    /// The host has systemd move it.
    Host,
}

#[cfg(test)]
mod tests;
