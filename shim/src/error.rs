//! Errors of requests, and the code that containerd gets for each.

use std::io;

use container_cgroup::CgroupError;
use container_io::IoError;
use containerd_shim_protos::ttrpc::{self, Code};
use guest_sandbox::plan::Refused;
use guest_sandbox::{Failure, SandboxError};
use native_container::NativeError;
use pod_sandbox::PodError;
use process_forker::SpawnError;
use runtime_options::SettingError;
use shim_protocol::options::OptionsError;
use shim_protocol::record::RecordError;
use shim_protocol::wire::Malformed;
use thiserror::Error;

use crate::artifact::ArtifactError;
use crate::names::{NodePath, ProcessName};
use crate::text::chain;
use crate::workload::WorkloadError;
use crate::workload::image::ImageError;

/// A container, or a process in one, could not be made or changed. Each text names the object, what
/// is wrong with it, and the next step.
#[derive(Debug, Error)]
pub(crate) enum CreateError {
    /// The bundle's `config.json` cannot be used.
    #[error(
        "cannot read the OCI spec {file}: the bundle is damaged, delete the container and create \
         it again"
    )]
    Spec {
        /// The file.
        file: NodePath,
        /// The cause.
        source: oci_spec::OciSpecError,
    },
    /// A file of the bundle cannot be written.
    #[error("cannot write {file}")]
    Bundle {
        /// The file.
        file: NodePath,
        /// The cause.
        source: io::Error,
    },
    /// The handler's options cannot be used.
    #[error("the runtime's options cannot be used")]
    Options(#[from] OptionsError),
    /// The settings of the guest are not possible.
    #[error(transparent)]
    Settings(#[from] SettingError),
    /// A guest has no code that it could run.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A string that no C or WASI program can receive.
    #[error(
        "{field}[{index}] holds a NUL byte, which no WASI program can receive: remove it from the \
         container's definition"
    )]
    NulByte {
        /// The field of the spec.
        field: &'static str,
        /// The index of the entry.
        index: usize,
    },
    /// The image's layers could not be resolved.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image holds nothing that can be run.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The spec requests what a guest cannot have.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A standard stream could not be opened, or its kind is not supported.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The container's record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The root file system could not be mounted.
    #[error("cannot mount the container's root file system")]
    Rootfs(#[source] Failure),
    /// It could not be mounted where libcontainer looks for it.
    #[error("cannot mount the root file system at {}", place.display())]
    Attach {
        /// The mount point.
        place: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The cgroup could not be made or changed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A guest's process could not be set up or controlled.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A native container could not be set up or controlled.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// A pod's namespaces cannot be held.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// The container exited during the operation.
    #[error("container {id} has just ended")]
    Gone {
        /// The container's id.
        id: String,
        /// The observation that shows it.
        source: io::Error,
    },
    /// The kernel killed the process for lack of memory before it was ready.
    #[error(
        "cannot start {process}: out of memory: the kernel killed it while it was loaded, because \
         the container's memory limit leaves too little for it; raise resources.limits.memory"
    )]
    OutOfMemory {
        /// The process.
        process: ProcessName,
    },
    /// The host has no file descriptor left.
    #[error(
        "the host can open no more files: raise LimitNOFILE of containerd's service, or spread the \
         pods with the option `grouping`"
    )]
    Descriptors(#[source] io::Error),
    /// No thread for a set-up.
    #[error("start a thread for the set-up: the host has too many, or no memory")]
    Thread(#[source] io::Error),
    /// The host has as many containers as the options allow.
    #[error(
        "the host serves {limit} containers, which is what max_containers allows: raise it in the \
         runtime's options"
    )]
    Full {
        /// The maximum.
        limit: u32,
    },
    /// The host takes no more containers.
    #[error(
        "the process that forks guests was lost, so this host takes no more containers: delete the \
         pod, its replacement gets a new host"
    )]
    Draining,
    /// The host is about to end.
    #[error(
        "this host was idle, so it ends and takes no more containers: delete the pod, its \
         replacement gets a new host"
    )]
    Ending,
    /// Too many processes are set up in the pod at once.
    #[error(
        "container {id}: {limit} processes are being set up in its pod, which is the maximum: does \
         something in the pod stop them, or does a file system not answer?"
    )]
    SetupsBusy {
        /// The container's id.
        id: String,
        /// The maximum.
        limit: usize,
    },
    /// containerd cancelled the request.
    #[error("container {id}: the request was cancelled before its process was set up")]
    Cancelled {
        /// The container's id.
        id: String,
    },
    /// A bug of ours.
    #[error("internal error of the host, please report it: {0}")]
    Panicked(String),
}

