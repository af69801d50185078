//! Carries out a plan: the actions of a node in their order, nodes beside each other, and what came
//! of it kept at once.

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use kube::ResourceExt as _;

use crate::apply::{self, Applied, ApplyError, Gone, Kind};
use crate::context::Context;
use crate::crd::WasmRuntimeStatus;
use crate::error::Category;
use crate::events;
use crate::names;
use crate::observe::{World, end_of_job, facts};
use crate::plan::{Action, Observed, Plan};

/// Calls at a time: enough for a large cluster's first look, few beside what the API server gives
/// everybody.
const CALLS: usize = 8;

/// What one node's actions led to, and the one that failed.
type Outcome<'a> = (Vec<(&'a Action, Applied)>, Option<(&'a Action, ApplyError)>);

/// Carries out every action.
///
/// # Errors
/// The first failure, or the first one that only a person can mend. A node whose action failed
/// keeps its further ones for later; other nodes go on, and so they do where an action of the
/// runtime as a whole failed: what is not to be begun without it is not in the same plan.
pub(super) async fn all(
    context: &Context,
    world: &mut World,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), ApplyError> {
    let mut result = Ok(());
    for group in groups(&plan.actions) {
        // The runtime's object stands for all that should have been done by now.
        if result.is_err()
            && group
                .iter()
                .flatten()
                .any(|action| **action == Action::ReleaseFinalizer)
        {
            break;
        }
        // In boxes, because without them the compiler takes the whole future for one that cannot
        // change threads.
        let calls: Vec<BoxFuture<'_, Outcome<'_>>> = group
            .into_iter()
            .map(|actions| one_after_the_other(context, observed, actions).boxed())
            .collect();
        let outcomes: Vec<Outcome<'_>> = stream::iter(calls).buffered(CALLS).collect().await;
        for (done, failed) in outcomes {
            for (action, applied) in done {
                note(world, applied);
                events::tell(context, observed, action);
            }
            if let Some((action, error)) = failed {
                doubt(world, observed, action, &error);
                result = Err(weightier(result.err(), error));
            }
        }
    }
    result
}

/// Of two failures the one that is told.
fn weightier(before: Option<ApplyError>, error: ApplyError) -> ApplyError {
    match before {
        Some(before)
            if before.category().is_for_a_person() || !error.category().is_for_a_person() =>
        {
            before
        }
        _ => error,
    }
}

/// Writes what the runtime says of itself, if that changed.
///
/// # Errors
/// When it could not be written.
pub(super) async fn tell(
    context: &Context,
    world: &mut World,
    observed: &Observed,
    status: &WasmRuntimeStatus,
) -> Result<(), ApplyError> {
    if observed.runtime.status.as_ref() == Some(status) {
        return Ok(());
    }
    apply::write_status(context, &observed.runtime, status)
        .await
        .map(|applied| note(world, applied))
}

/// The actions in groups that follow each other; a group holds lists that do not concern each
/// other.
///
/// What ends on one node is written before another one begins: who watches the nodes never sees
/// more of them in change than the budget allows.
fn groups(actions: &[Action]) -> Vec<Vec<Vec<&Action>>> {
    let both_of_nodes =
        |one: &Action, other: &Action| one.node().is_some() && other.node().is_some();
    let in_two = |group| {
        let (beginning, others): (Vec<_>, Vec<_>) = by_node(group)
            .into_iter()
            .partition(|list| list.iter().copied().any(begins));
        [others, beginning]
    };
    actions
        .chunk_by(both_of_nodes)
        .flat_map(in_two)
        .filter(|group| !group.is_empty())
        .collect()
}

fn begins(action: &Action) -> bool {
    matches!(action, Action::StartInstaller { .. })
}

fn by_node(group: &[Action]) -> Vec<Vec<&Action>> {
    let mut nodes: Vec<Vec<&Action>> = Vec::new();
    for action in group {
        match nodes
            .iter_mut()
            .find(|list| list[0].node() == action.node())
        {
            Some(list) => list.push(action),
            None => nodes.push(vec![action]),
        }
    }
    nodes
}

async fn one_after_the_other<'a>(
    context: &Context,
    observed: &Observed,
    actions: Vec<&'a Action>,
) -> Outcome<'a> {
    let mut done = Vec::new();
    for action in actions {
        match apply::apply(context, observed, action).await {
            Ok(applied) => done.push((action, applied)),
            Err(error) => return (done, Some((action, error))),
        }
    }
    (done, None)
}

