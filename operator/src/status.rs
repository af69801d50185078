//! The status of a WasmRuntime: counts, conditions, and the state column.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::crd::{
    ConditionReason, ConditionType, Counts, Phase, WasmRuntimeNodeStatus, WasmRuntimeStatus,
};
use crate::names;
use crate::plan::{Action, ClassVerdict, Direction, NodeFacts, Observed, Plan, Rollout};

#[cfg(test)]
mod tests;

/// Maximum number of nodes that a condition names; the others can be listed.
const MAX_NAMED_NODES: usize = 3;

/// Returns the status that follows from the observation and the plan, and from `error`, the text of
/// a failed API call. Conditions that did not change keep their time.
pub fn status(observed: &Observed, plan: &Plan, error: Option<&str>) -> WasmRuntimeStatus {
    let runtime = &observed.runtime;
    let previous = runtime.status.clone().unwrap_or_default();
    let counts = count(observed, plan);
    let conditions = [
        available(plan, counts),
        progressing(observed, plan, counts),
        degraded(observed, plan, counts, error),
    ];
    WasmRuntimeStatus {
        observed_generation: runtime.meta().generation,
        state: state(observed, plan, counts),
        hash: plan.target.hash.clone(),
        version: version(plan).or(previous.version),
        nodes: counts,
        conditions: conditions
            .into_iter()
            .map(|content| {
                content.condition(
                    &previous.conditions,
                    runtime.meta().generation,
                    observed.now,
                )
            })
            .collect(),
    }
}

/// The content of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    kind: ConditionType,
    holds: bool,
    reason: ConditionReason,
    message: String,
}

impl Content {
    fn new(
        kind: ConditionType,
        holds: bool,
        reason: ConditionReason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            holds,
            reason,
            message: message.into(),
        }
    }

    fn condition(
        self,
        previous: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = previous
            .iter()
            .find(|condition| condition.type_ == self.kind.as_str() && condition.status == status);
        Condition {
            type_: self.kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: self.reason.as_str().to_owned(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: same.map_or(Time(now), |condition| {
                condition.last_transition_time.clone()
            }),
        }
    }
}

fn count(observed: &Observed, plan: &Plan) -> Counts {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let all = || plan.after.iter();
    let desired = || all().filter(|(name, _)| plan.desired.contains(*name));
    let hash = Some(&plan.target.hash);
    let label = names::ready_label(&observed.runtime.name_any());
    let is_labelled =
        |node: &NodeFacts| node.labels.get(&label).map(String::as_str) == Some(names::READY);
    let mut labelled: BTreeSet<&String> = observed
        .nodes
        .iter()
        .filter(|(_, node)| is_labelled(node))
        .map(|(name, _)| name)
        .collect();
    let named = |pick: fn(&Action) -> Option<&String>| plan.actions.iter().filter_map(pick);
    labelled.extend(named(|action| {
        if let Action::Label { node, .. } = action {
            Some(node)
        } else {
            None
        }
    }));
    for name in named(|action| {
        if let Action::Unlabel { node, .. } = action {
            Some(node)
        } else {
            None
        }
    }) {
        labelled.remove(name);
    }
    Counts {
        desired: number(plan.desired.len()),
        updated: number(
            desired()
                .filter(|(_, status)| {
                    status.phase == Phase::Ready && status.installed.as_ref() == hash
                })
                .count(),
        ),
        ready: number(
            all()
                .filter(|(name, status)| status.installed.is_some() && labelled.contains(name))
                .count(),
        ),
        changing: number(
            all()
                .filter(|(_, status)| crate::plan::is_changing(status))
                .count(),
        ),
        failed: number(
            desired()
                .filter(|(_, status)| status.phase == Phase::Failed)
                .count(),
        ),
        unsupported: number(
            all()
                .filter(|(_, status)| status.phase == Phase::Unsupported)
                .count(),
        ),
        removing: number(
            all()
                .filter(|(name, status)| {
                    status.phase == Phase::Removing || !plan.desired.contains(*name)
                })
                .count(),
        ),
    }
}

