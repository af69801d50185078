//! Why a request failed, and the code that containerd gets for it.

use std::io;

use container_cgroup::CgroupError;
use container_io::IoError;
use containerd_shim_protos::ttrpc::{self, Code};
use guest_sandbox::plan::Refused;
use guest_sandbox::{Failure, SandboxError};
use native_container::NativeError;
use pod_sandbox::PodError;
use shim_protocol::options::OptionsError;
use shim_protocol::record::RecordError;
use shim_protocol::wire::Malformed;
use thiserror::Error;

mod text;

pub use text::{chain, presentable, presentable_name};

use crate::paths::NodePath;
use crate::process::Name;
use crate::workload::WorkloadError;
use crate::workload::image::ImageError;

/// Why a container, or a process in one, could not be made or changed. Each text names the object,
/// what is wrong with it, and the next step.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The bundle's `config.json` cannot be used.
    #[error(
        "cannot read the OCI spec {file}: the bundle is damaged, delete the container and create \
         it again"
    )]
    Spec {
        /// The file.
        file: NodePath,
        /// Why.
        source: oci_spec::OciSpecError,
    },
    /// A file of the bundle cannot be written.
    #[error("cannot write {file}")]
    Bundle {
        /// The file.
        file: NodePath,
        /// Why.
        source: io::Error,
    },
    /// The handler's options cannot be used.
    #[error("the runtime's options cannot be used")]
    Options(#[from] OptionsError),
    /// A string that no C or WASI program can receive.
    #[error(
        "{field}[{index}] holds a NUL byte, which no WASI program can receive: remove it from the \
         container's definition"
    )]
    NulByte {
        /// The field of the spec.
        field: &'static str,
        /// Which of its entries.
        index: usize,
    },
    /// What the image holds could not be found out.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image holds nothing that can be run.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The spec asks for what a guest cannot have.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A standard stream could not be opened, or is of a kind that is not served.
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
        /// Where.
        place: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cgroup could not be made or changed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A guest's process could not be set up, or did not do what it was asked to.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A native container could not be set up, or did not do what it was asked to.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// A pod's namespaces cannot be held.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// The container ended in the middle.
    #[error("container {id} has just ended")]
    Gone {
        /// The container's id.
        id: String,
        /// What was seen of it.
        source: io::Error,
    },
    /// This process may open no more files.
    #[error(
        "the host can open no more files: raise LimitNOFILE of containerd's service, or spread the \
         pods with the option `grouping`"
    )]
    Descriptors(#[source] io::Error),
    /// As many containers as the options allow.
    #[error(
        "the host serves {limit} containers, which is what max_containers allows: raise it in the \
         runtime's options"
    )]
    Full {
        /// The most that are allowed.
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
        "nobody needed this host, so it ends and takes no more containers: delete the pod, its \
         replacement gets a new host"
    )]
    Ending,
    /// Too many processes of exec are set up in the pod at once.
    #[error(
        "container {id}: {limit} processes of exec are being set up in its pod, which is the most \
         at a time: does something in the pod stop \
         them, or does a file system not answer?"
    )]
    ExecBusy {
        /// The container's id.
        id: String,
        /// How many.
        limit: usize,
    },
    /// containerd cancelled the request.
    #[error("container {id}: the request was cancelled before its process was set up")]
    Cancelled {
        /// The container's id.
        id: String,
    },
    /// A mistake of ours.
    #[error("the host made a mistake, please report it: {0}")]
    Panicked(String),
}

impl CreateError {
    /// Whether this host can make no more containers of some kind.
    pub fn is_end_of_forks(&self) -> bool {
        matches!(
            self,
            Self::Sandbox(SandboxError::ZygoteLost(_)) | Self::Native(NativeError::ZygoteLost(_))
        )
    }

