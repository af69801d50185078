//! The context that all parts with API calls share: client, settings, metrics, Events, clock.

use std::sync::Arc;

use kube::Client;

use crate::cli::Settings;
use crate::clock::Clock;
use crate::events::EventRecorder;
use crate::metrics::Metrics;

/// What all parts with API calls share. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The client of the API server. It does not retry: the callers have backoffs of their own.
    pub client: Client,
    /// The options of the command line.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Publishes Events.
    pub recorder: EventRecorder,
    /// The clock.
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
    /// Creates a context. It needs a tokio runtime: a task publishes the Events.
    pub fn new(client: Client, settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        let recorder = EventRecorder::start(client.clone(), settings.identity.clone());
        Self {
            client,
            settings,
            metrics,
            recorder,
            clock: Clock::wall(),
        }
    }

    /// Returns the context with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}