fn available(plan: &Plan, counts: Counts) -> Content {
    let content = |holds, reason, message: String| {
        Content::new(ConditionType::Available, holds, reason, message)
    };
    match (counts.ready, plan.desired.len()) {
        (0, 0) => content(
            false,
            ConditionReason::NoNodesSelected,
            "nodeSelector selects no node".to_owned(),
        ),
        (0, _) => content(
            false,
            ConditionReason::NoNodesReady,
            "no node accepts pods of the class yet: they stay pending".to_owned(),
        ),
        (ready, desired) => content(
            true,
            ConditionReason::NodesReady,
            format!("{ready} of {desired} nodes accept pods of the class"),
        ),
    }
}

fn progressing(observed: &Observed, plan: &Plan, counts: Counts) -> Content {
    let content = |holds, reason, message: String| {
        Content::new(ConditionType::Progressing, holds, reason, message)
    };
    let Counts {
        updated,
        changing,
        removing,
        desired,
        ..
    } = counts;
    if observed.runtime.meta().deletion_timestamp.is_some() {
        return content(
            true,
            ConditionReason::Removing,
            format!("{removing} nodes wait to be cleaned"),
        );
    }
    let done = format!("{updated} of {desired} nodes are up to date, {changing} being changed");
    match plan.rollout {
        Rollout::Paused => content(
            false,
            ConditionReason::Paused,
            format!("{done}; rollout.paused is set"),
        ),
        Rollout::Stopped { failed } => content(
            false,
            ConditionReason::RolloutStopped,
            format!("{done}; {failed} failed: no further node is changed"),
        ),
        Rollout::Blocked => content(
            false,
            blocked(plan.class).0,
            format!("{done}; {}", blocked(plan.class).1),
        ),
        Rollout::Preparing => content(
            true,
            ConditionReason::RollingOut,
            format!("{done}; waits for the finalizer and the RuntimeClass"),
        ),
        Rollout::RemovalStopped { failed } => content(
            true,
            ConditionReason::Removing,
            format!("{done}; {failed} could not be cleaned: no further removal is started"),
        ),
        Rollout::Canary => content(
            true,
            ConditionReason::Canary,
            format!("{done}; the others wait for the canary nodes"),
        ),
        Rollout::Progressing => content(true, ConditionReason::RollingOut, done),
        Rollout::Settled if removing > 0 => content(
            true,
            ConditionReason::Removing,
            format!("{removing} nodes that left the pool wait to be cleaned"),
        ),
        Rollout::Settled if updated + counts.failed + counts.unsupported < desired => content(
            true,
            ConditionReason::RollingOut,
            format!(
                "{done}; the others are not Ready, or another runtime is being installed there"
            ),
        ),
        Rollout::Settled => content(false, ConditionReason::UpToDate, done),
    }
}

fn degraded(observed: &Observed, plan: &Plan, counts: Counts, error: Option<&str>) -> Content {
    let content =
        |reason, message: String| Content::new(ConditionType::Degraded, true, reason, message);
    if let Some(error) = error {
        return content(
            ConditionReason::ApiError,
            format!("{error}; it is tried again"),
        );
    }
    if plan.rollout == Rollout::Blocked {
        let (reason, message) = blocked(plan.class);
        return content(reason, message.to_owned());
    }
    let removal = named(plan, |name, status| {
        !plan.desired.contains(name) && status.phase == Phase::Removing && status.reason.is_some()
    });
    if !removal.is_empty() {
        let held = if let Rollout::RemovalStopped { .. } = plan.rollout {
            "; no further removal is started until it is resolved"
        } else {
            ""
        };
        return content(ConditionReason::RemovalBlocked, format!("{removal}{held}"));
    }
    if let Some(waiting) = not_ready(observed, plan) {
        return content(ConditionReason::RemovalBlocked, waiting);
    }
    let blocked = |status: &WasmRuntimeNodeStatus| {
        status.phase == Phase::Installing && is_not_started(status)
    };
    let waiting = named(plan, |name, status| {
        plan.desired.contains(name) && blocked(status)
    });
    if !waiting.is_empty() {
        return content(ConditionReason::InstallersWaiting, waiting);
    }
    if counts.failed > 0 {
        let stopped = matches!(plan.rollout, Rollout::Stopped { .. });
        let reason = if stopped {
            ConditionReason::RolloutStopped
        } else {
            ConditionReason::NodesFailed
        };
        return content(
            reason,
            named(plan, |name, status| {
                plan.desired.contains(name) && status.phase == Phase::Failed
            }),
        );
    }
    if counts.unsupported > 0 {
        return content(
            ConditionReason::NodesUnsupported,
            named(plan, |_, status| status.phase == Phase::Unsupported),
        );
    }
    Content::new(
        ConditionType::Degraded,
        false,
        ConditionReason::AsExpected,
        "no node failed",
    )
}

