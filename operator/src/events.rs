//! Kubernetes Events on the runtime and on the node.
//!
//! The content of an Event follows from the node's status before and after an action. A task
//! publishes the Events: callers do not wait for it, and Events that are not published are logged.

use std::time::Duration;

use installer_protocol::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use tokio::sync::mpsc;

use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;
use crate::plan::{Action, Observed};

/// Timeout of the publication of one Event.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Events that wait to be published; further ones are only logged.
const QUEUE_CAPACITY: usize = 512;
/// Maximum length of a note in the API, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// The content of an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventContent {
    /// Warning, if a user should look at it.
    pub kind: EventType,
    /// The reason, in CamelCase. Events with one reason about one object are counted as one series,
    /// which keeps the first note for a while.
    pub reason: String,
    /// The action that was taken.
    pub action: &'static str,
    /// The message for users.
    pub note: String,
}

/// Publishes Events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl EventRecorder {
    /// Starts the task that publishes Events in the name of this replica. It needs a tokio runtime.
    pub fn start(client: Client, identity: String) -> Self {
        let recorder = Recorder::new(
            client,
            Reporter {
                controller: names::CONTROLLER.to_owned(),
                instance: Some(identity),
            },
        );
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(QUEUE_CAPACITY);
        tokio::spawn(async move {
            while let Some((event, regarding)) = waiting.recv().await {
                let failure = match tokio::time::timeout(
                    PUBLISH_TIMEOUT,
                    recorder.publish(&event, &regarding),
                )
                .await
                {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer within {} s", PUBLISH_TIMEOUT.as_secs()),
                };
                tracing::warn!(
                    reason = event.reason,
                    note = event.note,
                    error = failure,
                    "cannot publish an Event"
                );
            }
        });
        Self { queue }
    }

    /// Publishes the Event of `action`, which was planned for `observed` and is done.
    pub fn publish_action(&self, observed: &Observed, action: &Action) {
        let runtime = observed.runtime.object_ref(&());
        let node = action
            .node()
            .and_then(|name| Some(node_reference(name, &observed.nodes.get(name)?.uid)));
        let Some(content) = event_of_action(observed, action) else {
            return;
        };
        let EventContent { reason, note, .. } = &content;
        tracing::info!(
            runtime = observed.runtime.name_any(),
            node = action.node(),
            reason,
            note,
            "event"
        );
        if let Some(node) = &node {
            self.publish(content.clone(), node.clone(), Some(runtime.clone()));
        }
        self.publish(content, runtime, node);
    }

    fn publish(
        &self,
        content: EventContent,
        regarding: ObjectReference,
        related: Option<ObjectReference>,
    ) {
        let EventContent {
            kind,
            reason,
            action,
            note,
        } = content;
        let event = Event {
            type_: kind,
            reason,
            note: Some(bounded(note)),
            action: action.to_owned(),
            secondary: related,
        };
        if let Err(error) = self.queue.try_send((event, regarding)) {
            let (event, _) = match error {
                mpsc::error::TrySendError::Full(it) | mpsc::error::TrySendError::Closed(it) => it,
            };
            tracing::warn!(
                reason = event.reason,
                note = event.note,
                "cannot publish an Event: the queue is full"
            );
        }
    }
}

