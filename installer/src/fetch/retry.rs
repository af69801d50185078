//! Retries of downloads, with a backoff and one deadline.

use oci_client::errors::OciDistributionError;

use super::{Archive, FetchError, Limits};

/// Runs `attempt` until it succeeds, fails permanently, or time or attempts are used up.
pub(super) async fn with_backoff<F>(
    origin: &str,
    limits: &Limits,
    mut attempt: F,
) -> Result<Archive, FetchError>
where
    F: AsyncFnMut() -> Result<Archive, FetchError>,
{
    let all = async {
        let mut backoff = limits.backoff;
        let mut left = limits.attempts;
        loop {
            left = left.saturating_sub(1);
            match attempt().await {
                Err(error) if left > 0 && is_transient(&error) => {
                    tracing::warn!(
                        origin,
                        error = &error as &dyn std::error::Error,
                        left,
                        "the download failed, trying again"
                    );
                    tokio::time::sleep(backoff).await;
                    backoff *= 2;
                }
                result => return result,
            }
        }
    };
    match tokio::time::timeout(limits.total, all).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Deadline {
            origin: origin.to_owned(),
            limit: limits.total,
        }),
    }
}

/// Returns whether another attempt can succeed.
fn is_transient(error: &FetchError) -> bool {
    match error {
        FetchError::Connection { source, .. } => {
            // A redirect that is not followed is the server's configuration.
            !source
                .downcast_ref::<reqwest::Error>()
                .is_some_and(reqwest::Error::is_redirect)
        }
        FetchError::Status { status, .. } => is_transient_status(*status),
        FetchError::Registry { source, .. } => match source.as_ref() {
            OciDistributionError::ServerError { code, .. } => is_transient_status(*code),
            OciDistributionError::RequestError(source) => source.status().is_none(),
            _ => false,
        },
        _ => false,
    }
}

/// Returns whether an overloaded or restarting server sends this status.
fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}
