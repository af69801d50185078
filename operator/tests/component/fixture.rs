//! The fixture: a cluster of simulated nodes, and operators. Time is tokio's, and paused: hours of
//! simulated time pass at once.

use std::sync::Arc;
use std::time::Duration;

use fake_cluster::cluster::Moment;
use fake_cluster::fleet::Joining;
use fake_cluster::resource::{NODE, WASM_RUNTIME, WASM_RUNTIME_NODE};
use fake_cluster::{Cluster, Connection, Faults, Fleet, Guard, Key};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::context;

/// The installer image of the first release.
pub(crate) const IMAGE: &str = "registry.example.org/node-installer:0.1.0";

/// A cluster of simulated nodes, with a guard that checks invariants.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) fleet: Fleet,
    pub(crate) guard: Guard,
}

/// A running operator.
pub(crate) struct Operator {
    pub(crate) connection: Connection,
    task: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Fixture {
    /// Creates a cluster without nodes.
    pub(crate) fn empty() -> Self {
        let cluster = Cluster::start();
        let fleet = Fleet::start(&cluster);
        let guard = Guard::over(&cluster, &fleet);
        Self {
            cluster,
            fleet,
            guard,
        }
    }

    /// Creates a cluster of this many selected nodes: `node-0`, `node-1` and so on.
    pub(crate) fn with_nodes(count: usize) -> Self {
        let fixture = Self::empty();
        for n in 0..count {
            fixture.fleet.join(pooled(&format!("node-{n}")));
        }
        fixture
    }

    /// Creates a runtime that changes one node at a time unless `spec` overrides that.
    pub(crate) fn install(&self, name: &str, spec: &Value) {
        let mut whole = json!({
            "nodeSelector": { "matchLabels": { "pool": "wasm" } },
            "runtimeClass": { "name": name, "handler": name },
            "rollout": { "canary": 1, "maxUnavailable": 1, "failureThreshold": 1, "paused": false,
            "nodeTimeoutSeconds": 1200 },
        });
        merge(&mut whole, spec);
        let budget = whole["rollout"]["maxUnavailable"]
            .as_u64()
            .expect("the budget is a number");
        self.guard
            .budget(name, usize::try_from(budget).expect("a small number"));
        self.cluster
            .create(runtime(name, &whole))
            .expect("a valid runtime");
    }

    /// Merges `spec` into the spec of a runtime.
    pub(crate) fn change(&self, name: &str, spec: &Value) {
        self.cluster
            .update(&runtime_key(name), |runtime| {
                merge(&mut runtime["spec"], spec);
            })
            .expect("the runtime exists");
    }

    /// Deletes a runtime.
    pub(crate) fn uninstall(&self, name: &str) {
        self.cluster
            .delete(&runtime_key(name))
            .expect("the runtime exists");
    }

    /// Returns the WasmRuntime.
    pub(crate) fn runtime(&self, name: &str) -> Option<Arc<Value>> {
        self.cluster.get(&runtime_key(name))
    }

    /// Returns the state of a node as text: phase, reason, and whether it is labelled.
    pub(crate) fn node_state(&self, runtime: &str, node: &str) -> String {
        let state = self.cluster.get(&Key::new(
            WASM_RUNTIME_NODE,
            "",
            &wasmedge_operator::names::runtime_node(runtime, node),
        ));
        let phase = state.as_ref().map_or("none", |state| {
            state["status"]["phase"].as_str().unwrap_or("Claimed")
        });
        let reason = state
            .as_ref()
            .and_then(|state| state["status"]["reason"].as_str())
            .map(|reason| format!(" {reason}"));
        let labelled = if self.is_labelled(runtime, node) {
            " labelled"
        } else {
            ""
        };
        format!("{phase}{}{labelled}", reason.unwrap_or_default())
    }

    /// Whether pods of the runtime can be scheduled on the node.
    pub(crate) fn is_labelled(&self, runtime: &str, node: &str) -> bool {
        let node = self.cluster.get(&Key::new(NODE, "", node));
        node.is_some_and(|node| {
            node["metadata"]["labels"][format!("runtime.wasmedge.dev/{runtime}")] == "ready"
        })
    }

    /// Waits until each of these nodes is in the expected state.
    pub(crate) async fn until(&self, runtime: &str, nodes: &[&str], expected: &str) {
        let holds = || match nodes
            .iter()
            .find(|node| self.node_state(runtime, node) != expected)
        {
            Some(node) => Err(format!(
                "{node} is {}, not {expected}\n{}",
                self.node_state(runtime, node),
                self.evidence(runtime)
            )),
            None => Ok(()),
        };
        self.cluster.until(ROLLOUT_TIMEOUT, holds).await.unwrap();
    }

    /// Waits until the WasmRuntime is gone.
    pub(crate) async fn until_gone(&self, runtime: &str) {
        self.until_gone_within(ROLLOUT_TIMEOUT, runtime).await;
    }

    /// As [`Fixture::until_gone`], with another timeout.
    pub(crate) async fn until_gone_within(&self, timeout: Duration, runtime: &str) {
        let holds = || {
            if self.runtime(runtime).is_none() {
                Ok(())
            } else {
                Err(self.evidence(runtime))
            }
        };
        self.cluster.until(timeout, holds).await.unwrap();
    }

    /// Returns the objects of the runtime, for the message of a failed test.
    pub(crate) fn evidence(&self, runtime: &str) -> String {
        let status = self
            .runtime(runtime)
            .map(|object| object["status"].to_string())
            .unwrap_or_default();
        let nodes = self.fleet.names();
        let lines: Vec<String> = nodes
            .iter()
            .map(|node| format!("{node}: {}", self.node_state(runtime, node)))
            .collect();
        format!(
            "{status}\n{}\n{} installers running",
            lines.join("\n"),
            self.fleet.running_installers()
        )
    }

    /// Fails if an invariant was violated.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(
            (self.guard.violations(), self.fleet.violations()),
            (Vec::new(), Vec::new())
        );
    }
}

