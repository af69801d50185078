//! Which nodes may begin: canary first, never more at a time than the budget, none after too many
//! failures; and which may begin to be cleaned.

use std::collections::BTreeSet;

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::node::unlabel;
use super::pace::limit;
use super::target::digest;
use super::{Action, ClassVerdict, Direction, Draft, Target};
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;

/// A node that could be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: String,
    pub(super) why: Why,
}

/// Why a node could be begun. In the order in which they are: what is half done first, then nodes
/// without pods of the runtime, so that a new version is tried where it can harm least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It failed at what may pass.
    Retry,
    /// It was rebooted, or lost the handler.
    Reverify,
    /// The runtime has to go from it.
    Remove,
    /// It never had the runtime.
    Fresh,
    /// It has something else, or failed at something else.
    Upgrade,
}

/// What holds the rollout, or that nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// Nothing is left to be begun.
    Settled,
    /// Nodes are begun as the budget allows.
    Going,
    /// The finalizer and the RuntimeClass come first.
    Preparing,
    /// The others wait for the first nodes.
    Canary,
    /// The spec says so.
    Paused,
    /// So many nodes failed.
    Stopped {
        /// Their number.
        failed: usize,
    },
    /// So many nodes could not be cleaned.
    RemovalStopped {
        /// Their number.
        failed: usize,
    },
    /// A name or the RuntimeClass is somebody else's.
    Blocked,
}

/// Begins what may be begun.
pub(super) fn begin(
    draft: &mut Draft<'_>,
    target: &Target,
    desired: &BTreeSet<String>,
    class: ClassVerdict,
    direction: Direction,
    mut candidates: Vec<Candidate>,
) -> Rollout {
    candidates.sort_by(|one, other| (one.why, &one.node).cmp(&(other.why, &other.node)));
    let spec = draft.observed.runtime.spec.rollout.clone();
    let pool = if direction == Direction::In {
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
    // Counted anew only after a beginning: there are as many candidates as nodes, and few begin.
    let mut tally = Tally::of(draft, target, desired);
    for candidate in candidates {
        if draft.observed.busy.contains(&candidate.node) {
            // Another runtime's installer is at work there, and its end is an event.
            continue;
        }
        match budget.judge(draft, target, tally, &candidate) {
            Ok(()) => {
                start(draft, target, &candidate);
                tally = Tally::of(draft, target, desired);
            }
            Err(why) => waiting = waiting.or(Some(why)),
        }
    }
    let changing = draft.after.values().any(is_changing);
    match (budget.hold, waiting) {
        (Some(hold), _) => hold,
        (None, Some(why)) => why,
        (None, None) if changing => Rollout::Going,
        (None, None) => Rollout::Settled,
    }
}

/// What holds every node that is not half done.
fn hold(
    draft: &Draft<'_>,
    target: &Target,
    desired: &BTreeSet<String>,
    class: ClassVerdict,
    direction: Direction,
) -> Option<Rollout> {
    if direction != Direction::In {
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

/// Whether a node failed for good at what it is to be brought to.
pub(crate) fn has_failed(status: &WasmRuntimeNodeStatus, target: &Target) -> bool {
    status.phase == Phase::Failed
        && status.retry_at.is_none()
        && status.target.as_ref() == Some(&target.hash)
}

/// Whether a node is being changed: it counts against the budget.
pub(crate) fn is_changing(status: &WasmRuntimeNodeStatus) -> bool {
    match status.phase {
        Phase::Installing | Phase::Verifying => true,
        // It will be tried again by itself, and until then nobody knows what it is like. One that
        // lost its handler was not begun yet.
        Phase::Failed => status.retry_at.is_some() && status.attempts > 0,
        Phase::Removing => status.job.is_some(),
        Phase::Claimed | Phase::Ready | Phase::Unsupported => false,
    }
}

/// Whether a node could not be cleaned, the last time that it was tried. One whose pods still use
/// the runtime is as it was.
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
    /// How many nodes may fail.
    threshold: usize,
    /// How many nodes could not be cleaned.
    stuck: usize,
    hold: Option<Rollout>,
}

impl Budget {
    /// Whether the candidate may begin now, or what it waits for.
    fn judge(
        &self,
        draft: &Draft<'_>,
        target: &Target,
        tally: Tally,
        candidate: &Candidate,
    ) -> Result<(), Rollout> {
        let has_slot = draft.after.get(&candidate.node).is_some_and(is_changing);
        let free = has_slot || tally.changing < self.slots;
        let slot = || if free { Ok(()) } else { Err(Rollout::Going) };
        // One that has a slot holds it until it goes on, and others may need it.
        let is_half_off = has_slot
            || draft
                .after
                .get(&candidate.node)
                .is_some_and(|status| status.phase == Phase::Removing);
        match (candidate.why, self.hold) {
            (why, _) if !draft.prepared && why != Why::Remove => Err(Rollout::Preparing),
            // What is half done is finished, whatever holds the others; it has its slot.
            (Why::Retry, _) => slot(),
            (_, Some(hold @ (Rollout::Paused | Rollout::Blocked))) => Err(hold),
            // A removal that does harm does not go from node to node.
            (Why::Remove, _) if !is_half_off && self.stuck >= self.threshold => {
                Err(Rollout::RemovalStopped { failed: self.stuck })
            }
            // Nodes that failed at an installation do not keep others from being healed or cleaned.
            (Why::Reverify | Why::Remove, _) => slot(),
            (Why::Fresh | Why::Upgrade, Some(hold)) if !asked_again(draft, target, candidate) => {
                Err(hold)
            }
            (Why::Fresh | Why::Upgrade, _) => self.after_canary(tally).and_then(|()| slot()),
        }
    }

    fn after_canary(&self, Tally { good, tried, .. }: Tally) -> Result<(), Rollout> {
        if good >= self.canary || good + tried < self.canary {
            Ok(())
        } else {
            Err(Rollout::Canary)
        }
    }
}

/// Numbers of nodes that decide whether another one may begin.
#[derive(Debug, Clone, Copy)]
struct Tally {
    /// Nodes that are being changed, wherever to.
    changing: usize,
    /// Nodes that work with what the spec says.
    good: usize,
    /// Nodes that are being brought to it.
    tried: usize,
}

impl Tally {
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

/// Whether a person asked for another try of this very node: it is what failed, so failures do not
/// hold it.
fn asked_again(draft: &Draft<'_>, target: &Target, candidate: &Candidate) -> bool {
    let status = draft.after.get(&candidate.node);
    let asked = draft
        .observed
        .runtime
        .annotations()
        .get(names::RETRY_ANNOTATION);
    asked.is_some()
        && status.is_some_and(|status| {
            has_failed(status, target) && status.retry_token.as_ref() != asked
        })
}

/// How many nodes of a pool may be changed at a time; one always may.
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
        unlabel(draft, name, node);
        (Phase::Removing, target.uninstall(node))
    } else {
        match target.install(node) {
            Ok(request) => (Phase::Installing, request),
            // Who asked to begin had seen that it can.
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
        status.since = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        status.target = (phase == Phase::Installing).then(|| target.hash.clone());
        status.job = Some(job.clone());
        status.retry_at = None;
        status.retry_token = token;
        if !was_removing {
            // What keeps a node from being clean is said until it is.
            status.reason = None;
            status.message = None;
        }
    });
    let limit = limit(draft);
    draft.act(Action::StartInstaller {
        job,
        node: name.clone(),
        request: Box::new(request),
        limit,
    });
}

/// A name of at most 63 letters that no other try has.
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
