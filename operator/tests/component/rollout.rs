//! How a runtime gets to nodes.

use std::time::Duration;

use fake_cluster::fleet::Joining;
use fake_cluster::resource::{JOB, NODE, RUNTIME_CLASS};
use fake_cluster::{Faults, Key, Script};
use serde_json::json;
use tokio::time::sleep;

use crate::stage::{Operator, Stage, pooled, runtime_key};

#[tokio::test(start_paused = true)]
async fn nodes_of_the_pool_get_the_runtime_and_no_others() {
    let stage = Stage::with_nodes(3);
    stage.fleet.join(Joining::new("other"));
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    assert_eq!(stage.standing("wasmedge", "other"), "none");
    assert_eq!(stage.fleet.machine("other").runs, 0);
    let class = stage
        .cluster
        .get(&Key::new(RUNTIME_CLASS, "", "wasmedge"))
        .unwrap();
    assert_eq!(class["handler"], "wasmedge");
    assert_eq!(
        class["scheduling"]["nodeSelector"]["runtime.wasmedge.dev/wasmedge"],
        "ready"
    );
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_settled_rollout_leaves_no_jobs_and_says_that_it_is_up_to_date() {
    let stage = Stage::with_nodes(2);
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    sleep(Duration::from_mins(5)).await;
    assert!(stage.cluster.all(JOB).is_empty());
    let status = stage.runtime("wasmedge").unwrap()["status"].clone();
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
async fn the_first_node_is_tried_before_any_other_is_touched() {
    let stage = Stage::with_nodes(6);
    let mut changes = stage.cluster.follow();
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "wasmedge",
        &json!({ "rollout": { "canary": 1, "maxUnavailable": 5 } }),
    );
    let all = ["node-0", "node-1", "node-2", "node-3", "node-4", "node-5"];
    stage.until("wasmedge", &all, "Ready labelled").await;
    let mut order = Vec::new();
    while let Ok(change) = changes.try_recv() {
        let node = change.key.name.clone();
        if change.key.resource == JOB && change.before.is_none() {
            order.push("job");
        } else if change.key.resource == NODE
            && change.by.starts_with("operator")
            && stage.is_labelled("wasmedge", &node)
        {
            order.push("label");
        }
    }
    assert_eq!(
        order[..7],
        ["job", "label", "job", "job", "job", "job", "job"],
        "{order:?}"
    );
    assert_eq!(stage.guard.most(), 5);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn as_many_nodes_are_changed_at_a_time_as_may_be_and_never_more() {
    let stage = Stage::with_nodes(14);
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "wasmedge",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 4 } }),
    );
    let names = stage.fleet.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.until("wasmedge", &names, "Ready labelled").await;
    assert_eq!(stage.guard.most(), 4);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_paused_rollout_finishes_what_it_began_and_begins_nothing() {
    let stage = Stage::with_nodes(4);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "paused": true } }));
    sleep(Duration::from_mins(30)).await;
    assert_eq!(stage.standing("wasmedge", "node-0"), "none");
    stage.change("wasmedge", &json!({ "rollout": { "paused": false } }));
    stage.until("wasmedge", &["node-0"], "Installing").await;
    stage.change("wasmedge", &json!({ "rollout": { "paused": true } }));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    sleep(Duration::from_mins(30)).await;
    let runs: usize = stage
        .fleet
        .names()
        .iter()
        .map(|name| stage.fleet.machine(name).runs)
        .sum();
    assert_eq!(runs, 1);
    assert_eq!(
        stage.runtime("wasmedge").unwrap()["status"]["state"],
        "Paused, 1/4"
    );
    stage.change("wasmedge", &json!({ "rollout": { "paused": false } }));
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_or_is_labelled_later_gets_the_runtime() {
    let stage = Stage::with_nodes(1);
    stage.fleet.join(Joining::new("late"));
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    stage
        .cluster
        .update(&Key::new(NODE, "", "late"), |node| {
            node["metadata"]["labels"]["pool"] = "wasm".into();
        })
        .unwrap();
    stage.until("wasmedge", &["late"], "Ready labelled").await;
    stage.fleet.join(pooled("new"));
    stage.until("wasmedge", &["new"], "Ready labelled").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_new_release_reaches_nodes_one_by_one_while_they_take_pods() {
    let stage = Stage::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &nodes, "Ready labelled").await;
    operator.stop().await;
    let mut changes = stage.cluster.follow();
    let _operator = Operator::start_with(
        &stage,
        "b",
        "registry.example.org/node-installer:0.2.0",
        Faults::default(),
    );
    stage
        .cluster
        .until(Duration::from_hours(1), || {
            let versions: Vec<String> = nodes
                .iter()
                .map(|node| {
                    stage.fleet.machine(node).installed["wasmedge"]
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
    stage.until("wasmedge", &nodes, "Ready labelled").await;
    while let Ok(change) = changes.try_recv() {
        if change.key.resource == NODE {
            assert_eq!(
                change.object["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"], "ready",
                "{}",
                change.key
            );
        }
    }
    assert_eq!(stage.guard.most(), 1);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn an_option_of_the_runtime_reaches_nodes_one_by_one_while_they_take_pods() {
    let stage = Stage::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &nodes, "Ready labelled").await;
    let mut changes = stage.cluster.follow();
    stage.change(
        "wasmedge",
        &json!({ "runtime": { "logLevel": "Debug", "maxContainers": 100 } }),
    );
    let all_twice = || {
        let runs = nodes.map(|node| stage.fleet.machine(node).runs);
        if runs == [2, 2, 2] {
            Ok(())
        } else {
            Err(format!("{runs:?}"))
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), all_twice)
        .await
        .unwrap();
    stage.until("wasmedge", &nodes, "Ready labelled").await;
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
                json!({ "logLevel": "Debug", "maxContainers": 100 }),
                "{request}"
            );
            asked += 1;
        }
    }
    assert_eq!((asked, stage.guard.most()), (3, 1));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_containerd_lists_no_handlers_is_labelled_on_its_installers_word() {
    let stage = Stage::empty();
    stage.fleet.join(pooled("old").containerd("1.7.27"));
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["old"], "Ready labelled").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn startup_taints_go_when_the_runtime_works_and_others_stay() {
    let stage = Stage::empty();
    stage.fleet.join(
        pooled("fresh")
            .taint("runtime.example.org/not-ready")
            .taint("dedicated"),
    );
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "wasmedge",
        &json!({ "startupTaints": [{ "key": "runtime.example.org/not-ready",
        "effect": "NoSchedule" }] }),
    );
    let key = Key::new(NODE, "", "fresh");
    let taints = || stage.cluster.get(&key).unwrap()["spec"]["taints"].clone();
    stage.until("wasmedge", &["fresh"], "Installing").await;
    assert_eq!(taints().as_array().unwrap().len(), 2);
    stage.until("wasmedge", &["fresh"], "Ready labelled").await;
    let only_other = || {
        if taints() == json!([{ "key": "dedicated", "effect": "NoSchedule" }]) {
            Ok(())
        } else {
            Err(taints().to_string())
        }
    };
    stage
        .cluster
        .until(Duration::from_mins(10), only_other)
        .await
        .unwrap();
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn two_runtimes_share_nodes_without_ever_being_at_work_on_one_together() {
    let stage = Stage::with_nodes(4);
    let nodes = ["node-0", "node-1", "node-2", "node-3"];
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "one",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 2 } }),
    );
    stage.install(
        "two",
        &json!({ "rollout": { "canary": 0, "maxUnavailable": 2 } }),
    );
    stage.until("one", &nodes, "Ready labelled").await;
    stage.until("two", &nodes, "Ready labelled").await;
    stage.uninstall("one");
    stage.until_gone("one").await;
    stage.until("two", &nodes, "Ready labelled").await;
    assert!(
        nodes
            .iter()
            .all(|node| !stage.fleet.machine(node).works("one")
                && stage.fleet.machine(node).works("two"))
    );
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_name_as_long_as_kubernetes_allows_is_no_obstacle() {
    let stage = Stage::empty();
    let label = "n".repeat(60);
    let node = [label.as_str(); 4].join(".")[..240]
        .trim_end_matches('.')
        .to_owned();
    stage
        .fleet
        .join(pooled(&node).script([Script::cannot_download()]));
    let runtime = format!("r{}", "x".repeat(39));
    let _operator = Operator::start(&stage, "a");
    stage.install(&runtime, &json!({}));
    stage.until(&runtime, &[&node], "Ready labelled").await;
    stage.uninstall(&runtime);
    stage.until_gone(&runtime).await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_changes_in_the_middle_reaches_every_node() {
    let stage = Stage::with_nodes(3);
    let nodes = ["node-0", "node-1", "node-2"];
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-1"], "Installing").await;
    let platform =
        json!({ "arch": "amd64", "url": "https://example.org/0.3.0", "sha256": "a".repeat(64) });
    stage.change(
        "wasmedge",
        &json!({ "artifact": { "platforms": [platform] } }),
    );
    let all_new = || {
        let installed = |node: &&str| {
            stage
                .fleet
                .machine(node)
                .installed
                .get("wasmedge")
                .is_some_and(|one| one.version == "0.3.0")
        };
        if nodes.iter().all(installed) {
            Ok(())
        } else {
            Err(stage.evidence("wasmedge"))
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), all_new)
        .await
        .unwrap();
    stage.until("wasmedge", &nodes, "Ready labelled").await;
    assert_eq!(
        stage.cluster.get(&runtime_key("wasmedge")).unwrap()["status"]["version"],
        "0.3.0"
    );
    stage.assert_sound();
}