    fn code(&self) -> Code {
        match self {
            Self::Spec { .. }
            | Self::Options(_)
            | Self::NulByte { .. }
            | Self::Io(IoError::Kind { .. } | IoError::NoTerminal) => Code::INVALID_ARGUMENT,
            Self::Workload(WorkloadError::NotAnswered { .. })
            | Self::Sandbox(SandboxError::TimedOut { .. }) => Code::DEADLINE_EXCEEDED,
            Self::Workload(WorkloadError::LookUpGivenUp { .. })
            | Self::Sandbox(SandboxError::Cancelled { .. })
            | Self::Cancelled { .. } => Code::CANCELLED,
            Self::Sandbox(SandboxError::Refused(_))
            | Self::Native(NativeError::Program(_))
            | Self::Workload(_)
            | Self::Image(_)
            | Self::Refused(_)
            | Self::Gone { .. } => Code::FAILED_PRECONDITION,
            Self::Descriptors(_) | Self::Full { .. } | Self::ExecBusy { .. } => {
                Code::RESOURCE_EXHAUSTED
            }
            Self::Draining
            | Self::Ending
            | Self::Sandbox(SandboxError::ZygoteLost(_) | SandboxError::ZygoteEnded(_))
            | Self::Native(NativeError::ZygoteLost(_) | NativeError::ZygoteEnded { .. }) => {
                Code::UNAVAILABLE
            }
            Self::Panicked(_) => Code::INTERNAL,
            Self::Io(_)
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

/// Why a request about a task failed.
#[derive(Debug, Error)]
pub enum TaskError {
    /// It could not be created, or its process did not do what it was asked to.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its streams did not do what they were asked to.
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
    /// It has ended, so there is nothing to send a signal to.
    #[error("{process} has ended: process already finished")]
    Gone {
        /// Which.
        process: Name,
    },
    /// Not in this state.
    #[error("{process} is not in a state for that: {why}")]
    WrongState {
        /// Which.
        process: Name,
        /// In which state it is, and what to do.
        why: &'static str,
    },
    /// An exec that was not started has no terminal yet.
    #[error("{process} was not started yet, so it has no terminal; start it first")]
    NotStarted {
        /// Which.
        process: Name,
    },
    /// The sandbox container of a pod is no process.
    #[error(
        "{id} is the sandbox of a pod, which is no process of its own: name one of the pod's \
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
        /// To which process.
        process: Name,
        /// Its number.
        signal: u32,
        /// Why.
        source: io::Error,
    },
    /// What exec shall run cannot be read.
    #[error("the process {exec} that shall run in task {id} is no OCI process")]
    ExecSpec {
        /// The container's id.
        id: String,
        /// The exec's id.
        exec: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A pod that cannot be read.
    #[error("what CRI says of the pod cannot be read")]
    PodConfig {
        /// Why.
        source: Malformed,
    },
    /// New limits that cannot be read.
    #[error("the new limits of task {id} are no OCI resources")]
    Resources {
        /// The container's id.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Part of containerd's API that this runtime does not have.
    #[error("{what} is not served by this runtime")]
    Unserved {
        /// What was asked for.
        what: &'static str,
    },
    /// Something of a container cannot be removed.
    #[error("cannot remove the {what} of task {id}")]
    Remove {
        /// The container's id.
        id: String,
        /// What.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A mistake of ours.
    #[error("the host made a mistake in {verb}, please report it: {said}")]
    Panicked {
        /// What was asked for.
        verb: &'static str,
        /// The panic's words.
        said: String,
    },
}

impl TaskError {
    /// The one table from our errors to containerd's codes.
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
            Self::Unserved { .. } => Code::UNIMPLEMENTED,
            Self::Io(_) | Self::Signal { .. } | Self::Remove { .. } | Self::Panicked { .. } => {
                Code::INTERNAL
            }
            Self::Create(error) => error.code(),
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    /// containerd shows the text to the user, so the whole chain goes into it.
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
        let process = || Name {
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
            (TaskError::Unserved { what: "x" }, Code::UNIMPLEMENTED),
            (
                TaskError::Panicked {
                    verb: "create",
                    said: id(),
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
                CreateError::Workload(WorkloadError::NotAnswered {
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
                CreateError::ExecBusy { id: id(), limit: 1 }.into(),
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
    fn the_whole_chain_reaches_the_user() {
        let process = Name {
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