impl CreateError {
    /// Returns whether this host can make no more containers of some kind.
    pub(crate) fn needs_new_host(&self) -> bool {
        matches!(
            self,
            Self::Sandbox(SandboxError::Spawn(SpawnError::Lost(_)))
                | Self::Native(NativeError::Spawn(SpawnError::Lost(_)))
        )
    }

    fn code(&self) -> Code {
        match self {
            Self::Spec { .. }
            | Self::Options(_)
            | Self::Settings(_)
            | Self::Artifact(ArtifactError::CannotRun { .. })
            | Self::NulByte { .. }
            | Self::Io(IoError::Kind { .. } | IoError::NoTerminal) => Code::INVALID_ARGUMENT,
            Self::Workload(WorkloadError::LookUpTimedOut { .. })
            | Self::Sandbox(SandboxError::TimedOut { .. }) => Code::DEADLINE_EXCEEDED,
            Self::Workload(WorkloadError::LookUpCancelled { .. })
            | Self::Sandbox(SandboxError::Cancelled { .. })
            | Self::Artifact(ArtifactError::Cancelled { .. })
            | Self::Cancelled { .. } => Code::CANCELLED,
            Self::Sandbox(SandboxError::Refused(_))
            | Self::Native(NativeError::Program(_))
            | Self::Workload(_)
            | Self::Image(_)
            | Self::Refused(_)
            | Self::Gone { .. } => Code::FAILED_PRECONDITION,
            Self::Artifact(ArtifactError::StillCompiling { .. }) => Code::UNAVAILABLE,
            Self::Descriptors(_)
            | Self::Thread(_)
            | Self::OutOfMemory { .. }
            | Self::Full { .. }
            | Self::SetupsBusy { .. } => Code::RESOURCE_EXHAUSTED,
            Self::Draining
            | Self::Ending
            | Self::Sandbox(SandboxError::Spawn(SpawnError::Lost(_) | SpawnError::Ended(_)))
            | Self::Native(NativeError::Spawn(SpawnError::Lost(_) | SpawnError::Ended(_))) => {
                Code::UNAVAILABLE
            }
            Self::Panicked(_) => Code::INTERNAL,
            Self::Artifact(ArtifactError::Store(_))
            | Self::Io(_)
            | Self::Record(_)
            | Self::Bundle { .. }
            | Self::Rootfs(_)
            | Self::Attach { .. }
            | Self::Cgroup(_)
            | Self::Sandbox(_)
            | Self::Native(_)
            | Self::Pod(_) => Code::UNKNOWN,
        }
    }
}

