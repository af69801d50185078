//! containerd's CRI, version 1.

use std::path::Path;
use std::time::Duration;

mod error;
mod status;

pub use error::CriError;
pub use status::{Handlers, Readiness, Served};

/// A client of one containerd. It connects when it is first used, and again when containerd was restarted.
#[derive(Debug, Clone)]
pub struct Cri;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `containerd`.
    pub runtime: String,
    /// Its version, `2.4.2` or `1.6.20~ds1`.
    pub version: String,
}

impl Cri {
    /// A client of the containerd that listens at `socket`. Must be called inside a tokio runtime.
    pub fn at(_socket: &Path) -> Self {
        unimplemented!()
    }

    /// Who answers.
    pub async fn version(&self) -> Result<Version, CriError> {
        unimplemented!()
    }

    /// Whether containerd runs containers, and by which handlers.
    pub async fn served(&self) -> Result<Served, CriError> {
        unimplemented!()
    }

    /// Asks until containerd answers that its runtime is ready; after `limit` it is an error that says what it last
    /// answered.
    pub async fn wait_until_ready(&self, _limit: Duration) -> Result<Served, CriError> {
        unimplemented!()
    }
}
