//! Why a request failed, and the code that containerd gets for it.

use std::io;

use containerd_shim::protos::ttrpc::{self, Code};
use thiserror::Error;

use crate::guest::GuestError;
use crate::guest::image::ImageError;
use crate::paths::HostPath;

/// Why a container could not be created. Each text names the object, what is wrong with it, and the next step.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The bundle's `config.json` cannot be used.
    #[error("cannot read the OCI spec {file}: the bundle is damaged, delete the container and create it again")]
    Spec {
        /// The file.
        file: HostPath,
        /// Why.
        source: oci_spec::OciSpecError,
    },
    /// The handler's options in containerd's configuration cannot be used.
    #[error("the runtime's options in containerd's configuration cannot be used: {reason}")]
    Options {
        /// Why.
        reason: String,
    },
    /// A string that no C or WASI program can receive.
    #[error("{field}[{index}] holds a NUL byte, which no WASI program can receive: remove it from the container's definition")]
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
    Guest(#[from] GuestError),
    /// A standard stream could not be opened.
    #[error("cannot open {stream} ({path})")]
    Stdio {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// What containerd named.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A standard stream of a kind that this runtime does not serve.
    #[error("{stream} is {path}: only FIFOs and files are served; use containerd's default logging")]
    StdioKind {
        /// `stdin`, `stdout` or `stderr`.
        stream: &'static str,
        /// What containerd named.
        path: String,
    },
    /// The container's process could not be set up; the text is what the process itself said.
    #[error("{0}")]
    Sandbox(String),
    /// The zygote is gone: it was killed, or it ran out of memory.
    #[error("the process that forks containers does not answer ({0}): delete the pod, its replacement gets a new one")]
    Zygote(String),
}

/// Why a request about a task failed.
#[derive(Debug, Error)]
pub enum TaskError {
    /// It could not be created, or its process did not do what it was asked to.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// No such task.
    #[error("there is no task {id}")]
    NotFound {
        /// The container's id.
        id: String,
    },
    /// No such exec process.
    #[error("task {id} has no process {exec}: exec is not served yet")]
    NoExec {
        /// The container's id.
        id: String,
        /// The exec id.
        exec: String,
    },
    /// A task of that id exists.
    #[error("task {id} exists already")]
    Exists {
        /// The container's id.
        id: String,
    },
    /// It has ended, so there is nothing to send a signal to.
    #[error("task {id} has ended: process already finished")]
    Gone {
        /// The container's id.
        id: String,
    },
    /// Not in this state.
    #[error("task {id} is not in a state for that: {why}")]
    WrongState {
        /// The container's id.
        id: String,
        /// In which state it is, and what to do.
        why: &'static str,
    },
    /// Part of containerd's API that this runtime does not have.
    #[error("{what} is not served by this runtime yet")]
    Unserved {
        /// What was asked for.
        what: &'static str,
    },
    /// The root file system could not be mounted.
    #[error("cannot mount the root file system at {path}: {reason}")]
    Rootfs {
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
    /// The cgroup could not be read.
    #[error("cannot read the metrics of task {id}: {reason}")]
    Stats {
        /// The container's id.
        id: String,
        /// Why.
        reason: String,
    },
}

impl TaskError {
    /// The one table from our errors to containerd's codes.
    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } | Self::NoExec { .. } | Self::Gone { .. } => Code::NOT_FOUND,
            Self::Exists { .. } => Code::ALREADY_EXISTS,
            Self::WrongState { .. } => Code::FAILED_PRECONDITION,
            Self::Unserved { .. } => Code::UNIMPLEMENTED,
            Self::Rootfs { .. } | Self::Stats { .. } => Code::INTERNAL,
            Self::Create(error) => match error {
                CreateError::Spec { .. } | CreateError::Options { .. } | CreateError::NulByte { .. } | CreateError::StdioKind { .. } => {
                    Code::INVALID_ARGUMENT
                }
                CreateError::Guest(_) | CreateError::Image(_) => Code::FAILED_PRECONDITION,
                CreateError::Stdio { .. } | CreateError::Sandbox(_) | CreateError::Zygote(_) => Code::UNKNOWN,
            },
        }
    }
}

impl From<TaskError> for ttrpc::Error {
    /// containerd shows the text to the user, so the whole chain goes into it.
    fn from(error: TaskError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), chain(&error)))
    }
}

/// An error and its sources, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        // A source that a transparent wrapper already shows is not said twice.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_code() {
        let id = || "c1".to_owned();
        for (error, code) in [
            (TaskError::NotFound { id: id() }, Code::NOT_FOUND),
            (TaskError::NoExec { id: id(), exec: id() }, Code::NOT_FOUND),
            (TaskError::Gone { id: id() }, Code::NOT_FOUND),
            (TaskError::Exists { id: id() }, Code::ALREADY_EXISTS),
            (TaskError::WrongState { id: id(), why: "x" }, Code::FAILED_PRECONDITION),
            (TaskError::Unserved { what: "x" }, Code::UNIMPLEMENTED),
            (TaskError::Rootfs { path: id(), reason: id() }, Code::INTERNAL),
            (TaskError::Stats { id: id(), reason: id() }, Code::INTERNAL),
            (CreateError::NulByte { field: "process.args", index: 0 }.into(), Code::INVALID_ARGUMENT),
            (CreateError::Options { reason: id() }.into(), Code::INVALID_ARGUMENT),
            (CreateError::StdioKind { stream: "stdin", path: id() }.into(), Code::INVALID_ARGUMENT),
            (CreateError::Guest(GuestError::NoEntrypoint).into(), Code::FAILED_PRECONDITION),
            (CreateError::Image(ImageError::ImageGone { image: id() }).into(), Code::FAILED_PRECONDITION),
            (CreateError::Sandbox(id()).into(), Code::UNKNOWN),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn the_whole_chain_reaches_the_user() {
        let source = io::Error::other("disk on fire");
        let error = CreateError::Stdio { stream: "stdout", path: "/fifo".to_owned(), source };
        assert_eq!(chain(&error), "cannot open stdout (/fifo): disk on fire");
    }
}
