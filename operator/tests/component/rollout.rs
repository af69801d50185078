//! Tests of rollouts.

use std::time::Duration;

use fake_cluster::fleet::Joining;
use fake_cluster::resource::{JOB, NODE, RUNTIME_CLASS};
use fake_cluster::{Faults, Key, Script};
use serde_json::json;
use tokio::time::sleep;

use crate::fixture::{Fixture, Operator, pooled, runtime_key};

#[tokio::test(start_paused = true)]
async fn only_selected_nodes_get_the_runtime() {
    let fixture = Fixture::with_nodes(3);
    fixture.fleet.join(Joining::new("other"));
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    assert_eq!(fixture.node_state("wasmedge", "other"), "none");
    assert_eq!(fixture.fleet.machine("other").runs, 0);
    let class = fixture
        .cluster
        .get(&Key::new(RUNTIME_CLASS, "", "wasmedge"))
        .unwrap();
    assert_eq!(class["handler"], "wasmedge");
    assert_eq!(
        class["scheduling"]["nodeSelector"]["runtime.wasmedge.dev/wasmedge"],
        "ready"
    );
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn completed_rollout_leaves_no_jobs_and_is_up_to_date() {
    let fixture = Fixture::with_nodes(2);
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    sleep(Duration::from_mins(5)).await;
    assert!(fixture.cluster.all(JOB).is_empty());
    let status = fixture.runtime("wasmedge").unwrap()["status"].clone();
    assert_eq!(
        (
            &status["state"],
            &status["version"],
            &status["observedGeneration"]
        ),
        (&json!("Up to date"), &json!("0.1.0"), &json!(1))
    );
    assert_eq!(status["nodes"]["ready"], 2, "{status}");
    let writes = operator.connection.writes();
    sleep(Duration::from_hours(5)).await;
    assert_eq!(
        operator.connection.writes(),
        writes,
        "an operator with nothing to do writes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn canary_is_ready_before_another_node_is_changed() {
    let fixture = Fixture::with_nodes(6);
    let mut changes = fixture.cluster.subscribe();
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "wasmedge",
        &json!({ "rollout": { "canary": 1, "maxUnavailable": 5 } }),
    );
    let all = ["node-0", "node-1", "node-2", "node-3", "node-4", "node-5"];
    fixture.until("wasmedge", &all, "Ready labelled").await;
    let mut order = Vec::new();
    while let Ok(change) = changes.try_recv() {
        let node = change.key.name.clone();
        if change.key.resource == JOB && change.before.is_none() {
            order.push("job");
        } else if change.key.resource == NODE
            && change.by.starts_with("operator")
            && fixture.is_labelled("wasmedge", &node)
        {
            order.push("label");
        }
    }
    assert_eq!(
        order[..7],
        ["job", "label", "job", "job", "job", "job", "job"],
        "{order:?}"
    );
    assert_eq!(fixture.guard.most(), 5);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn rollout_uses_its_whole_budget_and_never_exceeds_it() {
    let fixture = Fixture::with_nodes(14);
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "wasmedge",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 4 } }),
    );
    let names = fixture.fleet.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fixture.until("wasmedge", &names, "Ready labelled").await;
    assert_eq!(fixture.guard.most(), 4);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn paused_rollout_completes_started_nodes_and_starts_none() {
    let fixture = Fixture::with_nodes(4);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "paused": true } }));
    sleep(Duration::from_mins(30)).await;
    assert_eq!(fixture.node_state("wasmedge", "node-0"), "none");
    fixture.change("wasmedge", &json!({ "rollout": { "paused": false } }));
    fixture.until("wasmedge", &["node-0"], "Installing").await;
    fixture.change("wasmedge", &json!({ "rollout": { "paused": true } }));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    sleep(Duration::from_mins(30)).await;
    let runs: usize = fixture
        .fleet
        .names()
        .iter()
        .map(|name| fixture.fleet.machine(name).runs)
        .sum();
    assert_eq!(runs, 1);
    assert_eq!(
        fixture.runtime("wasmedge").unwrap()["status"]["state"],
        "Paused, 1/4"
    );
    fixture.change("wasmedge", &json!({ "rollout": { "paused": false } }));
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_that_joins_or_is_selected_later_gets_the_runtime() {
    let fixture = Fixture::with_nodes(1);
    fixture.fleet.join(Joining::new("late"));
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    fixture
        .cluster
        .update(&Key::new(NODE, "", "late"), |node| {
            node["metadata"]["labels"]["pool"] = "wasm".into();
        })
        .unwrap();
    fixture.until("wasmedge", &["late"], "Ready labelled").await;
    fixture.fleet.join(pooled("new"));
    fixture.until("wasmedge", &["new"], "Ready labelled").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn upgrade_reaches_nodes_one_by_one_while_they_accept_pods() {
    let fixture = Fixture::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &nodes, "Ready labelled").await;
    operator.stop().await;
    let mut changes = fixture.cluster.subscribe();
    let _operator = Operator::start_with(
        &fixture,
        "b",
        "registry.example.org/node-installer:0.2.0",
        Faults::default(),
    );
    fixture
        .cluster
        .until(Duration::from_hours(1), || {
            let versions: Vec<String> = nodes
                .iter()
                .map(|node| {
                    fixture.fleet.machine(node).installed["wasmedge"]
                        .version
                        .clone()
                })
                .collect();
            if versions.iter().all(|version| version == "0.2.0") {
                Ok(())
            } else {
                Err(format!("{versions:?}"))
            }
        })
        .await
        .unwrap();
    fixture.until("wasmedge", &nodes, "Ready labelled").await;
    while let Ok(change) = changes.try_recv() {
        if change.key.resource == NODE {
            assert_eq!(
                change.object["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"], "ready",
                "{}",
                change.key
            );
        }
    }
    assert_eq!(fixture.guard.most(), 1);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn changed_option_reaches_nodes_one_by_one_while_they_accept_pods() {
    let fixture = Fixture::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &nodes, "Ready labelled").await;
    let mut changes = fixture.cluster.subscribe();
    fixture.change(
        "wasmedge",
        &json!({ "runtime": { "logLevel": "Debug", "maxContainers": 100 } }),
    );
    let all_twice = || {
        let runs = nodes.map(|node| fixture.fleet.machine(node).runs);
        if runs == [2, 2, 2] {
            Ok(())
        } else {
            Err(format!("{runs:?}"))
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), all_twice)
        .await
        .unwrap();
    fixture.until("wasmedge", &nodes, "Ready labelled").await;
    let mut asked = 0;
    while let Ok(change) = changes.try_recv() {
        if change.key.resource == NODE {
            assert_eq!(
                change.object["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"], "ready",
                "{}",
                change.key
            );
        } else if change.key.resource == JOB && change.before.is_none() {
            let request = change.object["spec"]["template"]["spec"]["containers"][0]["args"][1]
                .as_str()
                .unwrap();
            let request: serde_json::Value = serde_json::from_str(request).unwrap();
            assert_eq!(
                request["settings"],
                json!({ "options": { "logLevel": "Debug", "maxContainers": 100 } }),
                "{request}"
            );
            asked += 1;
        }
    }
    assert_eq!((asked, fixture.guard.most()), (3, 1));
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_without_handler_list_is_labelled_by_installer_report() {
    let fixture = Fixture::empty();
    fixture.fleet.join(pooled("old").containerd("1.7.27"));
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["old"], "Ready labelled").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn only_startup_taints_are_removed_when_runtime_works() {
    let fixture = Fixture::empty();
    fixture.fleet.join(
        pooled("fresh")
            .taint("runtime.example.org/not-ready")
            .taint("dedicated"),
    );
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "wasmedge",
        &json!({ "startupTaints": [{ "key": "runtime.example.org/not-ready",
        "effect": "NoSchedule" }] }),
    );
    let key = Key::new(NODE, "", "fresh");
    let taints = || fixture.cluster.get(&key).unwrap()["spec"]["taints"].clone();
    fixture.until("wasmedge", &["fresh"], "Installing").await;
    assert_eq!(taints().as_array().unwrap().len(), 2);
    fixture
        .until("wasmedge", &["fresh"], "Ready labelled")
        .await;
    let only_other = || {
        if taints() == json!([{ "key": "dedicated", "effect": "NoSchedule" }]) {
            Ok(())
        } else {
            Err(taints().to_string())
        }
    };
    fixture
        .cluster
        .until(Duration::from_mins(10), only_other)
        .await
        .unwrap();
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn installers_of_two_runtimes_never_run_on_one_node_at_once() {
    let fixture = Fixture::with_nodes(4);
    let nodes = ["node-0", "node-1", "node-2", "node-3"];
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "one",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 2 } }),
    );
    fixture.install(
        "two",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 2 } }),
    );
    fixture.until("one", &nodes, "Ready labelled").await;
    fixture.until("two", &nodes, "Ready labelled").await;
    fixture.uninstall("one");
    fixture.until_gone("one").await;
    fixture.until("two", &nodes, "Ready labelled").await;
    assert!(
        nodes
            .iter()
            .all(|node| !fixture.fleet.machine(node).works("one")
                && fixture.fleet.machine(node).works("two"))
    );
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn longest_allowed_names_work() {
    let fixture = Fixture::empty();
    let label = "n".repeat(60);
    let node = [label.as_str(); 4].join(".")[..240]
        .trim_end_matches('.')
        .to_owned();
    fixture
        .fleet
        .join(pooled(&node).script([Script::cannot_download()]));
    let runtime = format!("r{}", "x".repeat(39));
    let _operator = Operator::start(&fixture, "a");
    fixture.install(&runtime, &json!({}));
    fixture.until(&runtime, &[&node], "Ready labelled").await;
    fixture.uninstall(&runtime);
    fixture.until_gone(&runtime).await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn spec_changed_during_rollout_reaches_every_node() {
    let fixture = Fixture::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["node-1"], "Installing").await;
    let platform =
        json!({ "arch": "amd64", "url": "https://example.org/0.3.0", "sha256": "a".repeat(64) });
    fixture.change(
        "wasmedge",
        &json!({ "artifact": { "platforms": [platform] } }),
    );
    let all_new = || {
        let installed = |node: &&str| {
            fixture
                .fleet
                .machine(node)
                .installed
                .get("wasmedge")
                .is_some_and(|one| one.version == "0.3.0")
        };
        if nodes.iter().all(installed) {
            Ok(())
        } else {
            Err(fixture.evidence("wasmedge"))
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), all_new)
        .await
        .unwrap();
    fixture.until("wasmedge", &nodes, "Ready labelled").await;
    assert_eq!(
        fixture.cluster.get(&runtime_key("wasmedge")).unwrap()["status"]["version"],
        "0.3.0"
    );
    fixture.assert_sound();
}
