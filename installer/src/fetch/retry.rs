//! Trying again what may pass, within one deadline.

use oci_client::errors::OciDistributionError;

use super::{Archive, FetchError, Limits};

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Again,
    Final,
}

/// Runs `attempt` until it succeeds, fails for good, or time or attempts are used up.
pub(super) async fn until_there<F>(
    origin: &str,
    limits: &Limits,
    mut attempt: F,
) -> Result<Archive, FetchError>
where
    F: AsyncFnMut() -> Result<Archive, FetchError>,
{
    let all = async {
        let mut pause = limits.pause;
        let mut left = limits.attempts;
        loop {
            left = left.saturating_sub(1);
            match attempt().await {
                Err(error) if left > 0 && judge(&error) == Verdict::Again => {
                    tracing::warn!(
                        origin,
                        error = &error as &dyn std::error::Error,
                        left,
                        "the download failed, trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause *= 2;
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

/// What a failure means.
pub(super) fn judge(error: &FetchError) -> Verdict {
    match error {
        FetchError::Connection { source, .. } => match source.downcast_ref::<reqwest::Error>() {
            // Sent in a circle, or to where we do not follow: that is how the server is set up.
            Some(error) if error.is_redirect() => Verdict::Final,
            _ => Verdict::Again,
        },
        FetchError::Status { status, .. } => judge_status(*status),
        FetchError::Registry { source, .. } => match source.as_ref() {
            OciDistributionError::ServerError { code, .. } => judge_status(*code),
            OciDistributionError::RequestError(source) if source.status().is_none() => {
                Verdict::Again
            }
            _ => Verdict::Final,
        },
        _ => Verdict::Final,
    }
}

/// An overloaded or restarting server says so; one that knows no such file will not know it later.
fn judge_status(status: u16) -> Verdict {
    match status {
        408 | 425 | 429 | 500..=599 => Verdict::Again,
        _ => Verdict::Final,
    }
}
