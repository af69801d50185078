//! How a runtime leaves nodes, and the cluster.

use std::time::Duration;

use fake_cluster::resource::{JOB, NODE, POD, RUNTIME_CLASS, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmedge_operator::commands::runtimes;

use crate::stage::{Operator, Stage, pooled};

/// What of the nodes a runtime could have changed.
fn traces(stage: &Stage) -> Vec<Value> {
    let trace = |node: &Value| {
        json!([
            node["metadata"]["name"],
            node["metadata"]["labels"],
            node["metadata"]["annotations"],
            node["spec"]
        ])
    };
    stage
        .cluster
        .all(NODE)
        .iter()
        .map(|node| trace(node))
        .collect()
}

fn assert_nothing_left(stage: &Stage, before: &[Value]) {
    assert_eq!(traces(stage), before);
    for resource in [JOB, POD, RUNTIME_CLASS, WASM_RUNTIME_NODE] {
        let left: Vec<String> = stage
            .cluster
            .all(resource)
            .iter()
            .map(|object| object["metadata"]["name"].to_string())
            .collect();
        assert!(left.is_empty(), "{resource}: {left:?}");
    }
    for name in stage.fleet.names() {
        let machine = stage.fleet.machine(&name);
        assert!(
            machine.touched.is_empty()
                && machine.installed.is_empty()
                && machine.handlers.is_empty(),
            "{name}: {machine:?}"
        );
    }
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_runtime_leaves_the_cluster_as_it_was() {
    let stage = Stage::with_nodes(4);
    let before = traces(&stage);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    assert_nothing_left(&stage, &before);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_can_be_deleted_at_any_moment_of_its_rollout() {
    for seconds in (0..150).step_by(6) {
        let stage = Stage::with_nodes(4);
        let before = traces(&stage);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
        sleep(Duration::from_secs(seconds)).await;
        stage.uninstall("wasmedge");
        stage.until_gone("wasmedge").await;
        assert_nothing_left(&stage, &before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_and_a_stopped_rollout_can_be_deleted() {
    let stage = Stage::with_nodes(3);
    let before = traces(&stage);
    stage.fleet.script("node-1", [Script::rolls_back()]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-1"], "Failed SmokeFailed")
        .await;
    stage.change("wasmedge", &json!({ "rollout": { "paused": true } }));
    sleep(Duration::from_mins(1)).await;
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    assert_nothing_left(&stage, &before);
}

#[tokio::test(start_paused = true)]
async fn node_that_leaves_the_pool_is_cleaned_and_can_return() {
    let stage = Stage::with_nodes(2);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    let key = Key::new(NODE, "", "node-1");
    stage
        .cluster
        .update(&key, |node| {
            node["metadata"]["labels"]["pool"] = "other".into();
        })
        .unwrap();
    stage.until("wasmedge", &["node-1"], "none").await;
    assert!(stage.fleet.machine("node-1").touched.is_empty());
    assert_eq!(stage.standing("wasmedge", "node-0"), "Ready labelled");
    stage
        .cluster
        .update(&key, |node| {
            node["metadata"]["labels"]["pool"] = "wasm".into();
        })
        .unwrap();
    stage.until("wasmedge", &["node-1"], "Ready labelled").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_the_pool_in_the_middle_is_cleaned() {
    for seconds in [1, 5, 12, 18, 22] {
        let stage = Stage::with_nodes(1);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({}));
        sleep(Duration::from_secs(seconds)).await;
        stage
            .cluster
            .update(&Key::new(NODE, "", "node-0"), |node| {
                node["metadata"]["labels"]["pool"] = "other".into();
            })
            .unwrap();
        sleep(Duration::from_mins(1)).await;
        stage.until("wasmedge", &["node-0"], "none").await;
        let machine = stage.fleet.machine("node-0");
        assert!(
            machine.touched.is_empty() && machine.handlers.is_empty(),
            "{seconds}: {machine:?}"
        );
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_in_use_stays_until_its_pods_are_gone_and_says_so() {
    let stage = Stage::with_nodes(1);
    let before = traces(&stage);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    stage.fleet.script(
        "node-0",
        vec![Script::Fails(Outcome::Refused, Reason::InUse); 12],
    );
    stage.uninstall("wasmedge");
    stage.until("wasmedge", &["node-0"], "Removing InUse").await;
    sleep(Duration::from_mins(20)).await;
    assert_eq!(stage.standing("wasmedge", "node-0"), "Removing InUse");
    stage.until_gone("wasmedge").await;
    assert_nothing_left(&stage, &before);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_is_cleaned_when_it_is_back_or_forgotten_when_it_is_gone() {
    for comes_back in [true, false] {
        let stage = Stage::with_nodes(2);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({}));
        stage
            .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
            .await;
        stage.fleet.set_ready("node-1", false);
        stage.uninstall("wasmedge");
        sleep(Duration::from_hours(2)).await;
        assert_eq!(stage.standing("wasmedge", "node-0"), "none");
        assert!(
            stage.runtime("wasmedge").is_some(),
            "a node is not clean yet"
        );
        if comes_back {
            stage.fleet.set_ready("node-1", true);
        } else {
            stage.fleet.remove("node-1");
        }
        stage.until_gone("wasmedge").await;
        assert!(!comes_back || stage.fleet.machine("node-1").touched.is_empty());
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_to_be_retained_stays_on_its_nodes() {
    let stage = Stage::with_nodes(2);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "uninstallPolicy": "Retain" }));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    stage
        .until("wasmedge", &["node-0", "node-1"], "none labelled")
        .await;
    assert!(
        stage
            .cluster
            .get(&Key::new(RUNTIME_CLASS, "", "wasmedge"))
            .is_some()
    );
    assert!(stage.fleet.machine("node-0").works("wasmedge"));
    // Made again, it takes over what is there.
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn removal_is_tried_until_it_succeeds() {
    let stage = Stage::empty();
    stage.fleet.join(pooled("a"));
    let before = traces(&stage);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["a"], "Ready labelled").await;
    let broken = Script::Fails(Outcome::Broken, Reason::ContainerdRestart);
    stage.fleet.script(
        "a",
        [
            Script::Dies,
            Script::Hangs,
            broken.clone(),
            Script::rolls_back(),
            broken,
            Script::NeverStarts,
        ],
    );
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    assert_nothing_left(&stage, &before);
}

#[tokio::test(start_paused = true)]
async fn whoever_removes_all_runtimes_goes_on_through_an_api_server_in_trouble() {
    for seed in 0..8 {
        let stage = Stage::with_nodes(2);
        let before = traces(&stage);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({}));
        stage
            .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
            .await;
        let hook = stage.cluster.connect("hook");
        hook.set_faults(Faults {
            seed,
            broken: 0.3,
            throttled: 0.2,
            lost: 0.2,
            conflict: 0.3,
            answer_lost: 0.1,
            ..Faults::default()
        });
        runtimes::remove(hook.client(), Duration::from_mins(15))
            .await
            .unwrap();
        assert_nothing_left(&stage, &before);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_remove_runtimes_is_told_at_once_and_whoever_gets_no_answer_at_the_end() {
    let stage = Stage::with_nodes(1);
    stage.install("wasmedge", &json!({}));
    let hook = stage.cluster.connect("hook");
    let limit = Duration::from_mins(15);
    let began = Instant::now();
    hook.set_faults(Faults::forbidding("delete", "wasmruntimes"));
    let told = runtimes::remove(hook.client(), limit).await.unwrap_err();
    assert!(
        format!("{told:#}").contains("cannot delete WasmRuntime wasmedge: the API server answered"),
        "{told:#}"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    hook.set_faults(Faults {
        broken: 1.0,
        ..Faults::default()
    });
    let told = runtimes::remove(hook.client(), limit).await.unwrap_err();
    assert!(
        format!("{told:#}")
            .contains("timeout after 900 s: cannot check what is left: cannot list WasmRuntimes"),
        "{told:#}"
    );
    assert!(began.elapsed() >= limit);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_breaks_a_node_goes_to_no_other_before_that_one_is_clean() {
    let stage = Stage::with_nodes(3);
    let before = traces(&stage);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    stage.fleet.script(
        "node-0",
        vec![Script::Fails(Outcome::Broken, Reason::ContainerdRestart); 12],
    );
    stage.uninstall("wasmedge");
    sleep(Duration::from_mins(20)).await;
    let standings = ["node-0", "node-1", "node-2"].map(|node| stage.standing("wasmedge", node));
    assert_eq!(
        standings,
        [
            "Removing ContainerdRestart",
            "Ready labelled",
            "Ready labelled"
        ]
    );
    let words = stage.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(words.contains("no further removal is started"), "{words}");
    stage.until_gone("wasmedge").await;
    assert_nothing_left(&stage, &before);
}
