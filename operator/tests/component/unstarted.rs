//! Installers whose pods cannot start: what is said of them, and how they are replaced and removed.

use std::time::Duration;

use fake_cluster::cluster::Moment;
use fake_cluster::resource::{JOB, POD, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use serde_json::{Value, json};
use tokio::time::sleep;
use wasmedge_operator::names;

use crate::stage::{Operator, Stage, pooled};

/// Every way in which an installer does not start, and words of what is said of it.
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

fn status(stage: &Stage, node: &str) -> Value {
    let object = stage.cluster.get(&Key::new(
        WASM_RUNTIME_NODE,
        "",
        &names::runtime_node("wasmedge", node),
    ));
    object
        .map(|object| object["status"].clone())
        .unwrap_or_default()
}

/// A stage with one node on which no installer starts, and an operator at work on it.
fn blocked(script: &Script, nodes: &[&str]) -> (Stage, Operator) {
    let stage = Stage::empty();
    for (number, name) in nodes.iter().enumerate() {
        let scripts = if number == 0 {
            vec![script.clone(); 60]
        } else {
            Vec::new()
        };
        stage.fleet.join(pooled(name).script(scripts));
    }
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    (stage, operator)
}

#[tokio::test(start_paused = true)]
async fn reason_is_in_node_object_and_condition_within_a_minute() {
    for (script, words) in CASES {
        let (stage, _operator) = blocked(&script, &["a", "b"]);
        let said = || {
            let status = status(&stage, "a");
            let message = status["message"].as_str().unwrap_or_default();
            if status["reason"] == "NotStarted" && message.contains(words) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        };
        stage
            .cluster
            .until(Duration::from_mins(1), said)
            .await
            .unwrap();
        if script != Script::FailsToStart {
            sleep(Duration::from_secs(5)).await;
            let conditions = stage.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
            assert!(
                conditions.contains("InstallersWaiting") && conditions.contains(words),
                "{conditions}"
            );
        }
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_that_never_reached_a_node_goes_without_an_installer() {
    for (script, _) in CASES {
        let (stage, _operator) = blocked(&script, &["a"]);
        sleep(Duration::from_secs(30)).await;
        stage.uninstall("wasmedge");
        let gone = || {
            if stage.runtime("wasmedge").is_none() {
                Ok(())
            } else {
                Err(stage.evidence("wasmedge"))
            }
        };
        stage
            .cluster
            .until(Duration::from_mins(1), gone)
            .await
            .unwrap();
        assert_eq!(stage.fleet.machine("a").runs, 0);
        sleep(Duration::from_mins(1)).await;
        for resource in [JOB, POD, WASM_RUNTIME_NODE] {
            assert_eq!(
                stage.cluster.all(resource).len(),
                0,
                "{script:?}: {resource}"
            );
        }
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn job_with_a_wrong_image_is_replaced_when_the_image_is_mended() {
    for script in [
        Script::NeverStarts,
        Script::CannotMount,
        Script::IsNotAdmitted,
    ] {
        let (stage, operator) = blocked(&script, &["a", "b"]);
        sleep(Duration::from_mins(2)).await;
        operator.stop().await;
        stage.fleet.script("a", []);
        let _mended = Operator::start_with(
            &stage,
            "b",
            "mirror.example/node-installer:0.1.0",
            Faults::default(),
        );
        let ready = || {
            let standing = ["a", "b"].map(|node| stage.standing("wasmedge", node));
            if standing.iter().all(|standing| standing == "Ready labelled") {
                Ok(())
            } else {
                Err(stage.evidence("wasmedge"))
            }
        };
        stage
            .cluster
            .until(Duration::from_mins(3), ready)
            .await
            .unwrap();
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn removing_job_with_a_wrong_image_says_so_and_is_replaced() {
    let stage = Stage::with_nodes(1);
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    stage.fleet.script("node-0", vec![Script::NeverStarts; 60]);
    stage.uninstall("wasmedge");
    stage
        .until("wasmedge", &["node-0"], "Removing NotStarted")
        .await;
    // The node's object is written first.
    sleep(Duration::from_secs(5)).await;
    let conditions = stage.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Back-off pulling image"),
        "{conditions}"
    );
    operator.stop().await;
    stage.fleet.script("node-0", []);
    let _mended = Operator::start_with(
        &stage,
        "b",
        "mirror.example/node-installer:0.1.0",
        Faults::default(),
    );
    let gone = || {
        if stage.runtime("wasmedge").is_none() {
            Ok(())
        } else {
            Err(stage.evidence("wasmedge"))
        }
    };
    stage
        .cluster
        .until(Duration::from_mins(3), gone)
        .await
        .unwrap();
    assert!(stage.fleet.machine("node-0").touched.is_empty());
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_of_an_architecture_without_installer_holds_no_canary_up() {
    let stage = Stage::empty();
    stage.fleet.join(pooled("a-first").arch("arm64"));
    for name in ["b", "c"] {
        stage.fleet.join(pooled(name));
    }
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "canary": 1 } }));
    stage.until("wasmedge", &["b", "c"], "Ready labelled").await;
    stage
        .until("wasmedge", &["a-first"], "Unsupported Unsupported")
        .await;
    assert_eq!(stage.fleet.machine("a-first").runs, 0);
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    stage.assert_sound();
}

/// Kills an operator at its `n`th write while it takes back an installer that did not start, and
/// lets another one go on.
async fn killed_at(script: &Script, n: usize, moment: Moment) -> bool {
    let (stage, operator) = blocked(script, &["a"]);
    sleep(Duration::from_secs(30)).await;
    operator.stop().await;
    stage.uninstall("wasmedge");
    let was_killed = Operator::start(&stage, "first")
        .kill_at(n, moment, Duration::from_mins(2))
        .await;
    sleep(Duration::from_secs(20)).await;
    // What no operator saw end may have run, and then an installer cleans the node.
    stage.fleet.script("a", []);
    let second = Operator::start(&stage, "second");
    stage.until_gone("wasmedge").await;
    assert!(stage.fleet.machine("a").touched.is_empty());
    stage.assert_sound();
    second.stop().await;
    was_killed
}

#[tokio::test(start_paused = true)]
async fn operator_may_be_killed_at_any_write_while_it_takes_back_an_installer() {
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
