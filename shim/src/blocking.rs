//! Blocking work of requests, in threads that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};

use failures::panic_message;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{CreateError, TaskError};

/// Runs `work` of a request about a task.
///
/// # Errors
/// The error of `work`, or its panic.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    run(work).await?
}

/// Runs `work` of a Create, or of the set-up of an exec.
///
/// # Errors
/// The error of `work`, or its panic.
pub(crate) async fn blocking_set_up<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CreateError> + Send + 'static,
) -> Result<T, CreateError> {
    run(work).await?
}

/// Runs `work` of a Create or an exec in its own thread. It may wait for a container's file system
/// without end, and would then be missing in the pool that all containers use. A pod's permits
/// limit these threads ([`crate::wait::setup_permit`]).
///
/// # Errors
/// The error of `work`, or its panic; an error if there is no thread.
pub(crate) async fn in_own_thread<T: Send + 'static, E: From<CreateError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (sender, result) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        let _runtime = runtime.enter();
        let result = catch_unwind(AssertUnwindSafe(work));
        // A request that was dropped has no receiver.
        let _ = sender.send(result);
    };
    let thread = std::thread::Builder::new().name("set-up".to_owned());
    thread.spawn(run).map_err(CreateError::Thread)?;
    match result.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(CreateError::Panicked(panic_message(&*panic).to_owned()).into()),
        Err(closed) => Err(CreateError::Panicked(closed.to_string()).into()),
    }
}

/// Runs `work`; its panic is an error.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CreateError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CreateError::Panicked(error.to_string()))
}
