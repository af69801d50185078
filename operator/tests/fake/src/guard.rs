//! The guard: checks the invariants of rollouts at every change, before any client can see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use installer_protocol::{Request, Verb};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::fleet::{Fleet, Machine, has_ended, request_of};
use crate::resource::{JOB, NODE, POD};
use crate::store::{Change, ChangeKind};

/// The prefix of the product's labels.
const PREFIX: &str = "runtime.wasmedge.dev/";

/// Checks the invariants of a cluster.
#[derive(Debug, Clone)]
pub struct Guard {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Maximum number of nodes of a runtime that are changed at a time.
    budgets: BTreeMap<String, usize>,
    /// Nodes with an open installer Job, by runtime.
    open: BTreeMap<String, BTreeMap<String, String>>,
    /// Nodes with the label, by runtime.
    labelled: BTreeMap<String, BTreeSet<String>>,
    most: usize,
    violations: Vec<String>,
}

impl Guard {
    /// Starts to check `cluster` with the nodes of `fleet`. Connections whose name begins with
    /// `operator` are those of operators. There is no budget before [`Self::budget`] is called.
    pub fn over(cluster: &Cluster, fleet: &Fleet) -> Self {
        let guard = Self {
            state: Arc::default(),
        };
        let look = fleet.inspector();
        let state = guard.state.clone();
        cluster.observe(move |change| look(&mut |machines| locked(&state).see(change, machines)));
        guard
    }

    /// Sets the maximum number of nodes of `runtime` that are changed at a time.
    pub fn budget(&self, runtime: &str, nodes: usize) {
        locked(&self.state)
            .budgets
            .insert(runtime.to_owned(), nodes);
    }

    /// Returns all violations.
    pub fn violations(&self) -> Vec<String> {
        locked(&self.state).violations.clone()
    }

    /// Returns the highest number of nodes of one runtime that were changed at a time.
    pub fn most(&self) -> usize {
        locked(&self.state).most
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .expect("nothing panics while it holds the guard")
}

impl State {
    fn see(&mut self, change: &Change, machines: &BTreeMap<String, Machine>) {
        match change.key.resource {
            NODE => self.see_node(change, machines),
            JOB => self.see_job(change, machines),
            POD => self.see_pod(change),
            _ => {}
        }
    }

    fn record_violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn see_node(&mut self, change: &Change, machines: &BTreeMap<String, Machine>) {
        let name = &change.key.name;
        let by_operator = change.by.starts_with("operator");
        match (&change.before, change.kind) {
            (_, ChangeKind::Deleted) => {
                self.labelled
                    .values_mut()
                    .for_each(|nodes| nodes.retain(|node| node != name));
                self.open
                    .values_mut()
                    .for_each(|jobs| jobs.retain(|node, _| node != name));
                if by_operator {
                    self.record_violation(format!("the node {name} was deleted"));
                }
                return;
            }
            (None, _) if by_operator => {
                self.record_violation(format!("the node {name} was created"));
            }
            (Some(before), _) if by_operator && others(before) != others(&change.object) => {
                self.record_violation(format!(
                    "fields of other owners were changed on the node {name}"
                ));
            }
            _ => {}
        }
        let before = change
            .before
            .as_deref()
            .map(ready_labels)
            .unwrap_or_default();
        let after = ready_labels(&change.object);
        for runtime in after.difference(&before) {
            self.labelled
                .entry(runtime.clone())
                .or_default()
                .insert(name.clone());
            let Some(machine) = machines
                .get(name)
                .filter(|machine| by_operator && machine.sabotaged.is_empty())
            else {
                continue;
            };
            if !machine.works(runtime) {
                self.record_violation(format!(
                    "{name} was labelled for {runtime}, which does not work there"
                ));
            }
            let lists = |handler: &String| {
                change.object["status"]["runtimeHandlers"]
                    .to_string()
                    .contains(&format!("\"{handler}\""))
            };
            let handler = machine
                .handlers
                .iter()
                .find(|(_, leads_to)| *leads_to == runtime)
                .map(|(handler, _)| handler);
            if !machine.containerd.starts_with("1.") && !handler.is_some_and(lists) {
                self.record_violation(format!(
                    "{name} was labelled for {runtime} before its kubelet listed the handler"
                ));
            }
        }
        for runtime in before.difference(&after) {
            self.labelled
                .entry(runtime.clone())
                .or_default()
                .remove(name);
        }
    }

