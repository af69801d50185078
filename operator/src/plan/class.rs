//! Whose the RuntimeClass is, who may use the runtime's names, and what has to be there before
//! nodes are begun.

use kube::{Resource as _, ResourceExt as _};

use super::{Action, Direction, Observed};
use crate::crd::WasmRuntime;
use crate::names;
use crate::objects::runtime_class;

/// What is to become of the RuntimeClass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassVerdict {
    /// It is as the spec says.
    AsDesired,
    /// It is absent, or ours and different, or somebody's that may be taken over.
    ToApply,
    /// It is ours, and has to go.
    ToRemove,
    /// There is none, and none is wanted.
    Absent,
    /// It is somebody else's: nothing is begun.
    Foreign,
    /// It is somebody else's and has another handler, which cannot be changed: nothing is begun.
    OtherHandler,
    /// An older runtime has this one's handler or class: nothing is begun.
    NameTaken,
}

impl ClassVerdict {
    /// Whether nodes may be begun.
    pub fn permits(self) -> bool {
        matches!(self, Self::AsDesired | Self::ToApply)
    }
}

pub(super) fn judge(observed: &Observed, direction: Direction) -> ClassVerdict {
    let runtime = &observed.runtime;
    let found = observed.class.as_ref();
    let ours = found.is_some_and(|class| runtime_class::is_ours(class, &runtime.name_any()));
    if direction != Direction::In {
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

/// What has to be there before anything is begun on a node. A plan that asks for it begins nothing,
/// the next one does; what takes back, hears or cleans waits for none of it.
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
        (Direction::In, _) if !is_kept => Some(Action::AddFinalizer),
        (Direction::In, ClassVerdict::ToApply) => Some(Action::ApplyRuntimeClass),
        _ => None,
    }
}

fn share_a_name(one: &WasmRuntime, other: &WasmRuntime) -> bool {
    let (one, other) = (&one.spec.runtime_class, &other.spec.runtime_class);
    one.name == other.name || one.handler == other.handler
}

/// The older one keeps a name; of two that are equally old the first by name does.
fn is_before(one: &WasmRuntime, other: &WasmRuntime) -> bool {
    let key = |runtime: &WasmRuntime| {
        (
            runtime.meta().creation_timestamp.clone().map(|time| time.0),
            runtime.name_any(),
        )
    };
    key(one) < key(other)
}
