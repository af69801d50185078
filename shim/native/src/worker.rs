//! What happens in a worker: libcontainer creates a container, or a process in one.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use failures::chain;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Process;
use rustix::process::{Pid, getpgrp, setpgid};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::link::Message;
use crate::stdio::Terminal;
use crate::zygote::leave;

mod confinement;
mod executor;
mod keyring;
mod labels;
mod program;
mod recorder;
mod tongue;

use executor::Executor;
use labels::Labels;
use recorder::Recorder;
use tongue::Tongue;

/// What a worker is to do. All files exist; the worker writes beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Create a container.
    Create {
        /// Its id.
        id: String,
        /// A folder with its configuration, as libcontainer is to see it.
        bundle: PathBuf,
        /// Where libcontainer makes the folder of its state, named by the id.
        root: PathBuf,
        /// Where the number of its process is noted, as soon as there is one.
        pid_file: PathBuf,
        /// Whether systemd makes its cgroup.
        systemd: bool,
        /// The SELinux label of its process.
        label: Option<String>,
        /// Whether its streams are a terminal.
        terminal: Terminal,
    },
    /// Run a process in a container that runs.
    Exec {
        /// The container's id.
        id: String,
        /// The folder of the container's configuration.
        bundle: PathBuf,
        /// Where a copy of libcontainer's state of the container lies, in a folder named by the id.
        root: PathBuf,
        /// The process, as containerd gave it; libcontainer's version of it is written beside it.
        process: PathBuf,
        /// Where the number of the process is noted, as soon as there is one.
        pid_file: PathBuf,
        /// Whether its streams are a terminal.
        terminal: Terminal,
    },
}

impl Task {
    /// Where the number of the process is noted.
    pub(crate) fn pid_file(&self) -> &Path {
        match self {
            Self::Create { pid_file, .. } | Self::Exec { pid_file, .. } => pid_file,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { id, .. } => write!(formatter, "container {id}"),
            Self::Exec { id, .. } => write!(formatter, "a process in container {id}"),
        }
    }
}

/// A task with all that its worker needs.
pub(crate) struct Job {
    pub(crate) task: Task,
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) link: OwnedFd,
}

/// Runs in the worker.
pub(crate) fn work(job: Job) -> ! {
    let Job {
        task,
        streams,
        link,
    } = job;
    let home = getpgrp();
    let tongue = Arc::new(Tongue::new(link));
    let prepared = setpgid(None, None)
        .map_err(|error| format!("cannot make a process group: {error}"))
        .and_then(|()| {
            // The quota of the user that the container gets is for its own keys: this one is
            // root's.
            keyring::enter_own().map_err(|error| {
                format!("cannot make a keyring ({error}): see kernel.keys.root_maxkeys of the node")
            })
        });
    let result = match prepared {
        Ok(()) => tracing::subscriber::with_default(Recorder(Arc::clone(&tongue)), || {
            attempt(&task, streams, &tongue)
        }),
        Err(error) => Err(error),
    };
    // Out of the group, so that the host can wait for all of it and still knows that its number is
    // this process's. It cannot fail: the zygote is in the group that is returned to.
    let _ = setpgid(None, Some(home));
    tongue.say(&Message::done(result));
    leave(0)
}

fn attempt(task: &Task, streams: [OwnedFd; 3], tongue: &Arc<Tongue>) -> Result<u32, String> {
    let made = catch_unwind(AssertUnwindSafe(|| make(task, streams, tongue)));
    let pid = made.unwrap_or_else(|panic| {
        Err(format!(
            "libcontainer panicked: {}",
            failures::panic_message(panic.as_ref())
        ))
    })?;
    u32::try_from(pid.as_raw_pid()).map_err(|_| "libcontainer made no process".to_owned())
}

fn make(task: &Task, streams: [OwnedFd; 3], tongue: &Arc<Tongue>) -> Result<Pid, String> {
    match task {
        Task::Create {
            id,
            bundle,
            root,
            pid_file,
            systemd,
            label,
            terminal,
        } => {
            let executor = Executor::of_a_container(
                Arc::clone(tongue),
                *terminal,
                Labels::open(label.as_deref())?,
            );
            let builder = builder(id, root, pid_file, streams, executor).map_err(told)?;
            let container = builder
                .as_init(bundle)
                .as_sibling(true)
                .with_systemd(*systemd)
                .build()
                .map_err(told)?;
            container
                .pid()
                .and_then(|pid| Pid::from_raw(pid.as_raw()))
                .ok_or_else(|| "it has no process".to_owned())
        }
        Task::Exec {
            id,
            bundle,
            root,
            process: path,
            pid_file,
            terminal,
        } => {
            let spec = config::read(bundle).map_err(|error| chain(&error))?;
            let process = read_process(path)?;
            let (process, confinement) = confinement::of_exec(&spec, process);
            let adapted = path.with_extension("libcontainer.json");
            write_process(&adapted, &process)?;
            let labels = Labels::open(process.selinux_label().as_deref())?;
            let executor = Executor::of_an_exec(Arc::clone(tongue), *terminal, labels, confinement);
            let builder = builder(id, root, pid_file, streams, executor).map_err(told)?;
            let pid = builder
                .as_tenant()
                .with_process(Some(adapted))
                .as_sibling(true)
                .with_detach(true)
                .build()
                .map_err(told)?;
            Pid::from_raw(pid.as_raw()).ok_or_else(|| "it has no process".to_owned())
        }
    }
}

fn builder(
    id: &str,
    root: &Path,
    pid_file: &Path,
    streams: [OwnedFd; 3],
    executor: Executor,
) -> Result<ContainerBuilder, LibcontainerError> {
    let [stdin, stdout, stderr] = streams;
    let builder = ContainerBuilder::new(id.to_owned(), SyscallType::Linux).validate_id()?;
    let builder = builder
        .with_root_path(root)?
        .with_pid_file(Some(pid_file))?
        .with_executor(executor);
    Ok(builder
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr))
}

fn told(error: LibcontainerError) -> String {
    match error {
        // It keeps its causes to itself, but for this.
        LibcontainerError::CreateContainerError(error) => format!("{error} ({error:?})"),
        error => chain(&error),
    }
}

fn read_process(path: &Path) -> Result<Process, String> {
    let file =
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write_process(path: &Path, process: &Process) -> Result<(), String> {
    let bytes = serde_json::to_vec(process).map_err(|error| error.to_string())?;
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