/// Returns the Event of `action`, if it has one.
pub fn event_of_action(observed: &Observed, action: &Action) -> Option<EventContent> {
    let runtime = observed.runtime.name_any();
    match action {
        Action::SetNode { node, status } => {
            let before = observed.states.get(node).map(|state| &state.status);
            transition(&runtime, node, before, status)
        }
        Action::Forget { node } => forgotten(observed, &runtime, node),
        Action::RemoveTaints { node, taints, .. } => {
            let keys = taints
                .iter()
                .map(|taint| taint.key.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            Some(normal(
                "StartupTaintsRemoved",
                "RemoveTaints",
                format!("removed startup taints of {node}, where {runtime} works: {keys}"),
            ))
        }
        Action::ApplyRuntimeClass => {
            let class = &observed.runtime.spec.runtime_class.name;
            let was_ours = observed
                .class
                .as_ref()
                .map(|found| crate::objects::runtime_class::is_ours(found, &runtime));
            let (reason, what) = match was_ours {
                None => ("RuntimeClassCreated", "created"),
                Some(true) => ("RuntimeClassChanged", "changed"),
                Some(false) => ("RuntimeClassAdopted", "adopted"),
            };
            Some(normal(
                reason,
                "ApplyRuntimeClass",
                format!("{what} RuntimeClass {class}"),
            ))
        }
        _ => None,
    }
}

/// Returns the Event of a status change from `before` to `after`; none if only times and counts
/// changed.
pub fn transition(
    runtime: &str,
    node: &str,
    before: Option<&WasmRuntimeNodeStatus>,
    after: &WasmRuntimeNodeStatus,
) -> Option<EventContent> {
    let was = before.map(|before| before.phase);
    let has_new_reason = before
        .is_none_or(|before| (&before.reason, &before.message) != (&after.reason, &after.message));
    let why = || {
        after
            .message
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned())
    };
    let reason = || after.reason.clone().unwrap_or_else(|| "Failed".to_owned());
    let version = after.version.as_deref().unwrap_or("of unknown version");
    match (was, after.phase) {
        (Some(Phase::Installing), Phase::Installing)
            if before.is_some_and(|before| before.job == after.job) =>
        {
            let has_message = has_new_reason && after.message.is_some();
            has_message.then(|| {
                warning(
                    "InstallerWaiting",
                    "Install",
                    format!("{runtime} on {node}: {}", why()),
                )
            })
        }
        (_, Phase::Installing) => Some(normal(
            "Installing",
            "Install",
            format!("installing {runtime} on {node}, attempt {}", after.attempts),
        )),
        (Some(Phase::Verifying), Phase::Verifying)
        | (Some(Phase::Ready), Phase::Ready)
        | (_, Phase::Claimed) => None,
        (_, Phase::Verifying) => Some(normal(
            "Installed",
            "Install",
            format!("installed {runtime} {version} on {node}, and ran a guest there"),
        )),
        (_, Phase::Ready) => Some(normal(
            "Ready",
            "Label",
            format!("pods of {runtime} can be scheduled on {node}"),
        )),
        (Some(Phase::Failed), Phase::Failed) | (Some(Phase::Unsupported), Phase::Unsupported)
            if !has_new_reason =>
        {
            None
        }
        (_, Phase::Failed) => {
            let next = match &after.retry_at {
                Some(time) => format!("next attempt at {}", time.0),
                None => format!(
                    "no further attempt before the spec or the annotation {} changes",
                    names::RETRY_ANNOTATION
                ),
            };
            Some(warning(
                &reason(),
                "Install",
                format!("{runtime} on {node}: {}; {next}", why()),
            ))
        }
        (_, Phase::Unsupported) => Some(warning(
            "NodeUnsupported",
            "Check",
            format!("{node} cannot have {runtime}: {}", why()),
        )),
        (Some(Phase::Removing), Phase::Removing) if after.job.is_some() && is_waiting(after) => {
            has_new_reason.then(|| {
                warning(
                    "InstallerWaiting",
                    "Remove",
                    format!("{runtime} on {node}: {}", why()),
                )
            })
        }
        (Some(Phase::Removing), Phase::Removing) => {
            let failed = after.job.is_none() && after.reason.is_some() && has_new_reason;
            failed.then(|| {
                warning(
                    &reason(),
                    "Remove",
                    format!(
                        "cannot remove {runtime} from {node}: {}; it is tried again",
                        why()
                    ),
                )
            })
        }
        (_, Phase::Removing) => Some(normal(
            "Removing",
            "Remove",
            format!("removing {runtime} from {node}"),
        )),
    }
}

/// Whether the node's installer cannot start.
fn is_waiting(status: &WasmRuntimeNodeStatus) -> bool {
    status.reason.as_deref() == Some(Reason::NotStarted.as_str())
}

fn forgotten(observed: &Observed, runtime: &str, node: &str) -> Option<EventContent> {
    let was = observed.states.get(node)?.status.phase;
    if !observed.nodes.contains_key(node) {
        return Some(normal(
            "NodeGone",
            "Forget",
            format!("{node} was deleted, and {runtime} with it"),
        ));
    }
    (was == Phase::Removing).then(|| {
        normal(
            "Removed",
            "Remove",
            format!("removed {runtime} from {node}"),
        )
    })
}

fn normal(reason: &str, action: &'static str, note: String) -> EventContent {
    EventContent {
        kind: EventType::Normal,
        reason: reason.to_owned(),
        action,
        note,
    }
}

fn warning(reason: &str, action: &'static str, note: String) -> EventContent {
    EventContent {
        kind: EventType::Warning,
        reason: reason.to_owned(),
        action,
        note,
    }
}

fn node_reference(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Shortens a text to the maximum length of a note. The middle is cut: the beginning names the
/// object, and the end the next step.
pub(crate) fn bounded(mut note: String) -> String {
    const GAP: &str = " … ";
    if note.len() > MAX_NOTE_BYTES {
        let half = (MAX_NOTE_BYTES - GAP.len()) / 2;
        let head = note.floor_char_boundary(half);
        let tail = note.ceil_char_boundary(note.len() - half);
        note.replace_range(head..tail, GAP);
    }
    note
}

#[cfg(test)]
mod tests;
