//! A worker: libcontainer creates a container in it, or a process in a container.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use failures::chain;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Process;
use process_forker::wire::{MAX_REQUEST, Message};
use process_forker::{WireFd, enter_own_keyring};
use rustix::process::{Pid, getpgid, getppid, setpgid};
use rustix::thread::set_name;

use crate::config;
use crate::reply::Reply;
use crate::task::{Assignment, Task};

mod confinement;
mod executor;
mod labels;
mod program;
mod recorder;
mod reporter;

use executor::Executor;
use labels::Labels;
use recorder::Recorder;
use reporter::Reporter;

/// The exit code of a worker that got no task: its host has ended.
const NO_TASK: u8 = 1;

/// The entry of a worker.
pub(crate) fn run(control: OwnedFd) -> u8 {
    // So that `ps` shows it apart from the process that forked it.
    let _ = set_name(c"native-worker");
    let Ok(Assignment { task, streams }) =
        Message::receive(&control, MAX_REQUEST).and_then(Message::value)
    else {
        return NO_TASK;
    };
    let streams = streams.map(WireFd::into_inner);
    let reporter = Arc::new(Reporter::new(control));
    let prepared = setpgid(None, None)
        .map_err(|error| format!("cannot make a process group: {error}"))
        .and_then(|()| {
            // The quota of the user that the container gets is for its own keys: this one is
            // root's.
            enter_own_keyring().map_err(|error| {
                format!("cannot make a keyring ({error}): see kernel.keys.root_maxkeys of the node")
            })
        });
    let result = match prepared {
        Ok(()) => tracing::subscriber::with_default(Recorder(Arc::clone(&reporter)), || {
            attempt(&task, streams, &reporter)
        }),
        Err(error) => Err(error),
    };
    // Out of its group, so that the host can wait for all of that and the worker's number is still
    // the worker's. The host is in the group that is entered.
    let _ = getpgid(getppid()).and_then(|group| setpgid(None, Some(group)));
    reporter.send(&Reply::done(result));
    0
}

fn attempt(task: &Task, streams: [OwnedFd; 3], reporter: &Arc<Reporter>) -> Result<u32, String> {
    let made = catch_unwind(AssertUnwindSafe(|| make(task, streams, reporter)));
    let pid = made.unwrap_or_else(|panic| {
        Err(format!(
            "libcontainer panicked: {}",
            failures::panic_message(panic.as_ref())
        ))
    })?;
    u32::try_from(pid.as_raw_pid()).map_err(|_| "libcontainer made no process".to_owned())
}

fn make(task: &Task, streams: [OwnedFd; 3], reporter: &Arc<Reporter>) -> Result<Pid, String> {
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
                Arc::clone(reporter),
                *terminal,
                Labels::open(label.as_deref())?,
            );
            let builder = builder(id, root, pid_file, streams, executor).map_err(describe)?;
            let container = builder
                .as_init(bundle)
                .as_sibling(true)
                .with_systemd(*systemd)
                .build()
                .map_err(describe)?;
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
            let executor =
                Executor::of_an_exec(Arc::clone(reporter), *terminal, labels, confinement);
            let builder = builder(id, root, pid_file, streams, executor).map_err(describe)?;
            let pid = builder
                .as_tenant()
                .with_process(Some(adapted))
                .as_sibling(true)
                .with_detach(true)
                .build()
                .map_err(describe)?;
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

fn describe(error: LibcontainerError) -> String {
    match error {
        // Its causes are only in this form.
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
