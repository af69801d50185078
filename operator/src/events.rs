//! What people are told as it happens: Events on the runtime and on the node.
//!
//! What is to be told is a table over what a node was and what it is now. Telling is a task of its
//! own: nobody waits for it, and what cannot be told is logged.

use std::time::Duration;

use installer_protocol::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;
use crate::plan::{Action, Observed};

/// How long one Event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events that wait to be told; what comes on top is only logged.
const ROOM: usize = 512;
/// Bytes of a note that the API server takes.
const NOTE_LIMIT: usize = 1024;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Whether somebody should look.
    pub kind: EventType,
    /// In a word. Events of one reason about one object are counted, and keep the first one's note
    /// for a while.
    pub reason: String,
    /// What was done.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// Who tells people. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Herald {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl Herald {
    /// Begins to tell in the name of this replica. To be called inside of tokio's runtime.
    pub fn start(client: Client, identity: String) -> Self {
        let recorder = Recorder::new(
            client,
            Reporter {
                controller: names::CONTROLLER.to_owned(),
                instance: Some(identity),
            },
        );
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(ROOM);
        tokio::spawn(async move {
            while let Some((event, regarding)) = waiting.recv().await {
                let failure = match tokio::time::timeout(
                    PATIENCE,
                    recorder.publish(&event, &regarding),
                )
                .await
                {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
                };
                tracing::warn!(
                    reason = event.reason,
                    note = event.note,
                    error = failure,
                    "an Event was not published"
                );
            }
        });
        Self { queue }
    }

    fn publish(&self, word: Word, regarding: ObjectReference, related: Option<ObjectReference>) {
        let Word {
            kind,
            reason,
            action,
            note,
        } = word;
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
                "an Event was not published: too many wait"
            );
        }
    }
}

/// Tells of `action`, which was decided on `observed` and is done.
pub fn tell(context: &Context, observed: &Observed, action: &Action) {
    let runtime = observed.runtime.object_ref(&());
    let node = action
        .node()
        .and_then(|name| Some(node_reference(name, &observed.nodes.get(name)?.uid)));
    let Some(word) = word(observed, action) else {
        return;
    };
    let Word { reason, note, .. } = &word;
    tracing::info!(
        runtime = observed.runtime.name_any(),
        node = action.node(),
        reason,
        note,
        "told"
    );
    if let Some(node) = &node {
        context
            .herald
            .publish(word.clone(), node.clone(), Some(runtime.clone()));
    }
    context.herald.publish(word, runtime, node);
}

/// What there is to tell of `action`.
pub fn word(observed: &Observed, action: &Action) -> Option<Word> {
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
                format!("{runtime} works on {node}: took off {keys}"),
            ))
        }
        Action::ApplyRuntimeClass => {
            let class = &observed.runtime.spec.runtime_class.name;
            let was_ours = observed
                .class
                .as_ref()
                .map(|found| crate::objects::runtime_class::is_ours(found, &runtime));
            let (reason, what) = match was_ours {
                None => ("RuntimeClassCreated", "made"),
                Some(true) => ("RuntimeClassChanged", "changed"),
                Some(false) => ("RuntimeClassAdopted", "took over"),
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

/// What there is to tell of a node that was `before` and is `after` now. Nothing, where only times
/// and counts changed.
pub fn transition(
    runtime: &str,
    node: &str,
    before: Option<&WasmRuntimeNodeStatus>,
    after: &WasmRuntimeNodeStatus,
) -> Option<Word> {
    let was = before.map(|before| before.phase);
    let has_news = before
        .is_none_or(|before| (&before.reason, &before.message) != (&after.reason, &after.message));
    let why = || {
        after
            .message
            .clone()
            .unwrap_or_else(|| "no more is known".to_owned())
    };
    let reason = || after.reason.clone().unwrap_or_else(|| "Failed".to_owned());
    let version = after
        .version
        .as_deref()
        .unwrap_or("a version that it did not tell");
    match (was, after.phase) {
        (Some(Phase::Installing), Phase::Installing)
            if before.is_some_and(|before| before.job == after.job) =>
        {
            let says_why = has_news && after.message.is_some();
            says_why.then(|| {
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
            format!("installing {runtime} on {node}, try {}", after.attempts),
        )),
        (Some(Phase::Verifying), Phase::Verifying)
        | (Some(Phase::Ready), Phase::Ready)
        | (_, Phase::Claimed) => None,
        (_, Phase::Verifying) => Some(normal(
            "Installed",
            "Install",
            format!("{runtime} {version} is on {node}, and a guest ran there"),
        )),
        (_, Phase::Ready) => Some(normal(
            "Ready",
            "Label",
            format!("pods of {runtime} can land on {node}"),
        )),
        (Some(Phase::Failed), Phase::Failed) | (Some(Phase::Unsupported), Phase::Unsupported)
            if !has_news =>
        {
            None
        }
        (_, Phase::Failed) => {
            let next = match &after.retry_at {
                Some(time) => format!("it is tried again at {}", time.0),
                None => format!(
                    "it is not tried again before the spec changes or the annotation {} does",
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
            has_news.then(|| {
                warning(
                    "InstallerWaiting",
                    "Remove",
                    format!("{runtime} on {node}: {}", why()),
                )
            })
        }
        (Some(Phase::Removing), Phase::Removing) => {
            let failed = after.job.is_none() && after.reason.is_some() && has_news;
            failed.then(|| {
                warning(
                    &reason(),
                    "Remove",
                    format!("{runtime} is still on {node}: {}; it is tried again", why()),
                )
            })
        }
        (_, Phase::Removing) => Some(normal(
            "Removing",
            "Remove",
            format!("taking {runtime} off {node}"),
        )),
    }
}

/// Whether the node's installer cannot start.
fn is_waiting(status: &WasmRuntimeNodeStatus) -> bool {
    status.reason.as_deref() == Some(Reason::NotStarted.as_str())
}

fn forgotten(observed: &Observed, runtime: &str, node: &str) -> Option<Word> {
    let was = observed.states.get(node)?.status.phase;
    if !observed.nodes.contains_key(node) {
        return Some(normal(
            "NodeGone",
            "Forget",
            format!("{node} is gone, and {runtime} with it"),
        ));
    }
    (was == Phase::Removing).then(|| {
        normal(
            "Removed",
            "Remove",
            format!("nothing of {runtime} is left on {node}"),
        )
    })
}

fn normal(reason: &str, action: &'static str, note: String) -> Word {
    Word {
        kind: EventType::Normal,
        reason: reason.to_owned(),
        action,
        note,
    }
}

fn warning(reason: &str, action: &'static str, note: String) -> Word {
    Word {
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

/// A text for people that is not longer than Kubernetes takes one: its end says what to do, its
/// beginning what it is about, so the middle goes.
pub(crate) fn bounded(mut note: String) -> String {
    const GAP: &str = " … ";
    if note.len() > NOTE_LIMIT {
        let half = (NOTE_LIMIT - GAP.len()) / 2;
        let head = note.floor_char_boundary(half);
        let tail = note.ceil_char_boundary(note.len() - half);
        note.replace_range(head..tail, GAP);
    }
    note
}

#[cfg(test)]
mod tests;
