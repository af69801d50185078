//! Tests of the operator's executable on a real API server, with the rights of the chart. Nodes are
//! objects; an [`agent`] has the role of kubelets and installers. These tests cover what a fake
//! server cannot: patches, preconditions, tokens and roles.

#[path = "real_api/accounts.rs"]
mod accounts;
#[path = "real_api/agent.rs"]
mod agent;
#[path = "real_api/cluster.rs"]
mod cluster;

use std::time::Duration;

use serde_json::{Value, json};
use wasmedge_operator::crd::WasmRuntime;

use accounts::Account;
use agent::{Agent, BAD};
use cluster::{Cluster, Operator};

/// Timeout of a step, far above what any step takes.
const STEP_TIMEOUT: Duration = Duration::from_mins(1);

fn runtime(spec: &Value) -> Value {
    json!({"apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": {"name": "wasmedge"}, "spec": spec})
}

/// Starts a cluster with these nodes, the CRDs, and the operator.
fn begin(nodes: &[&str]) -> (Cluster, Operator, Agent) {
    let cluster = Cluster::start();
    let operator = Account::operator(&cluster);
    // The first call creates the definitions, the second one changes nothing.
    let hook = Account::crds_hook(&cluster);
    for _ in 0..2 {
        hook.run(&["crds", "apply"]);
    }
    for node in nodes {
        cluster.add_node(node, &["wasmedge.example/starting"]);
    }
    let running = Operator::start(&cluster, &operator);
    let agent = Agent::start(&cluster);
    (cluster, running, agent)
}

/// Removes every runtime like the chart's hook, and stops the operator, which must not have had a
/// forbidden call.
fn end(cluster: &Cluster, operator: Operator, agent: Agent) {
    Account::remove_hook(cluster).run(&["runtimes", "remove", "--timeout=60s"]);
    for kind in ["wasmruntimes", "wasmruntimenodes", "jobs"] {
        assert_eq!(cluster.get(kind)["items"], json!([]), "{kind}");
    }
    drop(agent);
    let log = operator.end();
    assert!(
        !log.contains("(403") && !log.contains("orbidden"),
        "the operator was denied something:\n{log}"
    );
    assert_eq!(
        cluster.get("lease/wasmedge-operator")["spec"]
            .get("holderIdentity")
            .and_then(Value::as_str),
        None
    );
}

#[test]
fn operator_installs_and_removes_on_real_api_server_with_only_its_rights() {
    let (cluster, operator, agent) = begin(&["alpha", "beta"]);
    let taint = json!([{"key": "wasmedge.example/starting"}]);
    cluster.create(&runtime(
        &json!({"startupTaints": taint, "runtimeClass": {"overhead": {"cpu": 1,
        "memory": "16Mi"}}}),
    ));
    operator.wait("both nodes to be ready", || {
        cluster.get("wasmruntime/wasmedge")["status"]["nodes"]["ready"] == 2
    });
    for node in ["alpha", "beta"] {
        let node = || cluster.get(&format!("node/{node}"));
        operator.wait("the label", || {
            node()["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"] == "ready"
        });
        operator.wait("startup taints to be off", || {
            !node()["spec"]["taints"]
                .to_string()
                .contains("wasmedge.example")
        });
    }
    let class = cluster.get("runtimeclass/wasmedge");
    assert_eq!(
        class["overhead"]["podFixed"],
        json!({"cpu": "1", "memory": "16Mi"})
    );
    assert_eq!(
        class["scheduling"]["nodeSelector"],
        json!({"runtime.wasmedge.dev/wasmedge": "ready"})
    );
    let is_published = || {
        cluster.get("events.events.k8s.io")["items"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["reason"] == "Ready"))
    };
    operator.wait("an Event about it", is_published);

    // A change of the RuntimeClass alone has to be accepted, too.
    let change = json!({"spec": {"runtimeClass": {"overhead": null,
        "tolerations": [{"operator": "Exists"}]}}});
    cluster.patch("wasmruntime/wasmedge", &change);
    let tolerations = || cluster.get("runtimeclass/wasmedge")["scheduling"]["tolerations"].clone();
    operator.wait("the RuntimeClass to be changed", || {
        tolerations() == json!([{"operator": "Exists"}])
    });

    end(&cluster, operator, agent);
    assert_eq!(cluster.get("runtimeclasses")["items"], json!([]));
    for node in ["alpha", "beta"] {
        assert!(
            !cluster.get(&format!("node/{node}"))["metadata"]["labels"]
                .to_string()
                .contains("wasmedge")
        );
    }
}

