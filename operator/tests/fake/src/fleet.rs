//! Nodes that run installer Jobs by a script. A fleet does what the Job controller, kubelets,
//! containerds and installers do of it: it starts pods, reports, lists handlers, and notes what no
//! operator may ever cause.
//!
//! * [`machine`]: a node as it really is, whatever its object says. * [`script`]: what its
//!   installers do.
//! * `installer`: one Job, from its creation to its end. * `object`: the objects that tell of all
//!   this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use installer_protocol::Request;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::resource::{JOB, NODE, POD};
use crate::store::{Change, Happened, Key};

pub mod machine;
pub mod script;
mod installer;
mod object;
#[cfg(test)]
mod tests;

pub use machine::{Joining, Machine};
pub(crate) use object::has_ended;
pub use script::{Pace, Script};

/// How long Kubernetes keeps pods of a node that is gone.
const POD_COLLECTION: Duration = Duration::from_secs(40);

/// How long a kubelet takes to end a pod without containers.
const TERMINATION: Duration = Duration::from_secs(1);

/// Nodes, and what runs on them. It lives until it is dropped.
#[derive(Debug)]
pub struct Fleet {
    shared: Shared,
    follower: JoinHandle<()>,
}

/// Is shown the machines, by the names of their nodes.
type Show<'a> = &'a mut dyn FnMut(&BTreeMap<String, Machine>);

/// What a fleet's tasks share.
#[derive(Debug, Clone)]
struct Shared {
    cluster: Cluster,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<String, Machine>,
    installers: BTreeMap<Key, JoinHandle<()>>,
    faults: Vec<String>,
    boots: u64,
}