/// A request about a task failed.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    /// The container could not be created, or its process could not be controlled.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its streams could not be controlled.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No such task.
    #[error("there is no task {id}")]
    NotFound {
        /// The container's id.
        id: String,
    },
    /// No such exec process.
    #[error("task {id} has no process {exec}")]
    NoExec {
        /// The container's id.
        id: String,
        /// The exec's id.
        exec: String,
    },
    /// A task of that id exists.
    #[error("task {id} exists already")]
    Exists {
        /// The container's id.
        id: String,
    },
    /// An exec of that id exists.
    #[error("task {id} has a process {exec} already")]
    ExecExists {
        /// The container's id.
        id: String,
        /// The exec's id.
        exec: String,
    },
    /// It has exited, so it cannot be signalled.
    #[error("{process} has ended: process already finished")]
    Gone {
        /// The process.
        process: ProcessName,
    },
    /// The verb is not allowed in this state.
    #[error("{process} is not in a state for that: {why}")]
    WrongState {
        /// The process.
        process: ProcessName,
        /// The state, and the next step.
        why: &'static str,
    },
    /// An exec that was not started has no terminal yet.
    #[error("{process} was not started yet, so it has no terminal; start it first")]
    NotStarted {
        /// The process.
        process: ProcessName,
    },
    /// The sandbox container of a pod has no process.
    #[error(
        "{id} is the sandbox of a pod, which has no process of its own: name one of the pod's \
         containers"
    )]
    NoProcess {
        /// The container's id.
        id: String,
    },
    /// No such signal.
    #[error("there is no signal {signal}")]
    NoSignal {
        /// Its number.
        signal: u32,
    },
    /// A signal could not be sent.
    #[error("cannot send signal {signal} to {process}")]
    Signal {
        /// The process.
        process: ProcessName,
        /// The signal's number.
        signal: u32,
        /// The cause.
        source: io::Error,
    },
    /// The process that Exec adds cannot be decoded.
    #[error("the spec of process {exec} of task {id} is not a valid OCI process")]
    ExecSpec {
        /// The container's id.
        id: String,
        /// The exec's id.
        exec: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The pod configuration cannot be decoded.
    #[error("cannot decode CRI's configuration of the pod")]
    PodConfig {
        /// The cause.
        source: Malformed,
    },
    /// New limits cannot be decoded.
    #[error("the new limits of task {id} are not valid OCI resources")]
    Resources {
        /// The container's id.
        id: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A part of containerd's API that this runtime does not have.
    #[error("{what} is not supported by this runtime")]
    Unsupported {
        /// The requested feature.
        what: &'static str,
    },
    /// A part of a container cannot be removed.
    #[error("cannot remove the {what} of task {id}")]
    Remove {
        /// The container's id.
        id: String,
        /// The part.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bug of ours.
    #[error("internal error of the host in {verb}, please report it: {message}")]
    Panicked {
        /// The request.
        verb: &'static str,
        /// The panic's message.
        message: String,
    },
}

impl TaskError {
    /// Maps our errors to containerd's codes.
    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } | Self::NoExec { .. } | Self::Gone { .. } => Code::NOT_FOUND,
            Self::Exists { .. } | Self::ExecExists { .. } => Code::ALREADY_EXISTS,
            Self::WrongState { .. } | Self::NotStarted { .. } | Self::NoProcess { .. } => {
                Code::FAILED_PRECONDITION
            }
            Self::NoSignal { .. }
            | Self::ExecSpec { .. }
            | Self::PodConfig { .. }
            | Self::Resources { .. }
            | Self::Io(IoError::Kind { .. } | IoError::NoTerminal) => Code::INVALID_ARGUMENT,
            Self::Unsupported { .. } => Code::UNIMPLEMENTED,
            Self::Io(_) | Self::Signal { .. } | Self::Remove { .. } | Self::Panicked { .. } => {
                Code::INTERNAL
            }
            Self::Create(error) => error.code(),
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    /// containerd shows the text to the user, so it has the whole chain.
    fn from(error: TaskError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_code() {
        let id = || "c1".to_owned();
        let process = || ProcessName {
            container: id(),
            exec: String::new(),
        };
        let json = || serde_json::from_str::<u8>("x").unwrap_err();
        for (error, code) in [
            (TaskError::NotFound { id: id() }, Code::NOT_FOUND),
            (
                TaskError::NoExec {
                    id: id(),
                    exec: id(),
                },
                Code::NOT_FOUND,
            ),
            (TaskError::Gone { process: process() }, Code::NOT_FOUND),
            (TaskError::Exists { id: id() }, Code::ALREADY_EXISTS),
            (
                TaskError::ExecExists {
                    id: id(),
                    exec: id(),
                },
                Code::ALREADY_EXISTS,
            ),
            (
                TaskError::WrongState {
                    process: process(),
                    why: "x",
                },
                Code::FAILED_PRECONDITION,
            ),
            (
                TaskError::NotStarted { process: process() },
                Code::FAILED_PRECONDITION,
            ),
            (TaskError::NoProcess { id: id() }, Code::FAILED_PRECONDITION),
            (TaskError::NoSignal { signal: 99 }, Code::INVALID_ARGUMENT),
            (
                TaskError::ExecSpec {
                    id: id(),
                    exec: id(),
                    source: json(),
                },
                Code::INVALID_ARGUMENT,
            ),
            (
                TaskError::PodConfig {
                    source: Malformed { at: 0 },
                },
                Code::INVALID_ARGUMENT,
            ),
            (
                TaskError::Resources {
                    id: id(),
                    source: json(),
                },
                Code::INVALID_ARGUMENT,
            ),
            (TaskError::Unsupported { what: "x" }, Code::UNIMPLEMENTED),
            (
                TaskError::Panicked {
                    verb: "create",
                    message: id(),
                },
                Code::INTERNAL,
            ),
            (
                CreateError::NulByte {
                    field: "process.args",
                    index: 0,
                }
                .into(),
                Code::INVALID_ARGUMENT,
            ),
            (
                CreateError::Workload(WorkloadError::NoEntrypoint).into(),
                Code::FAILED_PRECONDITION,
            ),
            (
                CreateError::Workload(WorkloadError::LookUpTimedOut {
                    entrypoint: id(),
                    seconds: 1,
                    on: id(),
                })
                .into(),
                Code::DEADLINE_EXCEEDED,
            ),
            (
                CreateError::Image(ImageError::ImageGone { image: id() }).into(),
                Code::FAILED_PRECONDITION,
            ),
            (
                CreateError::Full { limit: 1 }.into(),
                Code::RESOURCE_EXHAUSTED,
            ),
            (
                CreateError::SetupsBusy { id: id(), limit: 1 }.into(),
                Code::RESOURCE_EXHAUSTED,
            ),
            (CreateError::Cancelled { id: id() }.into(), Code::CANCELLED),
            (
                CreateError::from(SandboxError::Cancelled { name: id() }).into(),
                Code::CANCELLED,
            ),
            (
                CreateError::from(SandboxError::TimedOut {
                    name: id(),
                    seconds: 1,
                    wait: id(),
                })
                .into(),
                Code::DEADLINE_EXCEEDED,
            ),
            (CreateError::Draining.into(), Code::UNAVAILABLE),
            (CreateError::Ending.into(), Code::UNAVAILABLE),
            (CreateError::Panicked(id()).into(), Code::INTERNAL),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn lost_forking_process_is_unavailable_and_ends_the_host_only_without_a_replacement() {
        let errors = |error: fn(String) -> SpawnError| {
            let text = || "it ended".to_owned();
            let guest = CreateError::from(SandboxError::from(error(text())));
            [guest, CreateError::from(NativeError::from(error(text())))]
        };
        for error in errors(SpawnError::Ended) {
            assert!(!error.needs_new_host(), "{error}");
            assert_eq!(error.code(), Code::UNAVAILABLE, "{error}");
        }
        for error in errors(SpawnError::Lost) {
            assert!(error.needs_new_host(), "{error}");
            assert_eq!(error.code(), Code::UNAVAILABLE, "{error}");
        }
    }

    #[test]
    fn whole_chain_reaches_the_user() {
        let process = ProcessName {
            container: "c1".to_owned(),
            exec: "e1".to_owned(),
        };
        let error = TaskError::Signal {
            process,
            signal: 15,
            source: io::Error::other("disk on fire"),
        };
        assert_eq!(
            chain(&error),
            "cannot send signal 15 to process e1 of task c1: disk on fire"
        );
    }
}
