//! Waits for the set-up of a container's process, without a thread.
//!
//! A set-up may take arbitrarily long: another program in the container may stop the process, and a
//! limit may leave it no processor time. A waiting thread would be missing for other containers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use guest_sandbox::{Guest, Pending, Progress, SandboxError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blocking::blocking_set_up;
use crate::error::CreateError;
use crate::process;
use crate::task::MAX_SETUPS;

/// The time limit for the set-up of a container's first process. The engine may load a large guest
/// on a busy machine; kubelet's limit is two minutes.
pub(crate) const CREATE_SETUP_TIMEOUT: Duration = Duration::from_secs(110);
/// The time limit for the set-up of an exec process. Probes have limits of seconds, and users wait
/// little longer; a guest of a few megabytes is loaded well within it, even with a tenth of a CPU.
pub(crate) const EXEC_SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit for the wait of a set-up for earlier ones of its pod.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for one of a pod's permits to set up a process, until `cancelled` resolves.
///
/// # Errors
/// If there is none in time.
pub(crate) async fn setup_permit(
    setups: &Arc<Semaphore>,
    container: &str,
    cancelled: impl Future<Output = ()>,
) -> Result<OwnedSemaphorePermit, CreateError> {
    let permit = Arc::clone(setups).acquire_owned();
    let id = || container.to_owned();
    tokio::select! {
        permit = permit => permit.map_err(|error| CreateError::Panicked(error.to_string())),
        () = tokio::time::sleep(PERMIT_TIMEOUT) => Err(CreateError::SetupsBusy {
            id: id(),
            limit: MAX_SETUPS,
        }),
        () = cancelled => Err(CreateError::Cancelled { id: id() }),
    }
}

/// Waits until a process is ready, for `timeout` at most and until `cancelled` resolves. Kills it
/// then.
///
/// # Errors
/// If it is not ready by then, or its set-up fails: nothing of it is left.
pub(crate) async fn until_ready(
    pending: Pending,
    timeout: Duration,
    cancelled: impl Future<Output = ()>,
) -> Result<Guest, CreateError> {
    let watched = match process::readable(pending.socket()) {
        Ok(watched) => watched,
        Err(error) => return Err(kill(move || pending.cancel(), Some(error)).await),
    };
    let mut pending = pending;
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline, cancelled);
    loop {
        let mut ready = tokio::select! {
            ready = watched.readable() => match ready {
                Ok(ready) => ready,
                Err(error) => return Err(kill(move || pending.cancel(), Some(error)).await),
            },
            () = &mut deadline => return Err(kill(move || pending.time_out(timeout),
            None).await),
            () = &mut cancelled => return Err(kill(move || pending.cancel(), None).await),
        };
        // A failed step kills the process and waits for its exit, which takes a moment.
        match blocking_set_up(move || Ok(pending.advance()?)).await? {
            Progress::Ready(guest) => return Ok(guest),
            Progress::Pending(still) => pending = still,
        }
        ready.clear_ready();
    }
}

/// Kills a process in a thread that may block. `watching` is the error if it cannot be watched.
async fn kill(
    end: impl FnOnce() -> SandboxError + Send + 'static,
    watching: Option<io::Error>,
) -> CreateError {
    match (tokio::task::spawn_blocking(end).await, watching) {
        (_, Some(error)) => CreateError::Descriptors(error),
        (Ok(error), None) => error.into(),
        (Err(error), None) => CreateError::Panicked(error.to_string()),
    }
}
