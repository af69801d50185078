//! Blocking work of requests, in threads that may block.

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

/// Runs `work`; its panic is an error.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CreateError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CreateError::Panicked(error.to_string()))
}