fn is_not_started(status: &WasmRuntimeNodeStatus) -> bool {
    status.reason.as_deref() == Some(Reason::NotStarted.as_str())
}

/// Returns the message about nodes that cannot be cleaned because they are not Ready.
fn not_ready(observed: &Observed, plan: &Plan) -> Option<String> {
    let is_down = |name: &&String| {
        let node = observed.nodes.get(*name);
        !plan.desired.contains(*name)
            && node.is_some_and(|node| node.readiness == crate::plan::Readiness::NotReady)
    };
    let down: Vec<&str> = plan
        .after
        .keys()
        .filter(is_down)
        .map(String::as_str)
        .take(MAX_NAMED_NODES)
        .collect();
    (!down.is_empty()).then(|| {
        format!(
            "cannot clean {}: not Ready; repair them, or delete the Node objects",
            down.join(", ")
        )
    })
}

fn blocked(class: ClassVerdict) -> (ConditionReason, &'static str) {
    match class {
        ClassVerdict::NameTaken => (
            ConditionReason::NameTaken,
            "an older WasmRuntime has this handler or RuntimeClass: choose other names in a new \
             WasmRuntime",
        ),
        ClassVerdict::OtherHandler => (
            ConditionReason::RuntimeClassNotOurs,
            "the RuntimeClass exists with another handler, which cannot be changed: delete it, \
             or choose another runtimeClass.name",
        ),
        _ => (
            ConditionReason::RuntimeClassNotOurs,
            "the RuntimeClass exists and was not created by this operator: set \
             runtimeClass.adoptExisting, delete it, or choose another name",
        ),
    }
}

/// Returns the nodes that `matches` selects, with reason and message.
fn named(plan: &Plan, matches: impl Fn(&String, &WasmRuntimeNodeStatus) -> bool) -> String {
    let found: Vec<String> = plan
        .after
        .iter()
        .filter(|(name, status)| matches(name, status))
        .map(|(name, status)| reason_of(name, status))
        .collect();
    let more = found.len().saturating_sub(MAX_NAMED_NODES);
    let mut text = found
        .into_iter()
        .take(MAX_NAMED_NODES)
        .collect::<Vec<_>>()
        .join("; ");
    if more > 0 {
        let _ = write!(text, "; and {more} more: kubectl get wasmruntimenodes");
    }
    text
}

fn reason_of(name: &str, status: &WasmRuntimeNodeStatus) -> String {
    let reason = status.reason.as_deref().unwrap_or("no reason given");
    format!(
        "{name}: {reason}: {}",
        status.message.as_deref().unwrap_or_default()
    )
}

/// Returns the version of up to date nodes.
fn version(plan: &Plan) -> Option<String> {
    let up_to_date =
        |status: &&WasmRuntimeNodeStatus| status.installed.as_ref() == Some(&plan.target.hash);
    plan.after
        .values()
        .filter(up_to_date)
        .find_map(|status| status.version.clone())
}

/// Returns the text of the state column.
fn state(observed: &Observed, plan: &Plan, counts: Counts) -> String {
    let Counts {
        updated,
        desired,
        removing,
        ..
    } = counts;
    if Direction::of(&observed.runtime) != Direction::Install {
        return format!("Removing, {removing} left");
    }
    match plan.rollout {
        Rollout::Blocked => blocked(plan.class).0.as_str().to_owned(),
        Rollout::Paused => format!("Paused, {updated}/{desired}"),
        Rollout::Stopped { failed } => format!("Stopped, {failed} failed"),
        Rollout::Canary => format!("Canary, {updated}/{desired}"),
        Rollout::Preparing | Rollout::Progressing => format!("Rolling out, {updated}/{desired}"),
        Rollout::RemovalStopped { failed } => format!("Removal stopped, {failed} failed"),
        Rollout::Settled if desired == 0 => "No nodes".to_owned(),
        Rollout::Settled if updated == desired => "Up to date".to_owned(),
        Rollout::Settled => format!("Waiting for nodes, {updated}/{desired}"),
    }
}
