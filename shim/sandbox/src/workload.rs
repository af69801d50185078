//! What a guest's process does besides being confined.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What runs in a guest's process: an engine with a guest. Its descriptors travel as
/// [`WireFd`](crate::WireFd).
pub trait Workload: Serialize + DeserializeOwned {
    /// What is ready to run.
    type Ready;

    /// Called in the guest's process, confined, before it counts as created. No code of the guest
    /// runs in it.
    ///
    /// # Errors
    /// Why the guest cannot run: the caller of
    /// [`ForkedGuest::prepare`](crate::ForkedGuest::prepare) gets this text.
    fn prepare(self) -> Result<Self::Ready, String>;

    /// What the host is told of it with the news that it is ready
    /// ([`Guest::told`](crate::Guest::told)).
    fn tell(ready: &Self::Ready) -> Option<String>;

    /// Called once the process is started; gives its exit code. The process ends at once after it:
    /// what is to be flushed is flushed in here.
    fn run(ready: Self::Ready) -> u8;
}
