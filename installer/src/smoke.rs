//! A smoke test: one guest that really runs through the new handler.

use std::path::PathBuf;
use std::time::Duration;

use installer_protocol::CgroupDriver;

use crate::cri::{Cri, CriError};

/// What is run, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Name of the runtime: names the sandbox, so that a later run finds what an earlier one left.
    pub runtime: String,
    /// The handler that is tried.
    pub handler: String,
    /// The installer's own image, which holds `/smoke.wasm`.
    pub image: String,
    /// Who sets up the handler's cgroups, never [`CgroupDriver::Auto`].
    pub driver: CgroupDriver,
    /// The folder for the guest's log.
    pub logs: Logs,
    /// How long all of it may take.
    pub limit: Duration,
}

/// A folder that containerd writes into and the installer reads. Both names lead to the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path as this process sees it; made if it is missing.
    pub seen: PathBuf,
}

/// A guest that ran as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// From asking for the sandbox to the guest's end.
    pub took: Duration,
}

/// Why the smoke test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// A call failed, most often because the sandbox could not be made: containerd's text says why.
    #[error("run the smoke guest with handler {handler}")]
    Call {
        /// The handler.
        handler: String,
        /// What containerd said.
        source: CriError,
    },
    /// The node does not have the installer's image (any more).
    #[error("the node has no image {image}, which holds the smoke guest")]
    NoImage {
        /// The image.
        image: String,
    },
    /// The folder for the log cannot be used.
    #[error("use {} for the smoke guest's log", folder.display())]
    Logs {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The guest ran to an end, but not to the right one.
    #[error("the smoke guest ended with code {code} ({reason}: {message}), expected 42; it said: {said:?}")]
    WrongEnd {
        /// Its exit code.
        code: i32,
        /// containerd's word for the end.
        reason: String,
        /// containerd's text on it.
        message: String,
        /// The end of its log.
        said: String,
    },
    /// The guest ended rightly without having said its line.
    #[error("the smoke guest ended as expected, but its line is missing from the log; the log: {said:?}")]
    Silent {
        /// The end of its log.
        said: String,
    },
    /// The guest did not end in time.
    #[error("the smoke guest did not end within {} s; it said: {said:?}", limit.as_secs())]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
        /// The end of its log.
        said: String,
    },
}

/// Runs the smoke guest once and removes everything of it, also what an earlier run of the same runtime left.
pub async fn run(_cri: &Cri, _smoke: &Smoke) -> Result<Passed, SmokeError> {
    unimplemented!()
}

/// Removes what a smoke test of `runtime` left behind when its installer was killed.
pub async fn remove_leftovers(_cri: &Cri, _runtime: &str) -> Result<(), CriError> {
    unimplemented!()
}
