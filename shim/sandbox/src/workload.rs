//! The interface between a guest's process and the engine that runs the guest in it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An engine with a guest, which runs in the guest's process. Its descriptors are sent as
/// [`WireFd`](crate::WireFd).
pub trait Workload: Serialize + DeserializeOwned {
    /// A loaded guest.
    type Ready;

    /// Loads the guest. Called in its confined process, before Create returns. No code of the guest
    /// runs.
    ///
    /// # Errors
    /// When the guest cannot run; [`Pending::advance`](crate::Pending::advance) returns the error.
    fn prepare(self) -> Result<Self::Ready, Refusal>;

    /// Runs the guest and returns its exit code. Called once the process is started. The process
    /// ends right after it, so everything has to be flushed here.
    fn run(ready: Self::Ready) -> u8;
}

/// The reason why a guest cannot run, with a text for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The guest itself, or its container.
    Guest(String),
    /// The compiled code that the host gave for it.
    Code(String),
}

impl Refusal {
    /// Returns it with another text.
    pub(crate) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Guest(text) => Self::Guest(change(text)),
            Self::Code(text) => Self::Code(change(text)),
        }
    }
}