/// Simulated time after which a test fails: longer than any rollout of a test.
const ROLLOUT_TIMEOUT: Duration = Duration::from_hours(6);

impl Operator {
    /// Starts an operator of the first release.
    pub(crate) fn start(fixture: &Fixture, name: &str) -> Self {
        Self::start_with(fixture, name, IMAGE, Faults::default())
    }

    /// Starts an operator with the installer `image` and with faults.
    pub(crate) fn start_with(fixture: &Fixture, name: &str, image: &str, faults: Faults) -> Self {
        let connection = fixture.cluster.connect(&format!("operator-{name}"));
        connection.set_faults(faults);
        let context = context(&fixture.cluster, &connection, name, image);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            wasmedge_operator::controller::run(context, stopped).await
        });
        Self {
            connection,
            task,
            stop,
        }
    }

    /// Stops it, and waits until it has stopped.
    pub(crate) async fn stop(self) {
        let Self { task, stop, .. } = self;
        // It may have stopped by itself.
        let _ = stop.send(());
        task.await
            .expect("an operator does not panic")
            .expect("an operator that is asked to stop does not fail");
    }

    /// Kills it: none of its tasks continues.
    pub(crate) fn kill(self) {
        self.connection.cut();
        self.task.abort();
    }

    /// Kills it at its `n`th write from now on; returns false if there are fewer within `timeout`.
    pub(crate) async fn kill_at(self, n: usize, moment: Moment, timeout: Duration) -> bool {
        let cut = self.connection.cut_at_write(n, moment);
        let was_cut = tokio::time::timeout(timeout, cut).await.is_ok();
        self.kill();
        was_cut
    }
}

/// Returns a selected node.
pub(crate) fn pooled(name: &str) -> Joining {
    Joining::new(name).label("pool", "wasm")
}

/// Returns the key of a runtime.
pub(crate) fn runtime_key(name: &str) -> Key {
    Key::new(WASM_RUNTIME, "", name)
}

fn runtime(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": name }, "spec": spec })
}

fn merge(into: &mut Value, from: &Value) {
    match from {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| merge(&mut into[name.as_str()], value)),
        value => *into = value.clone(),
    }
}
