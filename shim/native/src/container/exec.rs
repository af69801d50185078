//! A further process in a running container (`kubectl exec`, exec probes).
//!
//! containerd creates it with one request and starts it with another; libcontainer does both at
//! once. So the first request is only kept, and starting does all the work: a missing program is
//! reported at the start.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use failures::chain;
use libcontainer::container::{Container as Libcontainer, ContainerStatus};
use oci_spec::runtime::Process;
use process_forker::{Child, Forkers};

use super::{Container, Home, write_json};
use crate::config;
use crate::error::NativeError;
use crate::reap::remove_folder;
use crate::spawn;
use crate::stdio::{Stdio, host_user};
use crate::task::Task;

/// A process that is to be started in a container.
#[derive(Debug)]
pub struct Exec {
    container: String,
    forkers: Arc<Forkers>,
    home: Home,
    /// Its files; made when it is started.
    folder: PathBuf,
    process: Process,
    stdio: Stdio,
}

/// A process that was started in a container, a child of this process. Its user waits for its exit,
/// and sends it signals, through [`ExecProcess::pidfd`].
#[derive(Debug)]
pub struct ExecProcess(Child);

impl ExecProcess {
    /// Returns its number, as the host sees it.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Returns a handle of it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }
}

impl Container {
    /// Describes a further process for this container, with the user, variables, folder,
    /// capabilities and limits of `process`, confined as the container is. [`Exec::start`] starts
    /// it.
    pub fn exec(&self, process: Process, stdio: Stdio) -> Exec {
        let number = self.execs.fetch_add(1, Ordering::Relaxed);
        let folder = self.home.0.join(format!("exec-{number}"));
        Exec {
            container: self.id.clone(),
            forkers: Arc::clone(&self.forkers),
            home: self.home.clone(),
            folder,
            process,
            stdio,
        }
    }
}

impl Exec {
    /// Starts the process. Blocks for some ten milliseconds.
    ///
    /// # Errors
    /// When the container does not run, there is no such program, or the process cannot be set up
    /// or confined. Then nothing of it is left.
    pub fn start(self) -> Result<ExecProcess, NativeError> {
        let folder = self.folder.clone();
        fs::create_dir(&folder).map_err(|source| NativeError::State {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        let started = self.run();
        if let Err(error) = remove_folder(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "the folder of a process that was \
                                                            started stays until its container is \
                                                            deleted");
        }
        started
    }

    fn run(self) -> Result<ExecProcess, NativeError> {
        let Self {
            container: id,
            forkers,
            home,
            folder,
            process,
            stdio,
        } = self;
        // libcontainer leaves a socket beside the container's state. With a copy of the state in
        // the process's folder, the socket is removed with that folder.
        let copy = folder.join(&id);
        copy_state(&home, &id, &copy)?;
        let container = Libcontainer::load(copy).map_err(|error| setup(&id, chain(&error)))?;
        if container.status() != ContainerStatus::Running {
            return Err(NativeError::NotRunning {
                id,
                status: container.status().to_string().to_lowercase(),
            });
        }
        let streams = stdio.streams()?;
        streams.give_to(host_user(&config::read(&home.0)?, &process));
        let process_file = folder.join("process.json");
        write_json(&process_file, &process)?;
        let pid_file = folder.join("pid");
        let task = Task::Exec {
            id,
            bundle: home.0,
            root: folder,
            process: process_file,
            pid_file,
            terminal: streams.terminal,
        };
        spawn::run(&forkers, task, streams).map(ExecProcess)
    }
}

fn copy_state(home: &Home, id: &str, copy: &Path) -> Result<(), NativeError> {
    let state = home.libcontainer_state(id);
    fs::create_dir(copy).map_err(|source| NativeError::State {
        action: "create",
        path: copy.to_owned(),
        source,
    })?;
    fs::copy(&state, copy.join("state.json")).map_err(|source| NativeError::State {
        action: "copy",
        path: state,
        source,
    })?;
    Ok(())
}

fn setup(id: &str, reason: String) -> NativeError {
    NativeError::Setup {
        what: format!("a process in container {id}"),
        reason,
    }
}
