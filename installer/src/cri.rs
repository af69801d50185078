//! containerd's CRI, version 1: its status, its handlers, and what runs.

use std::path::Path;
use std::time::{Duration, Instant};

use cri_client::Client;
pub use cri_client::CriError;
use installer_protocol::CgroupDriver;

mod error;
mod running;
mod status;

pub use error::ReadyError;
pub use status::{CriStatus, RuntimeReadiness, ServedHandlers};

/// Maximum time of one attempt to read the status while containerd starts.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for which a sandbox or a container refuses its removal.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The CRI of one containerd. It connects on first use, and reconnects after a restart of
/// containerd.
#[derive(Debug, Clone)]
pub struct Cri {
    pub(crate) client: Client,
}

impl Cri {
    /// Makes a client of the containerd at `socket`. Call it inside a tokio runtime.
    pub fn at(socket: &Path) -> Self {
        Self {
            client: Client::at(socket),
        }
    }

    /// Returns whether containerd runs containers, and its handlers.
    pub async fn served(&self) -> Result<CriStatus, CriError> {
        self.client
            .status()
            .await
            .map(|answer| status::served(&answer))
    }

    /// Returns the cgroup driver of `handler` in containerd's configuration; none if it is not
    /// published.
    pub async fn driver(&self, handler: &str) -> Result<Option<CgroupDriver>, CriError> {
        self.client
            .status()
            .await
            .map(|answer| status::driver(&answer, handler))
    }

    /// Waits until containerd's runtime is ready. After `timeout` it fails with the last answer. A
    /// containerd without CRI fails at once: it loads its plugins before it listens.
    pub async fn wait_until_ready(&self, timeout: Duration) -> Result<CriStatus, ReadyError> {
        let client = self.client.clone().with_timeout(STATUS_TIMEOUT);
        let start = Instant::now();
        loop {
            let last = match client.status().await.map(|answer| status::served(&answer)) {
                Ok(CriStatus {
                    runtime: RuntimeReadiness::NotReady(why),
                    ..
                }) => why,
                Ok(served) => return Ok(served),
                Err(error @ CriError::NotServed { .. }) => return Err(error.into()),
                Err(error @ CriError::Unreachable { .. }) => chain(&error),
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= timeout {
                return Err(ReadyError::NotReady { last, timeout });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops a sandbox and removes it, if it exists. Retries for a while, because containerd
    /// refuses to remove a sandbox that is starting.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        retry_removal(async || {
            unless_not_found(self.client.stop_sandbox(id).await)?;
            self.client.remove_sandbox(id).await
        })
        .await
    }

    /// Stops a container and removes it, if it exists. Retries for a while, because containerd
    /// refuses to remove a container that is starting or that another caller removes.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        retry_removal(async || self.client.remove_container(id).await).await
    }
}

/// Removes an object, if it exists, and retries while containerd refuses.
async fn retry_removal(remove: impl AsyncFn() -> Result<(), CriError>) -> Result<(), CriError> {
    let start = Instant::now();
    loop {
        match unless_not_found(remove().await) {
            Err(CriError::Answer { .. }) if start.elapsed() < REMOVAL_TIMEOUT => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            ended => return ended,
        }
    }
}

/// Accepts the error that the object does not exist.
fn unless_not_found(answer: Result<(), CriError>) -> Result<(), CriError> {
    answer.or_else(|error| {
        if error.is_not_found() {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// Formats an error with its cause.
fn chain(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests;