impl Fleet {
    /// A fleet without nodes, which runs the Jobs of `cluster` from now on.
    pub fn start(cluster: &Cluster) -> Self {
        let shared = Shared {
            cluster: cluster.clone(),
            state: Arc::default(),
        };
        let mut changes = cluster.follow();
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

    /// A node joins the cluster.
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

    /// What a node is really like.
    pub fn machine(&self, name: &str) -> Machine {
        self.shared
            .state()
            .machines
            .get(name)
            .cloned()
            .expect("a test asks for nodes that joined")
    }

    /// What `name`'s next installers do, instead of what they would have done.
    pub fn script(&self, name: &str, scripts: impl IntoIterator<Item = Script>) {
        self.shared.with_machine(name, |machine| {
            machine.scripts = scripts.into_iter().collect();
        });
    }

    /// A node is taken out of the cluster: its machine is gone, and its object with it.
    pub fn remove(&self, name: &str) {
        self.shared.remove_node(name);
    }

    /// A node is rebooted: what runs there is killed, what lies on its disk stays.
    pub async fn reboot(&self, name: &str, time: Duration) {
        self.shared
            .kill_installers_of(name, 255, "the node was rebooted");
        self.shared.tell_ready(name, false);
        sleep(time).await;
        let boot = self.shared.next_boot();
        let key = Key::new(NODE, "", name);
        // A node that was removed meanwhile does not come back.
        let _ = self.shared.cluster.edit(&key, |node| {
            node["status"]["nodeInfo"]["bootID"] = boot.into();
        });
        self.shared.tell_ready(name, true);
    }

    /// The node's kubelet says whether it can run pods.
    pub fn set_ready(&self, name: &str, ready: bool) {
        self.shared.tell_ready(name, ready);
    }

    /// Somebody takes the runtime's handler away behind the operator's back.
    pub fn lose_handler(&self, name: &str, handler: &str) {
        self.shared.with_machine(name, |machine| {
            machine.handlers.retain(|listed, _| listed != handler);
            machine.sabotaged.insert(handler.to_owned());
        });
        self.shared.tell_handlers(name);
    }

    /// The node's kubelet tells anew that it is alive, as it does every five minutes.
    pub fn beat(&self, name: &str) {
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
        // A node without an object does not beat.
        let _ = self.shared.cluster.edit(&Key::new(NODE, "", name), beat);
    }

    /// Every node that ever joined and was not removed.
    pub fn names(&self) -> Vec<String> {
        self.shared
            .state()
            .machines
            .iter()
            .filter(|(_, machine)| !machine.is_gone)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Installers that are at work.
    pub fn at_work(&self) -> usize {
        self.shared
            .state()
            .installers
            .values()
            .filter(|task| !task.is_finished())
            .count()
    }

    /// What no operator may ever cause, and this one did: two installers on a node, and what else
    /// nodes saw.
    pub fn faults(&self) -> Vec<String> {
        self.shared.state().faults.clone()
    }

    /// Shows the machines to a witness, which must not use the cluster.
    pub(crate) fn looker(&self) -> impl Fn(Show<'_>) + Send + 'static {
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
    /// Locked only for moments in which the cluster is not used: a witness may lock it while the
    /// cluster is.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test fails while it holds the fleet")
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

    fn fault(&self, what: String) {
        self.state().faults.push(what);
    }

    fn react(&self, change: &Change) {
        match (change.key.resource, change.happened) {
            (JOB, Happened::Added) => {
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
            // A pod that was not deleted with its Job runs on.
            (JOB, Happened::Deleted)
                if self.cluster.get(&object::pod_key(&change.key)).is_none() =>
            {
                let task = self.state().installers.remove(&change.key);
                if let Some(task) = task.filter(|task| !task.is_finished()) {
                    task.abort();
                    self.note_killed(&change.object);
                }
            }
            (POD, Happened::Modified) if object::is_to_end(&change.object) => {
                let (shared, pod, job) = (
                    self.clone(),
                    change.key.clone(),
                    object::job_of(&change.object),
                );
                tokio::spawn(async move {
                    sleep(TERMINATION).await;
                    object::end_unstarted_pod(&shared.cluster, &pod);
                    if shared.cluster.get(&job).is_none()
                        && let Some(task) = shared.state().installers.remove(&job)
                    {
                        task.abort();
                    }
                });
            }
            (NODE, Happened::Deleted) => self.collect_pods(&change.key.name),
            _ => {}
        }
    }

    /// An installer was killed in the middle; its next one has to cope with what it left.
    fn note_killed(&self, job: &Value) {
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
        // Whoever has no object has none to lose.
        let _ = self.cluster.delete(&Key::new(NODE, "", name));
    }

    /// Pods of a node that is gone are removed after a while, and their Jobs have failed then.
    fn collect_pods(&self, node: &str) {
        let (shared, node) = (self.clone(), node.to_owned());
        tokio::spawn(async move {
            sleep(POD_COLLECTION).await;
            let pods = shared.cluster.all(POD);
            for pod in pods
                .iter()
                .filter(|pod| pod["spec"]["nodeName"] == json!(node))
            {
                let job = object::job_of(pod);
                let metadata = &pod["metadata"];
                let text = |field: &str| metadata[field].as_str().unwrap_or_default();
                // Somebody else may have removed it.
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

    fn tell_ready(&self, name: &str, ready: bool) {
        self.with_machine(name, |machine| machine.is_ready = ready);
        // A node that is gone says nothing.
        let _ = self.cluster.edit(&Key::new(NODE, "", name), |node| {
            object::set_ready(node, ready);
        });
    }

    fn tell_handlers(&self, name: &str) {
        let listed = self.state().machines.get(name).and_then(Machine::listed);
        // As above.
        let _ = self.cluster.edit(&Key::new(NODE, "", name), |node| {
            object::set_handlers(node, listed.as_deref());
        });
    }
}

/// What an installer Job asks for; none if the Job is none.
pub(crate) fn request_of(job: &Value) -> Option<Request> {
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let words = ["command", "args"]
        .into_iter()
        .flat_map(|field| container[field].as_array().into_iter().flatten());
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    let at = words.iter().position(|word| *word == "--request")?;
    Some(serde_json::from_str(words.get(at + 1)?).expect("an installer's request is one"))
}
