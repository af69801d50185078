//! The operator's own program on a real API server, with no more than the rights that the chart gives it. Nodes are
//! objects; an [`agent`] does what kubelets and installers would. One test, in the order of a release's life: the API
//! server's own rules on patches, preconditions, tokens and roles are what no server of our own could show.

#[path = "real_api/accounts.rs"]
mod accounts;
#[path = "real_api/agent.rs"]
mod agent;
#[path = "real_api/cluster.rs"]
mod cluster;

use std::time::Duration;

use serde_json::json;
use testbed::wait;

use accounts::Account;
use agent::Agent;
use cluster::{Cluster, Operator};

/// Far above what any step takes: what fails by it never comes.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_release_lives_and_ends_on_a_real_api_server_with_no_more_than_its_rights() {
    let cluster = Cluster::start();
    let [operator, crds, remove] = [Account::operator(&cluster), Account::crds_hook(&cluster), Account::remove_hook(&cluster)];

    // Install: the first time there is nothing, the second time nothing is to be changed.
    for _ in 0..2 {
        cluster.program(&crds, &["crds", "apply"]);
    }
    for node in ["alpha", "beta"] {
        cluster.add_node(node, &["wasmedge.example/starting"]);
    }
    let running = Operator::start(&cluster, &operator);
    let agent = Agent::start(&cluster);
    cluster.create(&json!({
        "apiVersion": "runtime.wasmedge.dev/v1alpha1",
        "kind": "WasmRuntime",
        "metadata": {"name": "wasmedge"},
        "spec": {"startupTaints": [{"key": "wasmedge.example/starting"}], "runtimeClass": {"overhead": {"cpu": 1, "memory": "16Mi"}}},
    }));
    let ready = || Ok((cluster.get("wasmruntime/wasmedge")["status"]["nodes"]["ready"] == 2).then_some(()));
    wait::until("both nodes to be ready", LIMIT, ready, || running.last_words()).unwrap();
    for node in ["alpha", "beta"] {
        let node = cluster.get(&format!("node/{node}"));
        assert_eq!(node["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"], "ready");
        assert!(!node["spec"]["taints"].to_string().contains("wasmedge.example"), "{}", node["spec"]);
    }
    let class = cluster.get("runtimeclass/wasmedge");
    assert_eq!(class["overhead"]["podFixed"], json!({"cpu": "1", "memory": "16Mi"}));
    assert_eq!(class["scheduling"]["nodeSelector"], json!({"runtime.wasmedge.dev/wasmedge": "ready"}));
    let events = cluster.get("events.events.k8s.io");
    assert!(events["items"].as_array().is_some_and(|events| events.iter().any(|event| event["reason"] == "Ready")), "{events}");

    // A change that the API server has to take as well.
    cluster.patch("wasmruntime/wasmedge", &json!({"spec": {"runtimeClass": {"overhead": null, "tolerations": [{"operator": "Exists"}]}}}));
    let changed = || Ok((cluster.get("runtimeclass/wasmedge")["scheduling"]["tolerations"][0]["operator"] == "Exists").then_some(()));
    wait::until("the RuntimeClass to be changed", LIMIT, changed, || running.last_words()).unwrap();

    // Uninstall.
    cluster.program(&remove, &["runtimes", "remove", "--timeout=60s"]);
    for kind in ["wasmruntimes", "wasmruntimenodes", "runtimeclasses", "jobs"] {
        assert_eq!(cluster.get(kind)["items"], json!([]), "{kind}");
    }
    for node in ["alpha", "beta"] {
        assert!(!cluster.get(&format!("node/{node}"))["metadata"]["labels"].to_string().contains("wasmedge"));
    }
    drop(agent);
    let log = running.end();
    assert!(!log.contains("403"), "the operator was denied something:\n{log}");
    assert_eq!(cluster.get("lease/wasmedge-operator")["spec"].get("holderIdentity").and_then(|holder| holder.as_str()), None);
}
