//! Why a container could not be created, and the code that containerd gets for it.

use std::io;

use containerd_shimkit::sandbox::Error as ShimError;
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

impl From<CreateError> for ShimError {
    /// The one table from our errors to containerd's codes. containerd shows the text to the user, so the whole
    /// chain goes into it.
    fn from(error: CreateError) -> Self {
        let text = chain(&error);
        match error {
            CreateError::Spec { .. } | CreateError::NulByte { .. } | CreateError::StdioKind { .. } => Self::InvalidArgument(text),
            CreateError::Guest(_) | CreateError::Image(_) => Self::FailedPrecondition(text),
            CreateError::Stdio { .. } | CreateError::Sandbox(_) | CreateError::Zygote(_) => Self::Any(anyhow::anyhow!(text)),
        }
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
    fn the_code_tells_a_wrong_definition_from_a_wrong_image_from_our_own_failure() {
        let nul = CreateError::NulByte { field: "process.args", index: 0 };
        assert!(matches!(ShimError::from(nul), ShimError::InvalidArgument(_)));
        let guest = CreateError::Guest(GuestError::NoEntrypoint);
        assert!(matches!(ShimError::from(guest), ShimError::FailedPrecondition(_)));
        assert!(matches!(ShimError::from(CreateError::Sandbox("x".to_owned())), ShimError::Any(_)));
    }

    #[test]
    fn the_whole_chain_reaches_the_user() {
        let source = io::Error::other("disk on fire");
        let error = CreateError::Stdio { stream: "stdout", path: "/fifo".to_owned(), source };
        assert_eq!(chain(&error), "cannot open stdout (/fifo): disk on fire");
    }
}
