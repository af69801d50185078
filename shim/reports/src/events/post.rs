//! The task that delivers: one event at a time, again and again while containerd is away.

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
use super::queue::{Letter, Queue};

/// The pause before the second attempt; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// What an attempt may take even if the event has waited for long: a containerd that has just come
/// back is slow.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(5);

/// Delivers a queue's events to one containerd.
pub(super) struct Post {
    limits: Limits,
    address: String,
    client: Option<EventsClient>,
    away_since: Option<Instant>,
}

/// Why an event did not arrive.
#[derive(Debug)]
enum Failure {
    /// containerd is away, or was while it had the event: try again.
    Away(String),
    /// It took the event and said no; it would say so again.
    Refused(String),
}

impl Post {
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

    /// Delivers for ever.
    pub(super) async fn deliver(mut self, queue: Arc<Queue>) {
        loop {
            let letter = queue.next().await;
            self.deliver_one(letter).await;
            queue.has_left();
            if self.away_since.is_none() {
                let dropped = queue.take_dropped();
                if dropped > 0 {
                    tracing::error!(dropped, "events were dropped while containerd was away");
                }
            }
        }
    }

    async fn deliver_one(&mut self, letter: Letter) {
        let Letter { envelope, since } = letter;
        let topic = envelope.topic.clone();
        let request = ForwardRequest {
            envelope: MessageField::some(envelope),
            ..ForwardRequest::default()
        };
        let limit = since + self.limits.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.attempt(&request, limit).await {
                Ok(()) => {
                    if let Some(since) = self.away_since.take() {
                        tracing::info!(
                            address = self.address,
                            "containerd takes events again, after {:?}",
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
                            "containerd takes no events now, they wait for it"
                        );
                    }
                    if Instant::now() >= limit {
                        tracing::error!(
                            topic,
                            error,
                            "an event could not be sent for {:?}, given up",
                            self.limits.patience
                        );
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.limits.longest_pause);
        }
    }

    /// One attempt. It waits for a containerd that holds the event and does not answer, for that
    /// one may still take it.
    async fn attempt(&mut self, request: &ForwardRequest, limit: Instant) -> Result<(), Failure> {
        let limit = limit.max(Instant::now() + SHORTEST_ATTEMPT);
        let sent = tokio::time::timeout_at(limit, async {
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
                .map_err(|error| failure(&error))
        });
        sent.await
            .unwrap_or_else(|_| Err(Failure::Away("it does not answer".to_owned())))
    }
}

async fn connect(address: &str) -> std::io::Result<EventsClient> {
    let stream = UnixStream::connect(address).await?;
    Ok(EventsClient::new(Client::new(Socket::from(stream))))
}

/// Whether an event that met `error` is worth another attempt.
fn failure(error: &ttrpc::Error) -> Failure {
    match error {
        ttrpc::Error::RpcStatus(status) => match status.code() {
            // What a server says that is on its way down or up.
            Code::UNAVAILABLE | Code::CANCELLED | Code::ABORTED | Code::DEADLINE_EXCEEDED => {
                Failure::Away(error.to_string())
            }
            _ => Failure::Refused(status.message.clone()),
        },
        _ => Failure::Away(error.to_string()),
    }
}