/// A write that got no answer may have been made all the same.
fn doubt(world: &mut World, observed: &Observed, action: &Action, error: &ApplyError) {
    if let Action::SetNode { node, .. } = action
        && error.category() == Category::Unavailable
    {
        world
            .doubts
            .insert(names::runtime_node(&observed.runtime.name_any(), node));
    }
}

/// Reads what may have been written: a decision made without it could start a second installer on a
/// node.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn resolve_doubts(context: &Context, world: &mut World) -> Result<(), ApplyError> {
    while let Some(name) = world.doubts.first().cloned() {
        match apply::read_runtime_node(context, &name).await? {
            Some(state) => note(world, Applied::RuntimeNode(Box::new(state))),
            None => world.runtime_nodes.remove(&name),
        }
        world.doubts.remove(&name);
    }
    Ok(())
}

/// Takes what was written into what is known. Watches tell of it later, and a decision made before
/// that would be made on what was.
fn note(world: &mut World, applied: Applied) {
    match applied {
        Applied::Runtime(runtime) => drop(world.runtimes.put(*runtime, |runtime| runtime)),
        Applied::RuntimeNode(state) => drop(world.runtime_nodes.put(*state, |state| state)),
        Applied::Node(node) => drop(world.nodes.put(*node, |node| facts(&node))),
        Applied::Job(job) => drop(world.jobs.put(*job, |job| end_of_job(&job))),
        Applied::Class(class) => drop(world.classes.put(*class, |class| class)),
        Applied::Gone(Gone { kind, name, .. }) => match kind {
            Kind::Runtime => world.runtimes.remove(&name),
            Kind::RuntimeNode => world.runtime_nodes.remove(&name),
            Kind::Job => world.remove_job(&name),
            Kind::Class => world.classes.remove(&name),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_go_on_beside_each_other_and_what_concerns_all_comes_in_between() {
        let label = |node: &str| Action::Label {
            node: node.to_owned(),
            uid: String::new(),
        };
        let forget = |node: &str| Action::Forget {
            node: node.to_owned(),
        };
        let actions = [
            Action::AddFinalizer,
            Action::ApplyRuntimeClass,
            label("a"),
            label("b"),
            forget("a"),
            Action::ReleaseFinalizer,
        ];
        let groups = groups(&actions);
        let sizes: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.iter().map(Vec::len).collect())
            .collect();
        assert_eq!(sizes, [vec![1], vec![1], vec![2, 1], vec![1]]);
    }

    #[test]
    fn a_node_begins_after_another_one_has_ended() {
        let set = |node: &str| Action::SetNode {
            node: node.to_owned(),
            status: Box::default(),
        };
        let request = json!({ "verb": "Install", "runtime": "r", "handler": "r", "distribution": "Systemd", "image": "installer" });
        let request = serde_json::from_value(request).unwrap();
        let limit = std::time::Duration::from_secs(1);
        let start = Action::StartInstaller {
            job: "job".to_owned(),
            node: "a".to_owned(),
            request,
            limit,
        };
        let actions = [set("a"), start, set("b")];
        let nodes: Vec<Vec<_>> = groups(&actions)
            .iter()
            .map(|group| group.iter().map(|list| list[0].node().unwrap()).collect())
            .collect();
        assert_eq!(nodes, [["b"], ["a"]]);
    }
}
