//! Waiting for a container's process, without a thread.
//!
//! Such a process may take as long as something in its container likes: another program there may
//! stop it, and a limit may leave it no processor time. A thread that waited for it would be one
//! that other containers need.

use std::io;
use std::time::Duration;

use guest_sandbox::{Guest, Pending, Progress, SandboxError};

use crate::error::CreateError;
use crate::process;

/// How long a container's first process may take until it is ready. The engine may load a large
/// guest on a busy machine; kubelet gives up after two minutes.
pub const CREATE_SETUP_TIMEOUT: Duration = Duration::from_secs(110);
/// How long a process of exec may take until it is ready. Probes give up after seconds, and a
/// person does soon after; a guest of a few megabytes is loaded well within it, also with a tenth
/// of a CPU.
pub const EXEC_SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until a process is ready, `timeout` at most, and no longer than `cancelled` is pending.
/// When it is given up, it is killed.
///
/// # Errors
/// When it is not ready by then, or cannot be: then nothing of it is left.
pub async fn until_ready(
    pending: Pending,
    timeout: Duration,
    cancelled: impl Future<Output = ()>,
) -> Result<Guest, CreateError> {
    let watched = match process::readable(pending.socket()) {
        Ok(watched) => watched,
        Err(error) => return Err(give_up(move || pending.cancel(), Some(error)).await),
    };
    let mut pending = pending;
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline, cancelled);
    loop {
        let mut ready = tokio::select! {
            ready = watched.readable() => match ready {
                Ok(ready) => ready,
                Err(error) => return Err(give_up(move || pending.cancel(), Some(error)).await),
            },
            () = &mut deadline => return Err(give_up(move || pending.time_out(timeout),
            None).await),
            () = &mut cancelled => return Err(give_up(move || pending.cancel(), None).await),
        };
        // A step that ends a process waits for its end, which takes a moment.
        match tokio::task::spawn_blocking(move || pending.advance())
            .await
            .map_err(|error| CreateError::Panicked(error.to_string()))??
        {
            Progress::Ready(guest) => return Ok(guest),
            Progress::Pending(still) => pending = still,
        }
        ready.clear_ready();
    }
}

/// Kills a process where that may block. `watching` is why it could not be waited for.
async fn give_up(
    end: impl FnOnce() -> SandboxError + Send + 'static,
    watching: Option<io::Error>,
) -> CreateError {
    match (tokio::task::spawn_blocking(end).await, watching) {
        (_, Some(error)) => CreateError::Descriptors(error),
        (Ok(error), None) => error.into(),
        (Err(error), None) => CreateError::Panicked(error.to_string()),
    }
}
