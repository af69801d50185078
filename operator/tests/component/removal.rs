//! Tests of removals from nodes and from the cluster.

use std::time::Duration;

use fake_cluster::resource::{JOB, NODE, POD, RUNTIME_CLASS, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmedge_operator::commands::runtimes;

use crate::fixture::{Fixture, Operator, pooled};

/// Returns the parts of the nodes that a runtime may change.
fn traces(fixture: &Fixture) -> Vec<Value> {
    let trace = |node: &Value| {
        json!([
            node["metadata"]["name"],
            node["metadata"]["labels"],
            node["metadata"]["annotations"],
            node["spec"]
        ])
    };
    fixture
        .cluster
        .all(NODE)
        .iter()
        .map(|node| trace(node))
        .collect()
}

fn assert_nothing_left(fixture: &Fixture, before: &[Value]) {
    assert_eq!(traces(fixture), before);
    for resource in [JOB, POD, RUNTIME_CLASS, WASM_RUNTIME_NODE] {
        let left: Vec<String> = fixture
            .cluster
            .all(resource)
            .iter()
            .map(|object| object["metadata"]["name"].to_string())
            .collect();
        assert!(left.is_empty(), "{resource}: {left:?}");
    }
    for name in fixture.fleet.names() {
        let machine = fixture.fleet.machine(&name);
        assert!(
            machine.touched.is_empty()
                && machine.installed.is_empty()
                && machine.handlers.is_empty(),
            "{name}: {machine:?}"
        );
    }
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn deleted_runtime_leaves_cluster_unchanged() {
    let fixture = Fixture::with_nodes(4);
    let before = traces(&fixture);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    assert_nothing_left(&fixture, &before);
}

#[tokio::test(start_paused = true)]
async fn runtime_can_be_deleted_at_any_time_of_its_rollout() {
    for seconds in (0..150).step_by(6) {
        let fixture = Fixture::with_nodes(4);
        let before = traces(&fixture);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
        sleep(Duration::from_secs(seconds)).await;
        fixture.uninstall("wasmedge");
        fixture.until_gone("wasmedge").await;
        assert_nothing_left(&fixture, &before);
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_with_paused_or_stopped_rollout_can_be_deleted() {
    let fixture = Fixture::with_nodes(3);
    let before = traces(&fixture);
    fixture.fleet.script("node-1", [Script::rolls_back()]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-1"], "Failed SmokeFailed")
        .await;
    fixture.change("wasmedge", &json!({ "rollout": { "paused": true } }));
    sleep(Duration::from_mins(1)).await;
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    assert_nothing_left(&fixture, &before);
}

#[tokio::test(start_paused = true)]
async fn node_that_leaves_the_pool_is_cleaned_and_can_return() {
    let fixture = Fixture::with_nodes(2);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    let key = Key::new(NODE, "", "node-1");
    fixture
        .cluster
        .update(&key, |node| {
            node["metadata"]["labels"]["pool"] = "other".into();
        })
        .unwrap();
    fixture.until("wasmedge", &["node-1"], "none").await;
    assert!(fixture.fleet.machine("node-1").touched.is_empty());
    assert_eq!(fixture.node_state("wasmedge", "node-0"), "Ready labelled");
    fixture
        .cluster
        .update(&key, |node| {
            node["metadata"]["labels"]["pool"] = "wasm".into();
        })
        .unwrap();
    fixture
        .until("wasmedge", &["node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_that_leaves_the_pool_during_installation_is_cleaned() {
    for seconds in [1, 5, 12, 18, 22] {
        let fixture = Fixture::with_nodes(1);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({}));
        sleep(Duration::from_secs(seconds)).await;
        fixture
            .cluster
            .update(&Key::new(NODE, "", "node-0"), |node| {
                node["metadata"]["labels"]["pool"] = "other".into();
            })
            .unwrap();
        sleep(Duration::from_mins(1)).await;
        fixture.until("wasmedge", &["node-0"], "none").await;
        let machine = fixture.fleet.machine("node-0");
        assert!(
            machine.touched.is_empty() && machine.handlers.is_empty(),
            "{seconds}: {machine:?}"
        );
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_in_use_is_removed_after_its_pods_and_reports_it() {
    let fixture = Fixture::with_nodes(1);
    let before = traces(&fixture);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    fixture.fleet.script(
        "node-0",
        vec![Script::Fails(Outcome::Refused, Reason::InUse); 12],
    );
    fixture.uninstall("wasmedge");
    fixture
        .until("wasmedge", &["node-0"], "Removing InUse")
        .await;
    sleep(Duration::from_mins(20)).await;
    assert_eq!(fixture.node_state("wasmedge", "node-0"), "Removing InUse");
    fixture.until_gone("wasmedge").await;
    assert_nothing_left(&fixture, &before);
}

#[tokio::test(start_paused = true)]
async fn node_that_is_down_is_cleaned_when_ready_or_forgotten_when_deleted() {
    for comes_back in [true, false] {
        let fixture = Fixture::with_nodes(2);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({}));
        fixture
            .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
            .await;
        fixture.fleet.set_ready("node-1", false);
        fixture.uninstall("wasmedge");
        sleep(Duration::from_hours(2)).await;
        assert_eq!(fixture.node_state("wasmedge", "node-0"), "none");
        assert!(
            fixture.runtime("wasmedge").is_some(),
            "a node is not clean yet"
        );
        if comes_back {
            fixture.fleet.set_ready("node-1", true);
        } else {
            fixture.fleet.remove("node-1");
        }
        fixture.until_gone("wasmedge").await;
        assert!(!comes_back || fixture.fleet.machine("node-1").touched.is_empty());
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_with_policy_retain_stays_on_its_nodes() {
    let fixture = Fixture::with_nodes(2);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "uninstallPolicy": "Retain" }));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    fixture
        .until("wasmedge", &["node-0", "node-1"], "none labelled")
        .await;
    assert!(
        fixture
            .cluster
            .get(&Key::new(RUNTIME_CLASS, "", "wasmedge"))
            .is_some()
    );
    assert!(fixture.fleet.machine("node-0").works("wasmedge"));
    // Created again, it adopts what is installed.
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn removal_is_retried_until_it_succeeds() {
    let fixture = Fixture::empty();
    fixture.fleet.join(pooled("a"));
    let before = traces(&fixture);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["a"], "Ready labelled").await;
    let broken = Script::Fails(Outcome::Broken, Reason::ContainerdRestart);
    fixture.fleet.script(
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
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    assert_nothing_left(&fixture, &before);
}

#[tokio::test(start_paused = true)]
async fn removal_of_all_runtimes_continues_through_api_errors() {
    for seed in 0..8 {
        let fixture = Fixture::with_nodes(2);
        let before = traces(&fixture);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({}));
        fixture
            .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
            .await;
        let hook = fixture.cluster.connect("hook");
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
        assert_nothing_left(&fixture, &before);
    }
}

#[tokio::test(start_paused = true)]
async fn removal_of_all_runtimes_fails_at_once_when_forbidden_and_at_timeout_without_answer() {
    let fixture = Fixture::with_nodes(1);
    fixture.install("wasmedge", &json!({}));
    let hook = fixture.cluster.connect("hook");
    let timeout = Duration::from_mins(15);
    let began = Instant::now();
    hook.set_faults(Faults::forbidding("delete", "wasmruntimes"));
    let error = runtimes::remove(hook.client(), timeout).await.unwrap_err();
    assert!(
        format!("{error:#}")
            .contains("cannot delete WasmRuntime wasmedge: the API server answered"),
        "{error:#}"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    hook.set_faults(Faults {
        broken: 1.0,
        ..Faults::default()
    });
    let error = runtimes::remove(hook.client(), timeout).await.unwrap_err();
    assert!(
        format!("{error:#}")
            .contains("timeout after 900 s: cannot check what is left: cannot list WasmRuntimes"),
        "{error:#}"
    );
    assert!(began.elapsed() >= timeout);
}

#[tokio::test(start_paused = true)]
async fn failing_removal_starts_on_no_other_node_until_first_is_clean() {
    let fixture = Fixture::with_nodes(3);
    let before = traces(&fixture);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    fixture.fleet.script(
        "node-0",
        vec![Script::Fails(Outcome::Broken, Reason::ContainerdRestart); 12],
    );
    fixture.uninstall("wasmedge");
    sleep(Duration::from_mins(20)).await;
    let states = ["node-0", "node-1", "node-2"].map(|node| fixture.node_state("wasmedge", node));
    assert_eq!(
        states,
        [
            "Removing ContainerdRestart",
            "Ready labelled",
            "Ready labelled"
        ]
    );
    let text = fixture.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(text.contains("no further removal is started"), "{text}");
    fixture.until_gone("wasmedge").await;
    assert_nothing_left(&fixture, &before);
}
