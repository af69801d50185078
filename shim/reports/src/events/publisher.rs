//! The task that publishes events: one at a time, with retries while containerd is away.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::r#async::transport::Socket;
use containerd_shim_protos::ttrpc::{self, Code, context};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::Limits;
use super::queue::{PendingEvent, Queue};

/// The backoff before the second attempt; each following one is twice as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);
/// The shortest timeout of an attempt, also for an event that has waited long: a containerd that
/// has just returned is slow.
const MIN_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the events of a queue to one containerd.
pub(super) struct Publisher {
    limits: Limits,
    address: String,
    client: Option<EventsClient>,
    away_since: Option<Instant>,
}

/// The reason why an event was not delivered.
#[derive(Debug)]
enum Failure {
    /// containerd is away, or went away while it had the event: retry.
    Away(String),
    /// containerd refused the event, and would refuse it again.
    Refused(String),
}

impl Publisher {
    pub(super) fn new(limits: Limits, address: &str) -> Self {
        let address = address
            .strip_prefix("unix://")
            .unwrap_or(address)
            .to_owned();
        Self {
            limits,
            address,
            client: None,
            away_since: None,
        }
    }

    /// Publishes events forever.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let event = queue.next().await;
            self.publish(event).await;
            queue.mark_delivered();
            if self.away_since.is_none() {
                let dropped = queue.take_dropped();
                if dropped > 0 {
                    tracing::error!(dropped, "events were dropped while containerd was away");
                }
            }
        }
    }

    async fn publish(&mut self, event: PendingEvent) {
        let PendingEvent { envelope, since } = event;
        let topic = envelope.topic.clone();
        let request = ForwardRequest {
            envelope: MessageField::some(envelope),
            ..ForwardRequest::default()
        };
        let deadline = since + self.limits.retry_timeout;
        let mut backoff = INITIAL_BACKOFF;
        loop {
            match self.attempt(&request, deadline).await {
                Ok(()) => {
                    if let Some(since) = self.away_since.take() {
                        tracing::info!(
                            address = self.address,
                            "containerd accepts events again after {:?}",
                            since.elapsed()
                        );
                    }
                    return;
                }
                Err(Failure::Refused(error)) => {
                    tracing::error!(topic, error, "containerd refused an event");
                    return;
                }
                Err(Failure::Away(error)) => {
                    self.client = None;
                    if self.away_since.is_none() {
                        self.away_since = Some(Instant::now());
                        tracing::warn!(
                            address = self.address,
                            error,
                            "containerd accepts no events; they are kept and retried"
                        );
                    }
                    if Instant::now() >= deadline {
                        tracing::error!(
                            topic,
                            error,
                            "an event was dropped after retries for {:?}",
                            self.limits.retry_timeout
                        );
                        return;
                    }
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(self.limits.max_backoff);
        }
    }

    /// Makes one attempt. If containerd holds the event without a reply, it waits until the
    /// timeout, because containerd may still take it.
    async fn attempt(
        &mut self,
        request: &ForwardRequest,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let deadline = deadline.max(Instant::now() + MIN_ATTEMPT_TIMEOUT);
        let sent = tokio::time::timeout_at(deadline, async {
            let client = match self.client.take() {
                Some(client) => client,
                None => connect(&self.address)
                    .await
                    .map_err(|error| Failure::Away(error.to_string()))?,
            };
            let client = self.client.insert(client);
            client
                .forward(context::Context::default(), request)
                .await
                .map(drop)
                .map_err(|error| classify(&error))
        });
        sent.await
            .unwrap_or_else(|_| Err(Failure::Away("timed out".to_owned())))
    }
}

async fn connect(address: &str) -> std::io::Result<EventsClient> {
    let stream = UnixStream::connect(address).await?;
    Ok(EventsClient::new(Client::new(Socket::from(stream))))
}

/// Classifies an error: whether to retry.
fn classify(error: &ttrpc::Error) -> Failure {
    match error {
        ttrpc::Error::RpcStatus(status) => match status.code() {
            // Codes of a server that is starting or shutting down.
            Code::UNAVAILABLE | Code::CANCELLED | Code::ABORTED | Code::DEADLINE_EXCEEDED => {
                Failure::Away(error.to_string())
            }
            _ => Failure::Refused(status.message.clone()),
        },
        _ => Failure::Away(error.to_string()),
    }
}
