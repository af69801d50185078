//! The rollout: starts installers on candidates. Canaries come first, never more nodes at a time
//! than the budget allows, and none after too many failures.

use std::collections::BTreeSet;

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::action::Action;
use super::candidate::{Candidate, Why};
use super::class::ClassVerdict;
use super::direction::Direction;
use super::draft::{Draft, is_changing};
use super::target::{Target, digest};
use super::timing::installer_timeout;
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;

/// The state of the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// No candidate is left.
    Settled,
    /// Installers are started as the budget allows.
    Progressing,
    /// The finalizer or the RuntimeClass is not there yet.
    Preparing,
    /// The other nodes wait for the canaries.
    Canary,
    /// `rollout.paused` is set.
    Paused,
    /// Too many nodes failed.
    Stopped {
        /// Their number.
        failed: usize,
    },
    /// Too many nodes could not be cleaned.
    RemovalStopped {
        /// Their number.
        failed: usize,
    },
    /// A name or the RuntimeClass has another owner.
    Blocked,
}

/// Starts installers on the candidates that may be started.
pub(super) fn start_installers(
    draft: &mut Draft<'_>,
    target: &Target,
    desired: &BTreeSet<String>,
    class: ClassVerdict,
    direction: Direction,
    mut candidates: Vec<Candidate>,
) -> Rollout {
    candidates.sort_by(|one, other| (one.why, &one.node).cmp(&(other.why, &other.node)));
    let spec = draft.observed.runtime.spec.rollout.clone();
    let pool = if direction == Direction::Install {
        desired.len()
    } else {
        draft.after.len()
    };
    let budget = Budget {
        slots: slots(&spec.max_unavailable, pool),
        canary: usize::try_from(spec.canary)
            .unwrap_or(usize::MAX)
            .min(desired.len()),
        threshold: usize::try_from(spec.failure_threshold).unwrap_or(usize::MAX),
        stuck: draft
            .after
            .values()
            .filter(|status| is_stuck(status))
            .count(),
        hold: hold(draft, target, desired, class, direction),
    };
    let mut waiting = None;
    // Counted again only after a start: there are as many candidates as nodes, and few are
    // started.
    let mut counts = NodeCounts::of(draft, target, desired);
    for candidate in candidates {
        if draft.observed.busy.contains(&candidate.node) {
            // Another installer runs there; its end triggers another plan.
            continue;
        }
        match budget.check(draft, target, counts, &candidate) {
            Ok(()) => {
                start(draft, target, &candidate);
                counts = NodeCounts::of(draft, target, desired);
            }
            Err(why) => waiting = waiting.or(Some(why)),
        }
    }
    let changing = draft.after.values().any(is_changing);
    match (budget.hold, waiting) {
        (Some(hold), _) => hold,
        (None, Some(why)) => why,
        (None, None) if changing => Rollout::Progressing,
        (None, None) => Rollout::Settled,
    }
}

/// Returns what holds every node that was not started.
fn hold(
    draft: &Draft<'_>,
    target: &Target,
    desired: &BTreeSet<String>,
    class: ClassVerdict,
    direction: Direction,
) -> Option<Rollout> {
    if direction != Direction::Install {
        return None;
    }
    if !class.permits() {
        return Some(Rollout::Blocked);
    }
    let spec = &draft.observed.runtime.spec.rollout;
    if spec.paused {
        return Some(Rollout::Paused);
    }
    let failed = desired
        .iter()
        .filter_map(|name| draft.after.get(name))
        .filter(|status| has_failed(status, target))
        .count();
    (failed >= usize::try_from(spec.failure_threshold).unwrap_or(usize::MAX))
        .then_some(Rollout::Stopped { failed })
}

/// Whether a node failed at the target and is not retried automatically.
pub(crate) fn has_failed(status: &WasmRuntimeNodeStatus, target: &Target) -> bool {
    status.phase == Phase::Failed
        && status.retry_at.is_none()
        && status.target.as_ref() == Some(&target.hash)
}

/// Whether the last attempt to clean a node failed. A node with pods that use the runtime
/// is unchanged and does not count.
fn is_stuck(status: &WasmRuntimeNodeStatus) -> bool {
    status.phase == Phase::Removing
        && status
            .reason
            .as_ref()
            .is_some_and(|reason| reason != Reason::InUse.as_str())
}

struct Budget {
    slots: usize,
    canary: usize,
    /// Number of failed nodes that stops the rollout.
    threshold: usize,
    /// Number of nodes that could not be cleaned.
    stuck: usize,
    hold: Option<Rollout>,
}

