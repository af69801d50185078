//! One native container: created, started, deleted.
//!
//! All files are below `native` in the container's own folder:
//!
//! ```text
//! native/config.json      the edited configuration; libcontainer's bundle is this folder
//!        pid              the number of the container's process, written while it is being created
//!        root/<id>/       libcontainer's state
//!        exec-<n>/        a process that is being started in the container; gone once it runs
//! ```

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use failures::chain;
use libcontainer::container::Container as Libcontainer;
use nix::sched::{CloneFlags, unshare};
use process_forker::{Child, Forkers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::config;
use crate::error::NativeError;
use crate::reap::{containers, remove_folder};
use crate::spawn;
use crate::stdio::{Stdio, Terminal, host_user};
use crate::task::Task;

pub(crate) mod exec;

/// How long a killed process is waited for. It ends in milliseconds, unless it waits for a disk or
/// a server that does not answer.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The parts of a native container.
#[derive(Debug)]
pub struct NewContainer {
    /// Its id.
    pub id: String,
    /// containerd's bundle: a folder with `config.json` and the root file system, mounted.
    pub bundle: PathBuf,
    /// A folder of this container's own, which exists.
    pub state: PathBuf,
    /// The processes that it sees if its configuration names the host's pid namespace.
    pub processes: Processes,
    /// Whether systemd makes its cgroup; else the runtime writes to the cgroup file system.
    pub systemd: bool,
    /// Its standard streams.
    pub stdio: Stdio,
}

/// The processes that a container sees if its configuration names the host's pid namespace. The
/// sandbox of its pod is a thread of the host, so the configuration is the same for a pod that
/// shares its processes and for one that sees the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// Its own.
    Own,
    /// The node's (`hostPID: true`).
    Node,
}

/// A native container. Its process, a child of this process, waits for [`Container::start`]. Its
/// user waits for its exit, and sends it signals, through [`Container::pidfd`].
#[derive(Debug)]
pub struct Container {
    id: String,
    home: Home,
    process: Child,
    /// Fork the workers of its execs.
    forkers: Arc<Forkers>,
    execs: AtomicU64,
}

/// The folder of a container's files.
#[derive(Debug, Clone)]
struct Home(PathBuf);

impl Home {
    fn of(state: &Path) -> Self {
        Self(state.join("native"))
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// libcontainer's folder of the container.
    fn libcontainer(&self, id: &str) -> PathBuf {
        self.root().join(id)
    }

    fn libcontainer_state(&self, id: &str) -> PathBuf {
        self.libcontainer(id).join("state.json")
    }
}

/// Creates a container and waits until its process is ready to start. Blocks for some ten
/// milliseconds, or for as long as the container's hooks take.
///
/// # Errors
/// When the process cannot be set up, or its program cannot be run. Then nothing of the container
/// is left.
pub fn create(forkers: &Arc<Forkers>, new: NewContainer) -> Result<Container, NativeError> {
    let NewContainer {
        id,
        bundle,
        state,
        processes,
        systemd,
        stdio,
    } = new;
    let mut spec = config::read(&bundle)?;
    let streams = stdio.streams()?;
    let console = match streams.terminal {
        Terminal::Yes => Some(config::terminal_path(&streams.descriptors[0])?),
        Terminal::No => None,
    };
    config::prepare(&mut spec, &bundle, console.as_deref(), processes)?;
    if let Some(process) = spec.process() {
        streams.give_to(host_user(&spec, process));
    }
    let home = Home::of(&state);
    make_private(&home.0)?;
    let created = write_json(&home.config(), &spec).and_then(|()| {
        let label = spec
            .process()
            .as_ref()
            .and_then(|process| process.selinux_label().clone());
        let task = Task::Create {
            id: id.clone(),
            bundle: home.0.clone(),
            root: home.root(),
            pid_file: home.0.join("pid"),
            systemd,
            label,
            terminal: streams.terminal,
        };
        spawn::run(forkers, task, streams)
    });
    match created {
        Ok(process) => {
            containers().insert(process.pid);
            Ok(Container {
                id,
                home,
                process,
                forkers: Arc::clone(forkers),
                execs: AtomicU64::new(0),
            })
        }
        Err(error) => {
            if let Err(error) = remove_folder(&home.0) {
                tracing::warn!(container = id, %error, "the folder of a container that could not \
                                                        be created stays");
            }
            Err(error)
        }
    }
}

impl Container {
    /// Returns the number of the container's first process, as the host sees it.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Returns a handle of the container's first process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When it has ended, was started already, or a poststart hook fails.
    pub fn start(&self) -> Result<(), NativeError> {
        let failed = |reason| NativeError::Start {
            id: self.id.clone(),
            reason,
        };
        let folder = self.home.libcontainer(&self.id);
        // libcontainer changes the working directory, which all threads of a process share. So it
        // runs in a thread with a working directory of its own.
        let thread = std::thread::Builder::new().name("native-start".to_owned());
        let started = std::thread::scope(|scope| {
            let run = move || {
                unshare(CloneFlags::CLONE_FS).map_err(|error| error.to_string())?;
                Libcontainer::load(folder)
                    .and_then(|mut container| container.start())
                    .map_err(|error| chain(&error))
            };
            let thread = thread
                .spawn_scoped(scope, run)
                .map_err(|error| error.to_string())?;
            thread
                .join()
                .unwrap_or_else(|_| Err("libcontainer panicked".to_owned()))
        });
        started.map_err(failed)
    }

    /// Kills what still runs of the container, runs its poststop hooks, and removes its cgroup and
    /// state. The caller still has to reap the container's process. Deleting again does nothing.
    ///
    /// # Errors
    /// When a part of it cannot be removed; then it can be tried again.
    pub fn delete(&self) -> Result<(), NativeError> {
        let not_deleted = |reason| NativeError::NotDeleted {
            id: self.id.clone(),
            reason,
        };
        self.end().map_err(not_deleted)?;
        if self.home.libcontainer_state(&self.id).exists() {
            let mut container = Libcontainer::load(self.home.libcontainer(&self.id))
                .map_err(|error| not_deleted(chain(&error)))?;
            container
                .delete(true)
                .map_err(|error| not_deleted(chain(&error)))?;
        }
        remove_folder(&self.home.0)
            .map_err(|error| not_deleted(format!("{}: {error}", self.home.0.display())))
    }

    fn end(&self) -> Result<(), String> {
        let has_ended = |wait: Duration| {
            let wait = Timespec::try_from(wait).map_err(|error| error.to_string())?;
            poll(
                &mut [PollFd::new(&self.process.pidfd, PollFlags::IN)],
                Some(&wait),
            )
            .map(|ready| ready > 0)
            .map_err(|error| error.to_string())
        };
        if has_ended(Duration::ZERO)? {
            return Ok(());
        }
        // It may end by itself, and be reaped, between the two.
        let _ = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        let killed = format!(
            "process {} was killed and has not ended after {END_TIMEOUT:?}",
            self.process.pid
        );
        if has_ended(END_TIMEOUT)? {
            Ok(())
        } else {
            Err(killed)
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        containers().remove(&self.process.pid);
    }
}

/// Makes a folder that only root can read: its files contain the container's environment. It fails
/// if the folder above is missing, or if the container exists already.
fn make_private(folder: &Path) -> Result<(), NativeError> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|source| NativeError::State {
        action: "create",
        path: folder.to_owned(),
        source,
    })
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), NativeError> {
    let written = serde_json::to_vec(value)
        .map_err(std::io::Error::from)
        .and_then(|bytes| fs::write(path, bytes));
    written.map_err(|source| NativeError::State {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
