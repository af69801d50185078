//! Warnings about an installer's Job or pod, from Events: causes that its status does not have.

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

use crate::plan::Obstacle;

/// A warning about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    kind: String,
    name: String,
    /// Reason and message.
    pub(super) obstacle: Obstacle,
    /// When it was last reported.
    pub(super) last: Option<Timestamp>,
}

/// Returns the warning of `event`.
pub(super) fn of_event(event: &Event) -> Warning {
    let regarding = event.regarding.clone().unwrap_or_default();
    // Events of the older API have the deprecated fields.
    let times = [
        event
            .series
            .as_ref()
            .map(|series| &series.last_observed_time)
            .map(|MicroTime(time)| *time),
        event
            .deprecated_last_timestamp
            .as_ref()
            .map(|Time(time)| *time),
        event.event_time.as_ref().map(|MicroTime(time)| *time),
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|Time(time)| *time),
    ];
    Warning {
        kind: regarding.kind.unwrap_or_default(),
        name: regarding.name.unwrap_or_default(),
        obstacle: Obstacle {
            reason: event.reason.clone().unwrap_or_default(),
            message: event.note.clone().unwrap_or_default(),
        },
        last: times.into_iter().flatten().max(),
    }
}

impl Warning {
    /// Whether it is about this object.
    pub(super) fn is_about(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}