#[test]
fn adopted_runtime_class_is_restored_on_real_api_server() {
    let (cluster, operator, agent) = begin(&["alpha"]);
    let class = json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "wasmedge", "labels": {"app.kubernetes.io/managed-by": "somebody"},
        "annotations": {"note": "mine"}},
        "handler": "wasmedge",
        "overhead": {"podFixed": {"memory": "1Mi"}},
    });
    cluster.create(&class);
    cluster.create(&runtime(&json!({})));
    let degraded = || condition(&cluster, "Degraded");
    operator.wait("the RuntimeClass to be left alone", || {
        degraded()["reason"] == "RuntimeClassNotOurs"
    });
    assert_eq!(cluster.get("runtimeclass/wasmedge").get("scheduling"), None);

    cluster.patch(
        "wasmruntime/wasmedge",
        &json!({"spec": {"runtimeClass": {"adoptExisting": true}}}),
    );
    operator.wait("the RuntimeClass to be taken over", || {
        cluster.get("runtimeclass/wasmedge")["scheduling"].is_object()
    });
    operator.wait("the node to be ready", || {
        cluster.get("wasmruntime/wasmedge")["status"]["nodes"]["ready"] == 1
    });

    end(&cluster, operator, agent);
    let left = cluster.get("runtimeclass/wasmedge");
    assert_eq!(left["overhead"], class["overhead"]);
    assert_eq!(left.get("scheduling"), None);
    assert_eq!(left["metadata"]["labels"], class["metadata"]["labels"]);
    assert_eq!(
        left["metadata"]["annotations"],
        class["metadata"]["annotations"]
    );
}

#[test]
fn failed_node_stops_rollout_with_reason_on_real_api_server() {
    let (cluster, operator, agent) = begin(&[BAD, "good"]);
    cluster.create(&runtime(
        &json!({"rollout": {"canary": 2, "maxUnavailable": "100%"}}),
    ));
    operator.wait("the failure to be reported", || {
        condition(&cluster, "Degraded")["status"] == "True"
    });
    let node = cluster.get(&format!("wasmruntimenode/wasmedge.{BAD}"));
    assert_eq!(
        (
            node["status"]["phase"].as_str(),
            node["status"]["reason"].as_str()
        ),
        (Some("Failed"), Some("SmokeFailed"))
    );
    assert!(
        !cluster.get(&format!("node/{BAD}"))["metadata"]["labels"]
            .to_string()
            .contains("wasmedge")
    );
    end(&cluster, operator, agent);
}

#[test]
fn stored_objects_are_read_back_unchanged() {
    let cluster = Cluster::start();
    Account::crds_hook(&cluster).run(&["crds", "apply"]);
    let everything = json!({
        "nodeSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c",
        "operator": "NotIn", "values": ["d"]}]},
        "runtimeClass": {"overhead": {"cpu": 1, "memory": 9_007_199_254_740_991_i64,
        "ephemeral-storage": "0.5Gi"}, "tolerations":
            [{"key": "e", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": -1}]},
        "artifact": {"platforms": [{"arch": "arm64", "image": "registry.example/a:1",
        "sha256": "0".repeat(64)}]},
        "rollout": {"canary": 1000, "maxUnavailable": 100_000, "failureThreshold": 1000,
        "nodeTimeoutSeconds": 7200},
        "startupTaints": [{"key": "f", "effect": "PreferNoSchedule"}],
    });
    let nulls = json!({"runtimeClass": null, "rollout": {"maxUnavailable": null},
        "containerd": {"mode": null, "paths": null}});
    for spec in [json!({}), everything, nulls] {
        let stored = cluster.try_create(&runtime(&spec));
        let read: WasmRuntime = serde_json::from_value(stored.clone())
            .unwrap_or_else(|error| panic!("{error}: {stored}"));
        // A quantity may be written as a number or a string.
        let overhead = json!(read.spec.runtime_class.overhead);
        let (mut read_back, mut stored) = (json!(read.spec), stored["spec"].clone());
        (
            read_back["runtimeClass"]["overhead"],
            stored["runtimeClass"]["overhead"],
        ) = (json!(null), json!(null));
        assert_eq!(read_back, stored);
        assert!(
            overhead
                .as_object()
                .is_some_and(|overhead| overhead.values().all(Value::is_string)),
            "{overhead}"
        );
    }
}

/// Returns a condition of the runtime, or null if it does not exist yet.
fn condition(cluster: &Cluster, kind: &str) -> Value {
    let runtime = cluster.get("wasmruntime/wasmedge");
    let conditions = runtime["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default()
}
