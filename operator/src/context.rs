//! What every part that talks to the cluster shares.

use std::sync::Arc;

use kube::Client;

use crate::cli::Settings;
use crate::clock::Clock;
use crate::events::Herald;
use crate::metrics::Metrics;

/// What every part that talks to the cluster shares. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server. Without the client's own retries: whoever calls knows better how long to
    /// wait.
    pub client: Client,
    /// How the operator runs.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who tells people.
    pub herald: Herald,
    /// What time it is.
    pub clock: Clock,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context for an operator with these settings. To be called inside of tokio's runtime:
    /// Events are published by a task of their own.
    pub fn new(client: Client, settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        let herald = Herald::start(client.clone(), settings.identity.clone());
        Self {
            client,
            settings,
            metrics,
            herald,
            clock: Clock::wall(),
        }
    }

    /// The same context with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}
