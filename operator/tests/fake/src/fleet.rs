//! Simulated nodes that run installer Jobs by a script. A fleet has the roles of the Job
//! controller, kubelets, containerd and installers: it starts pods, reports, lists handlers, and
//! records violations.
//!
//! * [`machine`]: the real state of a node. [`script`]: what its installers do.
//! * `installer`: one Job, from its creation to its end. `object`: the objects of nodes, pods and
//!   Jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use installer_protocol::Request;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::resource::{JOB, NODE, POD};
use crate::store::{Change, ChangeKind, Key};

pub mod machine;
pub mod script;
mod installer;
mod object;
#[cfg(test)]
mod tests;

pub use machine::{Joining, Machine};
pub(crate) use object::has_ended;
pub use script::{Delays, Script};

/// How long Kubernetes keeps pods of a node that is gone.
const POD_COLLECTION_DELAY: Duration = Duration::from_secs(40);

/// How long a kubelet takes to end a pod without containers.
const TERMINATION_DELAY: Duration = Duration::from_secs(1);

/// The nodes, and what runs on them, until it is dropped.
#[derive(Debug)]
pub struct Fleet {
    shared: Shared,
    follower: JoinHandle<()>,
}

/// A callback with the machines, by the names of their nodes.
type Show<'a> = &'a mut dyn FnMut(&BTreeMap<String, Machine>);

/// The state that a fleet's tasks share.
#[derive(Debug, Clone)]
struct Shared {
    cluster: Cluster,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<String, Machine>,
    installers: BTreeMap<Key, JoinHandle<()>>,
    violations: Vec<String>,
    boots: u64,
}

impl Fleet {
    /// Starts a fleet without nodes, which runs the Jobs of `cluster` from now on.
    pub fn start(cluster: &Cluster) -> Self {
        let shared = Shared {
            cluster: cluster.clone(),
            state: Arc::default(),
        };
        let mut changes = cluster.subscribe();
        let follower = {
            let shared = shared.clone();
            tokio::spawn(async move {
                while let Some(change) = changes.recv().await {
                    shared.react(&change);
                }
            })
        };
        Self { shared, follower }
    }

    /// Adds a node to the cluster.
    pub fn join(&self, joining: Joining) {
        let boot = self.shared.next_boot();
        let node = joining.object(&boot);
        let Joining { name, machine, .. } = joining;
        self.shared.state().machines.insert(name, machine);
        self.shared
            .cluster
            .create(node)
            .expect("a node of a test is valid and new");
    }

    /// Returns the real state of a node.
    pub fn machine(&self, name: &str) -> Machine {
        self.shared
            .state()
            .machines
            .get(name)
            .cloned()
            .expect("the node joined before")
    }

    /// Replaces the scripts of the next installers on `name`.
    pub fn script(&self, name: &str, scripts: impl IntoIterator<Item = Script>) {
        self.shared.with_machine(name, |machine| {
            machine.scripts = scripts.into_iter().collect();
        });
    }

    /// Removes a node: its machine and its object.
    pub fn remove(&self, name: &str) {
        self.shared.remove_node(name);
    }

    /// Reboots a node: its containers are killed, its disk stays.
    pub async fn reboot(&self, name: &str, time: Duration) {
        self.shared
            .kill_installers_of(name, 255, "the node was rebooted");
        self.shared.report_ready(name, false);
        sleep(time).await;
        let boot = self.shared.next_boot();
        let key = Key::new(NODE, "", name);
        // A node that was removed in the meantime does not return.
        let _ = self.shared.cluster.edit(&key, |node| {
            node["status"]["nodeInfo"]["bootID"] = boot.into();
        });
        self.shared.report_ready(name, true);
    }

    /// Sets whether the node's kubelet reports Ready.
    pub fn set_ready(&self, name: &str, ready: bool) {
        self.shared.report_ready(name, ready);
    }

    /// Removes the runtime's handler without the operator's knowledge.
    pub fn lose_handler(&self, name: &str, handler: &str) {
        self.shared.with_machine(name, |machine| {
            machine.handlers.retain(|listed, _| listed != handler);
            machine.sabotaged.insert(handler.to_owned());
        });
        self.shared.report_handlers(name);
    }

    /// Sends the heartbeat of the node's kubelet, as happens every five minutes.
    pub fn heartbeat(&self, name: &str) {
        let now = self.shared.cluster.now().to_string();
        let beat = |node: &mut Value| {
            for condition in node["status"]["conditions"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                condition["lastHeartbeatTime"] = now.clone().into();
            }
        };
        // A node without an object has no heartbeat.
        let _ = self.shared.cluster.edit(&Key::new(NODE, "", name), beat);
    }

