//! The interface between a guest's process and the engine that runs the guest in it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An engine with a guest, which runs in the guest's process. Its descriptors are sent as
/// [`WireFd`](crate::WireFd).
pub trait Workload: Serialize + DeserializeOwned {
    /// A loaded guest.
    type Ready;

    /// Loads the guest. Called in its confined process, before Create returns. No code of the guest
    /// runs.
    ///
    /// # Errors
    /// When the guest cannot run; [`Pending::advance`](crate::Pending::advance) returns this text.
    fn prepare(self) -> Result<Self::Ready, String>;

    /// Returns a description, which the host gets when the guest is ready
    /// ([`Guest::description`](crate::Guest::description)).
    fn describe(ready: &Self::Ready) -> Option<String>;

    /// Runs the guest and returns its exit code. Called once the process is started. The process
    /// ends right after it, so everything has to be flushed here.
    fn run(ready: Self::Ready) -> u8;
}
