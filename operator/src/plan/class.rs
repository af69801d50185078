//! The owner of the RuntimeClass and of the runtime's names, and what has to exist before nodes
//! are changed.

use kube::{Resource as _, ResourceExt as _};

use super::action::Action;
use super::direction::Direction;
use super::observed::Observed;
use crate::crd::WasmRuntime;
use crate::names;
use crate::objects::runtime_class;

/// What has to be done about the RuntimeClass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassVerdict {
    /// It is as in the spec.
    AsDesired,
    /// It is absent, or ours and different, or another owner's that may be adopted.
    ToApply,
    /// It is ours, and has to be removed.
    ToRemove,
    /// It does not exist, and is not wanted.
    Absent,
    /// It has another owner: no node is changed.
    Foreign,
    /// It has another handler, which cannot be changed: no node is changed.
    OtherHandler,
    /// An older runtime has this one's handler or class: no node is changed.
    NameTaken,
}

impl ClassVerdict {
    /// Whether nodes may be changed.
    pub fn permits(self) -> bool {
        matches!(self, Self::AsDesired | Self::ToApply)
    }
}

/// Returns what has to be done about the RuntimeClass.
pub(super) fn class_verdict(observed: &Observed, direction: Direction) -> ClassVerdict {
    let runtime = &observed.runtime;
    let found = observed.class.as_ref();
    let ours = found.is_some_and(|class| runtime_class::is_ours(class, &runtime.name_any()));
    if direction != Direction::Install {
        return if ours {
            ClassVerdict::ToRemove
        } else {
            ClassVerdict::Absent
        };
    }
    if observed
        .peers
        .iter()
        .any(|peer| is_before(peer, runtime) && share_a_name(peer, runtime))
    {
        return ClassVerdict::NameTaken;
    }
    let Some(found) = found else {
        return ClassVerdict::ToApply;
    };
    let desired = runtime_class::desired(runtime);
    match (ours, runtime.spec.runtime_class.adopt_existing) {
        _ if found.handler != desired.handler => ClassVerdict::OtherHandler,
        (false, false) => ClassVerdict::Foreign,
        (true, _) if runtime_class::matches(&desired, found) => ClassVerdict::AsDesired,
        (false, true) | (true, _) => ClassVerdict::ToApply,
    }
}

/// Returns the action that has to be done before a node is changed. A plan with such an action
/// starts no installer, the next one does. Recording results, taking labels off and cleaning do not
/// wait for it.
pub(super) fn preparation(
    observed: &Observed,
    class: ClassVerdict,
    direction: Direction,
) -> Option<Action> {
    let is_kept = observed
        .runtime
        .finalizers()
        .iter()
        .any(|name| name == names::RUNTIME_FINALIZER);
    match (direction, class) {
        (Direction::Install, _) if !is_kept => Some(Action::AddFinalizer),
        (Direction::Install, ClassVerdict::ToApply) => Some(Action::ApplyRuntimeClass),
        _ => None,
    }
}

fn share_a_name(one: &WasmRuntime, other: &WasmRuntime) -> bool {
    let (one, other) = (&one.spec.runtime_class, &other.spec.runtime_class);
    one.name == other.name || one.handler == other.handler
}

/// The older runtime keeps a name; of two of the same age, the first by name does.
fn is_before(one: &WasmRuntime, other: &WasmRuntime) -> bool {
    let key = |runtime: &WasmRuntime| {
        (
            runtime.meta().creation_timestamp.clone().map(|time| time.0),
            runtime.name_any(),
        )
    };
    key(one) < key(other)
}
