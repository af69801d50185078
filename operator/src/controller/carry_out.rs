//! Carries out a plan: the actions of a node in their order, nodes concurrently. The results are
//! applied to the cluster state at once.

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use kube::ResourceExt as _;

use crate::apply::{self, Applied, ApplyError, Gone, Kind};
use crate::context::Context;
use crate::crd::WasmRuntimeStatus;
use crate::error::Category;
use crate::names;
use crate::observe::{ClusterState, facts, job_state};
use crate::plan::{Action, Observed, Plan};

/// Maximum number of concurrent API calls.
const MAX_CONCURRENT_CALLS: usize = 8;

/// The results of one node's actions, and the action that failed.
type GroupResult<'a> = (Vec<(&'a Action, Applied)>, Option<(&'a Action, ApplyError)>);

/// Applies every action.
///
/// # Errors
/// The most severe failure. If an action of a node fails, its further actions are skipped; other
/// nodes continue. They also continue if an action of the runtime as a whole fails: actions that
/// depend on it are not in the same plan.
pub(super) async fn apply_all(
    context: &Context,
    cluster: &mut ClusterState,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), ApplyError> {
    let mut result = Ok(());
    for group in groups(&plan.actions) {
        // The runtime's object stays until all actions succeeded.
        if result.is_err()
            && group
                .iter()
                .flatten()
                .any(|action| **action == Action::ReleaseFinalizer)
        {
            break;
        }
        // Boxed, because otherwise the compiler does not see that the future is Send.
        let calls: Vec<BoxFuture<'_, GroupResult<'_>>> = group
            .into_iter()
            .map(|actions| apply_in_order(context, observed, actions).boxed())
            .collect();
        let outcomes: Vec<GroupResult<'_>> = stream::iter(calls)
            .buffered(MAX_CONCURRENT_CALLS)
            .collect()
            .await;
        for (done, failed) in outcomes {
            for (action, applied) in done {
                record_applied(cluster, applied);
                context.recorder.publish_action(observed, action);
            }
            if let Some((action, error)) = failed {
                record_unconfirmed_write(cluster, observed, action, &error);
                result = Err(more_severe(result.err(), error));
            }
        }
    }
    result
}

/// Returns the more severe of two failures: one that needs intervention, or else the first.
fn more_severe(before: Option<ApplyError>, error: ApplyError) -> ApplyError {
    match before {
        Some(before)
            if before.category().needs_intervention() || !error.category().needs_intervention() =>
        {
            before
        }
        _ => error,
    }
}

/// Writes the status of the WasmRuntime, if it changed.
///
/// # Errors
/// If it was not written.
pub(super) async fn write_status(
    context: &Context,
    cluster: &mut ClusterState,
    observed: &Observed,
    status: &WasmRuntimeStatus,
) -> Result<(), ApplyError> {
    if observed.runtime.status.as_ref() == Some(status) {
        return Ok(());
    }
    apply::write_status(context, &observed.runtime, status)
        .await
        .map(|applied| record_applied(cluster, applied))
}

/// Returns the actions in groups that are applied one after the other; the lists in a group are
/// independent of each other.
///
/// The end of an installer on one node is written before another one is started: an observer never
/// sees more nodes in change than the budget allows.
fn groups(actions: &[Action]) -> Vec<Vec<Vec<&Action>>> {
    let both_of_nodes =
        |one: &Action, other: &Action| one.node().is_some() && other.node().is_some();
    let in_two = |group| {
        let (starting, others): (Vec<_>, Vec<_>) = by_node(group)
            .into_iter()
            .partition(|list| list.iter().copied().any(starts_installer));
        [others, starting]
    };
    actions
        .chunk_by(both_of_nodes)
        .flat_map(in_two)
        .filter(|group| !group.is_empty())
        .collect()
}

fn starts_installer(action: &Action) -> bool {
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

async fn apply_in_order<'a>(
    context: &Context,
    observed: &Observed,
    actions: Vec<&'a Action>,
) -> GroupResult<'a> {
    let mut done = Vec::new();
    for action in actions {
        match apply::apply(context, observed, action).await {
            Ok(applied) => done.push((action, applied)),
            Err(error) => return (done, Some((action, error))),
        }
    }
    (done, None)
}

/// Records a write without an answer: it may have been done.
fn record_unconfirmed_write(
    cluster: &mut ClusterState,
    observed: &Observed,
    action: &Action,
    error: &ApplyError,
) {
    if let Action::SetNode { node, .. } = action
        && error.category() == Category::Unavailable
    {
        cluster
            .unconfirmed_writes
            .insert(names::runtime_node(&observed.runtime.name_any(), node));
    }
}

/// Reads the objects of unconfirmed writes: a plan without them could start a second installer on a
/// node.
///
/// # Errors
/// If one cannot be read.
pub(super) async fn read_unconfirmed_writes(
    context: &Context,
    cluster: &mut ClusterState,
) -> Result<(), ApplyError> {
    while let Some(name) = cluster.unconfirmed_writes.first().cloned() {
        match apply::read_runtime_node(context, &name).await? {
            Some(state) => record_applied(cluster, Applied::RuntimeNode(Box::new(state))),
            None => cluster.runtime_nodes.remove(&name),
        }
        cluster.unconfirmed_writes.remove(&name);
    }
    Ok(())
}

/// Applies the result of a write to the cluster state. The watch event comes later, and a plan
/// before it would use the old object.
fn record_applied(cluster: &mut ClusterState, applied: Applied) {
    match applied {
        Applied::Runtime(runtime) => drop(cluster.runtimes.put(*runtime, |runtime| runtime)),
        Applied::RuntimeNode(state) => drop(cluster.runtime_nodes.put(*state, |state| state)),
        Applied::Node(node) => drop(cluster.nodes.put(*node, |node| facts(&node))),
        Applied::Job(job) => drop(cluster.jobs.put(*job, |job| job_state(&job))),
        Applied::Class(class) => drop(cluster.classes.put(*class, |class| class)),
        Applied::Gone(Gone { kind, name, .. }) => match kind {
            Kind::Runtime => cluster.runtimes.remove(&name),
            Kind::RuntimeNode => cluster.runtime_nodes.remove(&name),
            Kind::Job => cluster.remove_job(&name),
            Kind::Class => cluster.classes.remove(&name),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn actions_of_nodes_are_grouped_between_those_of_the_runtime() {
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
    fn installers_start_after_other_actions_of_nodes() {
        let set = |node: &str| Action::SetNode {
            node: node.to_owned(),
            status: Box::default(),
        };
        let request = json!({ "verb": "Install", "runtime": "r", "handler": "r",
            "distribution": "Systemd", "image": "installer" });
        let request = serde_json::from_value(request).unwrap();
        let timeout = std::time::Duration::from_secs(1);
        let start = Action::StartInstaller {
            job: "job".to_owned(),
            node: "a".to_owned(),
            request,
            timeout,
        };
        let actions = [set("a"), start, set("b")];
        let nodes: Vec<Vec<_>> = groups(&actions)
            .iter()
            .map(|group| group.iter().map(|list| list[0].node().unwrap()).collect())
            .collect();
        assert_eq!(nodes, [["b"], ["a"]]);
    }
}
