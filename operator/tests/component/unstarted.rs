//! Tests of installers that cannot start: their status, replacement and removal.

use std::time::Duration;

use fake_cluster::cluster::Moment;
use fake_cluster::resource::{JOB, POD, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use serde_json::{Value, json};
use tokio::time::sleep;
use wasmedge_operator::names;

use crate::fixture::{Fixture, Operator, pooled};

/// Every way in which an installer does not start, and a part of its message.
const CASES: [(Script, &str); 4] = [
    (
        Script::NeverStarts,
        "the installer does not start: ImagePullBackOff: Back-off pulling image",
    ),
    (
        Script::CannotMount,
        "the installer does not start: FailedMount: MountVolume.SetUp failed",
    ),
    (
        Script::IsNotAdmitted,
        "the installer does not start: FailedCreate: Error creating: pods",
    ),
    (
        Script::FailsToStart,
        "StartError: failed to create containerd task",
    ),
];

fn status(fixture: &Fixture, node: &str) -> Value {
    let object = fixture.cluster.get(&Key::new(
        WASM_RUNTIME_NODE,
        "",
        &names::runtime_node("wasmedge", node),
    ));
    object
        .map(|object| object["status"].clone())
        .unwrap_or_default()
}

/// Returns a fixture with nodes on which no installer starts, and an operator.
fn blocked(script: &Script, nodes: &[&str]) -> (Fixture, Operator) {
    let fixture = Fixture::empty();
    for (number, name) in nodes.iter().enumerate() {
        let scripts = if number == 0 {
            vec![script.clone(); 60]
        } else {
            Vec::new()
        };
        fixture.fleet.join(pooled(name).script(scripts));
    }
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    (fixture, operator)
}

#[tokio::test(start_paused = true)]
async fn reason_of_unstarted_installer_is_in_status_within_a_minute() {
    for (script, text) in CASES {
        let (fixture, _operator) = blocked(&script, &["a", "b"]);
        let is_reported = || {
            let status = status(&fixture, "a");
            let message = status["message"].as_str().unwrap_or_default();
            if status["reason"] == "NotStarted" && message.contains(text) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        };
        fixture
            .cluster
            .until(Duration::from_mins(1), is_reported)
            .await
            .unwrap();
        if script != Script::FailsToStart {
            sleep(Duration::from_secs(5)).await;
            let conditions =
                fixture.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
            assert!(
                conditions.contains("InstallersWaiting") && conditions.contains(text),
                "{conditions}"
            );
        }
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_that_never_reached_a_node_is_deleted_without_installer() {
    for (script, _) in CASES {
        let (fixture, _operator) = blocked(&script, &["a"]);
        sleep(Duration::from_secs(30)).await;
        fixture.uninstall("wasmedge");
        fixture
            .until_gone_within(Duration::from_mins(1), "wasmedge")
            .await;
        assert_eq!(fixture.fleet.machine("a").runs, 0);
        sleep(Duration::from_mins(1)).await;
        for resource in [JOB, POD, WASM_RUNTIME_NODE] {
            assert_eq!(
                fixture.cluster.all(resource).len(),
                0,
                "{script:?}: {resource}"
            );
        }
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn job_with_wrong_image_is_replaced_when_image_is_corrected() {
    for script in [
        Script::NeverStarts,
        Script::CannotMount,
        Script::IsNotAdmitted,
    ] {
        let (fixture, operator) = blocked(&script, &["a", "b"]);
        sleep(Duration::from_mins(2)).await;
        operator.stop().await;
        fixture.fleet.script("a", []);
        let _mended = Operator::start_with(
            &fixture,
            "b",
            "mirror.example/node-installer:0.1.0",
            Faults::default(),
        );
        let ready = || {
            let expected = ["a", "b"].map(|node| fixture.node_state("wasmedge", node));
            if expected.iter().all(|expected| expected == "Ready labelled") {
                Ok(())
            } else {
                Err(fixture.evidence("wasmedge"))
            }
        };
        fixture
            .cluster
            .until(Duration::from_mins(3), ready)
            .await
            .unwrap();
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn removal_job_with_wrong_image_is_reported_and_replaced() {
    let fixture = Fixture::with_nodes(1);
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    fixture
        .fleet
        .script("node-0", vec![Script::NeverStarts; 60]);
    fixture.uninstall("wasmedge");
    fixture
        .until("wasmedge", &["node-0"], "Removing NotStarted")
        .await;
    // The node's object is written first.
    sleep(Duration::from_secs(5)).await;
    let conditions = fixture.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Back-off pulling image"),
        "{conditions}"
    );
    operator.stop().await;
    fixture.fleet.script("node-0", []);
    let _mended = Operator::start_with(
        &fixture,
        "b",
        "mirror.example/node-installer:0.1.0",
        Faults::default(),
    );
    fixture
        .until_gone_within(Duration::from_mins(3), "wasmedge")
        .await;
    assert!(fixture.fleet.machine("node-0").touched.is_empty());
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_of_unsupported_architecture_does_not_block_canary() {
    let fixture = Fixture::empty();
    fixture.fleet.join(pooled("a-first").arch("arm64"));
    for name in ["b", "c"] {
        fixture.fleet.join(pooled(name));
    }
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "canary": 1 } }));
    fixture
        .until("wasmedge", &["b", "c"], "Ready labelled")
        .await;
    fixture
        .until("wasmedge", &["a-first"], "Unsupported Unsupported")
        .await;
    assert_eq!(fixture.fleet.machine("a-first").runs, 0);
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    fixture.assert_sound();
}

/// Kills an operator at its `n`th write while it withdraws a Job that did not start, and starts
/// another operator.
async fn killed_at(script: &Script, n: usize, moment: Moment) -> bool {
    let (fixture, operator) = blocked(script, &["a"]);
    sleep(Duration::from_secs(30)).await;
    operator.stop().await;
    fixture.uninstall("wasmedge");
    let was_killed = Operator::start(&fixture, "first")
        .kill_at(n, moment, Duration::from_mins(2))
        .await;
    sleep(Duration::from_secs(20)).await;
    // If no operator observed the end of the pod, it may have run; then an installer cleans the
    // node.
    fixture.fleet.script("a", []);
    let second = Operator::start(&fixture, "second");
    fixture.until_gone("wasmedge").await;
    assert!(fixture.fleet.machine("a").touched.is_empty());
    fixture.assert_sound();
    second.stop().await;
    was_killed
}

#[tokio::test(start_paused = true)]
async fn operator_may_be_killed_at_any_write_of_a_withdrawal() {
    for (script, _) in CASES {
        for moment in [Moment::Before, Moment::After] {
            let mut n = 1;
            while killed_at(&script, n, moment).await {
                n += 1;
            }
            assert!(n > 2, "{script:?}: only {n} writes");
        }
    }
}