    /// Returns every node that joined and was not removed.
    pub fn names(&self) -> Vec<String> {
        self.shared
            .state()
            .machines
            .iter()
            .filter(|(_, machine)| !machine.is_gone)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns the number of running installers.
    pub fn running_installers(&self) -> usize {
        self.shared
            .state()
            .installers
            .values()
            .filter(|task| !task.is_finished())
            .count()
    }

    /// Returns the violations that nodes observed, such as two installers at once.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Returns a function that passes the machines to an observer, which must not use the cluster.
    pub(crate) fn inspector(&self) -> impl Fn(Show<'_>) + Send + 'static {
        let shared = self.shared.clone();
        move |show| show(&shared.state().machines)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.follower.abort();
        for task in self.shared.state().installers.values() {
            task.abort();
        }
    }
}

impl Shared {
    /// Must not be held while the cluster is used: an observer may lock it within a change of the
    /// cluster.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the fleet")
    }

    fn with_machine(&self, name: &str, change: impl FnOnce(&mut Machine)) {
        let mut state = self.state();
        if let Some(machine) = state
            .machines
            .get_mut(name)
            .filter(|machine| !machine.is_gone)
        {
            change(machine);
        }
    }

    fn next_boot(&self) -> String {
        let mut state = self.state();
        state.boots += 1;
        format!("boot-{}", state.boots)
    }

    fn record_violation(&self, what: String) {
        self.state().violations.push(what);
    }

    fn react(&self, change: &Change) {
        match (change.key.resource, change.kind) {
            (JOB, ChangeKind::Added) => {
                if let Some(request) = request_of(&change.object) {
                    let task = tokio::spawn(installer::run(
                        self.clone(),
                        change.key.clone(),
                        change.object.clone(),
                        request,
                    ));
                    self.state().installers.insert(change.key.clone(), task);
                }
            }
            // A pod that was not deleted with its Job continues.
            (JOB, ChangeKind::Deleted)
                if self.cluster.get(&object::pod_key(&change.key)).is_none() =>
            {
                let task = self.state().installers.remove(&change.key);
                if let Some(task) = task.filter(|task| !task.is_finished()) {
                    task.abort();
                    self.record_killed(&change.object);
                }
            }
            (POD, ChangeKind::Modified) if object::is_to_end(&change.object) => {
                let (shared, pod, job) = (
                    self.clone(),
                    change.key.clone(),
                    object::job_of(&change.object),
                );
                tokio::spawn(async move {
                    sleep(TERMINATION_DELAY).await;
                    object::end_unstarted_pod(&shared.cluster, &pod);
                    if shared.cluster.get(&job).is_none()
                        && let Some(task) = shared.state().installers.remove(&job)
                    {
                        task.abort();
                    }
                });
            }
            (NODE, ChangeKind::Deleted) => self.collect_pods(&change.key.name),
            _ => {}
        }
    }

    /// Records that an installer was killed during its work; the next one has to handle the rest.
    fn record_killed(&self, job: &Value) {
        let node = job["spec"]["template"]["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let name = job["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.with_machine(&node, |machine| {
            if machine.installer.as_deref() == Some(name.as_str()) {
                machine.installer = None;
            }
        });
    }

    fn kill_installers_of(&self, node: &str, code: i64, why: &str) {
        let job = self
            .state()
            .machines
            .get(node)
            .and_then(|machine| machine.installer.clone());
        let Some(job) = job else { return };
        let found = self
            .state()
            .installers
            .iter()
            .find(|(key, _)| key.name == job)
            .map(|(key, task)| (key.clone(), task.abort_handle()));
        let Some((key, task)) = found else { return };
        task.abort();
        self.with_machine(node, |machine| machine.installer = None);
        object::end_pod(&self.cluster, &key, code, "Error", None);
        object::fail_job(&self.cluster, &key, "BackoffLimitExceeded", why);
    }

    fn remove_node(&self, name: &str) {
        self.with_machine(name, |machine| machine.is_gone = true);
        let job = self
            .state()
            .machines
            .get(name)
            .and_then(|machine| machine.installer.clone());
        if let Some(job) = job {
            let installers = &self.state().installers;
            installers
                .iter()
                .filter(|(key, _)| key.name == job)
                .for_each(|(_, task)| task.abort());
        }
        // The object may be gone already.
        let _ = self.cluster.delete(&Key::new(NODE, "", name));
    }

    /// Removes the pods of a node that is gone after a delay; their Jobs fail then.
    fn collect_pods(&self, node: &str) {
        let (shared, node) = (self.clone(), node.to_owned());
        tokio::spawn(async move {
            sleep(POD_COLLECTION_DELAY).await;
            let pods = shared.cluster.all(POD);
            for pod in pods
                .iter()
                .filter(|pod| pod["spec"]["nodeName"] == json!(node))
            {
                let job = object::job_of(pod);
                let metadata = &pod["metadata"];
                let text = |field: &str| metadata[field].as_str().unwrap_or_default();
                // Another client may have removed it.
                let _ = shared
                    .cluster
                    .delete(&Key::new(POD, text("namespace"), text("name")));
                object::fail_job(
                    &shared.cluster,
                    &job,
                    "BackoffLimitExceeded",
                    "Job has reached the specified backoff limit",
                );
            }
        });
    }

    fn report_ready(&self, name: &str, ready: bool) {
        self.with_machine(name, |machine| machine.is_ready = ready);
        // A node that is gone has no status.
        let _ = self.cluster.edit(&Key::new(NODE, "", name), |node| {
            object::set_ready(node, ready);
        });
    }

    fn report_handlers(&self, name: &str) {
        let listed = self.state().machines.get(name).and_then(Machine::listed);
        // As above.
        let _ = self.cluster.edit(&Key::new(NODE, "", name), |node| {
            object::set_handlers(node, listed.as_deref());
        });
    }
}

/// Returns the request of an installer Job; none for other Jobs.
pub(crate) fn request_of(job: &Value) -> Option<Request> {
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let words = ["command", "args"]
        .into_iter()
        .flat_map(|field| container[field].as_array().into_iter().flatten());
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let at = words.iter().position(|word| *word == "--request")?;
    Some(serde_json::from_str(words.get(at + 1)?).expect("the request of an installer is valid"))
}