impl Budget {
    /// Returns what the candidate waits for, if it may not be started now.
    fn check(
        &self,
        draft: &Draft<'_>,
        target: &Target,
        counts: NodeCounts,
        candidate: &Candidate,
    ) -> Result<(), Rollout> {
        let has_slot = draft.after.get(&candidate.node).is_some_and(is_changing);
        let free = has_slot || counts.changing < self.slots;
        let slot = || {
            if free {
                Ok(())
            } else {
                Err(Rollout::Progressing)
            }
        };
        // A node keeps its slot until it is done, and others may need that slot.
        let is_started = has_slot
            || draft
                .after
                .get(&candidate.node)
                .is_some_and(|status| status.phase == Phase::Removing);
        match (candidate.why, self.hold) {
            (why, _) if !draft.prepared && why != Why::Remove => Err(Rollout::Preparing),
            // Interrupted work is completed, whatever holds the others; it has its slot.
            (Why::Retry, _) => slot(),
            (_, Some(hold @ (Rollout::Paused | Rollout::Blocked))) => Err(hold),
            // A removal that fails is not started on further nodes.
            (Why::Remove, _) if !is_started && self.stuck >= self.threshold => {
                Err(Rollout::RemovalStopped { failed: self.stuck })
            }
            // Failed installations do not keep other nodes from being repaired or cleaned.
            (Why::Reverify | Why::Remove, _) => slot(),
            (Why::Fresh | Why::Upgrade, Some(hold))
                if !is_retry_requested(draft, target, candidate) =>
            {
                Err(hold)
            }
            (Why::Fresh | Why::Upgrade, _) => self.after_canary(counts).and_then(|()| slot()),
        }
    }

    fn after_canary(&self, NodeCounts { good, tried, .. }: NodeCounts) -> Result<(), Rollout> {
        if good >= self.canary || good + tried < self.canary {
            Ok(())
        } else {
            Err(Rollout::Canary)
        }
    }
}

/// Numbers of nodes that decide whether another one may be started.
#[derive(Debug, Clone, Copy)]
struct NodeCounts {
    /// Nodes that are being changed, to any target.
    changing: usize,
    /// Nodes on which the target works.
    good: usize,
    /// Nodes that are being changed to the target.
    tried: usize,
}

impl NodeCounts {
    fn of(draft: &Draft<'_>, target: &Target, desired: &BTreeSet<String>) -> Self {
        let on_target =
            |status: &&WasmRuntimeNodeStatus| status.target.as_ref() == Some(&target.hash);
        let statuses = || {
            desired
                .iter()
                .filter_map(|name| draft.after.get(name))
                .filter(on_target)
        };
        Self {
            changing: draft
                .after
                .values()
                .filter(|status| is_changing(status))
                .count(),
            good: statuses()
                .filter(|status| status.phase == Phase::Ready)
                .count(),
            tried: statuses().filter(|status| is_changing(status)).count(),
        }
    }
}

/// Whether a user requested another attempt on this node: it is one of the failed ones, so
/// failures do not hold it.
fn is_retry_requested(draft: &Draft<'_>, target: &Target, candidate: &Candidate) -> bool {
    let status = draft.after.get(&candidate.node);
    let requested = draft
        .observed
        .runtime
        .annotations()
        .get(names::RETRY_ANNOTATION);
    requested.is_some()
        && status.is_some_and(|status| {
            has_failed(status, target) && status.retry_token.as_ref() != requested
        })
}

/// Returns how many nodes of a pool may be changed at a time, at least one.
pub(super) fn slots(max_unavailable: &IntOrString, pool: usize) -> usize {
    let count = match max_unavailable {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            pool * percent.min(100) / 100
        }
    };
    count.max(1)
}

fn start(draft: &mut Draft<'_>, target: &Target, candidate: &Candidate) {
    let Candidate { node: name, why } = candidate;
    let Some(node) = draft.observed.nodes.get(name) else {
        return;
    };
    let (phase, request) = if *why == Why::Remove {
        draft.unlabel(name, node);
        (Phase::Removing, target.uninstall(node))
    } else {
        match target.install(node) {
            Ok(request) => (Phase::Installing, request),
            // The node was checked before it became a candidate.
            Err(_) => return,
        }
    };
    if !draft.after.contains_key(name) {
        draft.act(Action::Claim {
            node: name.clone(),
            uid: node.uid.clone(),
        });
    }
    let job = job_name(draft, name);
    let token = draft
        .observed
        .runtime
        .annotations()
        .get(names::RETRY_ANNOTATION)
        .cloned();
    let now = draft.observed.now;
    let was_removing = draft
        .after
        .get(name)
        .is_some_and(|status| status.phase == Phase::Removing);
    draft.set(name, phase, |status| {
        let again = match why {
            Why::Retry => status.target.as_ref() == Some(&target.hash),
            Why::Remove => was_removing,
            Why::Reverify | Why::Fresh | Why::Upgrade => false,
        };
        status.attempts = if again {
            status.attempts.saturating_add(1)
        } else {
            1
        };
        status.since = Some(Time(now));
        status.target = (phase == Phase::Installing).then(|| target.hash.clone());
        status.job = Some(job.clone());
        status.retry_at = None;
        status.retry_token = token;
        if !was_removing {
            // The reason why a node is not clean stays until it is.
            status.reason = None;
            status.message = None;
        }
    });
    let timeout = installer_timeout(draft.observed);
    draft.act(Action::StartInstaller {
        job,
        node: name.clone(),
        request: Box::new(request),
        timeout,
    });
}

/// Returns a name of at most 63 letters that no other attempt has.
fn job_name(draft: &Draft<'_>, node: &str) -> String {
    let runtime = draft.observed.runtime.name_any();
    let state = draft
        .observed
        .states
        .get(node)
        .map(|state| state.uid.as_str())
        .unwrap_or_default();
    let digest = digest(
        &format!("{runtime} {node} {state} {}", draft.observed.now),
        10,
    );
    format!("installer-{runtime}-{digest}")
}