    fn see_job(&mut self, change: &Change, machines: &BTreeMap<String, Machine>) {
        let Some(Request { runtime, verb, .. }) = request_of(&change.object) else {
            return;
        };
        let node = change.object["spec"]["template"]["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let job = change.key.name.clone();
        let ended = has_ended(&change.object);
        let open = self.open.entry(runtime.clone()).or_default();
        if ended || change.kind == ChangeKind::Deleted {
            open.retain(|_, other| *other != job);
        } else if let Some(other) = open.insert(node.clone(), job.clone())
            && other != job
        {
            self.record_violation(format!(
                "{job} was started on {node} while {other} was open"
            ));
        }
        if change.kind == ChangeKind::Added {
            let labelled = self
                .labelled
                .get(&runtime)
                .is_some_and(|nodes| nodes.contains(&node));
            if verb == Verb::Uninstall && labelled {
                self.record_violation(format!(
                    "{runtime} is being removed from {node} while pods can be scheduled there"
                ));
            }
            let others = self.open.iter().filter(|(other, _)| **other != runtime);
            let clashes: Vec<String> = others
                .filter_map(|(_, jobs)| jobs.get(&node).cloned())
                .collect();
            for clash in clashes {
                self.record_violation(format!(
                    "{job} was started on {node} while {clash} of another runtime was open"
                ));
            }
        }
        if change.kind == ChangeKind::Added {
            self.count(&runtime, machines);
        }
    }

    /// Removes an installer that has ended, even if its Job has not.
    fn see_pod(&mut self, change: &Change) {
        let state = &change.object["status"]["containerStatuses"][0]["state"];
        if change.kind == ChangeKind::Deleted || state.get("terminated").is_some() {
            let job = change.object["metadata"]["labels"]["batch.kubernetes.io/job-name"]
                .as_str()
                .unwrap_or_default();
            self.open
                .values_mut()
                .for_each(|jobs| jobs.retain(|_, other| other != job));
        }
    }

    /// Counts the nodes with an installer that starts or runs, and those that are not Ready again
    /// after one.
    fn count(&mut self, runtime: &str, machines: &BTreeMap<String, Machine>) {
        let settling = machines
            .iter()
            .filter(|(_, machine)| !machine.is_gone && machine.settling.contains_key(runtime));
        let mut nodes: BTreeSet<&String> = settling.map(|(name, _)| name).collect();
        nodes.extend(self.open.get(runtime).into_iter().flat_map(BTreeMap::keys));
        let count = nodes.len();
        self.most = self.most.max(count);
        if let Some(budget) = self.budgets.get(runtime).copied()
            && count > budget
        {
            let violation = format!(
                "{count} nodes of {runtime} are changed at a time, budget {budget}: {nodes:?}"
            );
            self.record_violation(violation);
        }
    }
}

/// Returns the runtimes for which a node is labelled.
fn ready_labels(node: &Value) -> BTreeSet<String> {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let ready = labels.filter(|(_, value)| *value == "ready");
    ready
        .filter_map(|(label, _)| label.strip_prefix(PREFIX).map(str::to_owned))
        .collect()
}

/// Returns the fields of a node that an operator must not change: all except the product's labels,
/// the taints, and the metadata of writes.
fn others(node: &Value) -> Value {
    let mut node = node.clone();
    if let Some(labels) = node["metadata"]["labels"].as_object_mut() {
        labels.retain(|label, _| !label.starts_with(PREFIX));
    }
    for (place, field) in [("/metadata", "resourceVersion"), ("/spec", "taints")] {
        if let Some(members) = node.pointer_mut(place).and_then(Value::as_object_mut) {
            members.remove(field);
        }
    }
    node
}
