//! A failed step with the reason that its report gives.

use std::fmt;

use anyhow::Context as _;
use installer_protocol::Reason;

/// A failed step.
#[derive(Debug)]
pub struct Failure {
    /// The reason in the report.
    pub reason: Reason,
    /// The error and its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// Makes a failure without a cause.
    pub fn new(
        reason: Reason,
        message: impl fmt::Display + fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        Self {
            reason,
            error: anyhow::Error::msg(message),
        }
    }

    /// Returns the error and its causes in one line.
    pub fn message(&self) -> String {
        format!("{:#}", self.error)
    }
}

/// Turns errors into [`Failure`]s.
pub trait WithReason<T> {
    /// Adds the report's reason and the operation that failed.
    ///
    /// # Errors
    /// If `self` is an error.
    fn with_reason(self, reason: Reason, operation: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E> WithReason<T> for Result<T, E>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    fn with_reason(self, reason: Reason, operation: impl FnOnce() -> String) -> Result<T, Failure> {
        self.with_context(operation)
            .map_err(|error| Failure { reason, error })
    }
}
