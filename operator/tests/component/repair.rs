//! What somebody else changes, and what becomes of it.

use std::time::Duration;

use fake_cluster::Key;
use fake_cluster::resource::{NODE, WASM_RUNTIME_NODE};
use serde_json::json;

use crate::stage::{Operator, Stage};

const LABEL: &str = "runtime.wasmedge.dev/wasmedge";

async fn ready() -> (Stage, Operator) {
    let stage = Stage::with_nodes(2);
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    (stage, operator)
}

#[tokio::test(start_paused = true)]
async fn a_rebooted_node_is_proven_again() {
    let (stage, _operator) = ready().await;
    let runs = stage.fleet.machine("node-1").runs;
    stage.fleet.reboot("node-1", Duration::from_secs(40)).await;
    let is_proven = || {
        if stage.fleet.machine("node-1").runs > runs {
            Ok(())
        } else {
            Err("no installer came".to_owned())
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), is_proven)
        .await
        .unwrap();
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_rebooted_in_the_middle_gets_there_all_the_same() {
    for seconds in [4, 10, 16, 19] {
        let stage = Stage::with_nodes(1);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({}));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stage.fleet.reboot("node-0", Duration::from_secs(40)).await;
        stage.until("wasmedge", &["node-0"], "Ready labelled").await;
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_lost_takes_the_label_with_it_and_comes_back() {
    let (stage, _operator) = ready().await;
    stage.fleet.lose_handler("node-0", "wasmedge");
    let is_off = || {
        if stage.is_labelled("wasmedge", "node-0") {
            Err("it is labelled".to_owned())
        } else {
            Ok(())
        }
    };
    stage
        .cluster
        .until(Duration::from_mins(1), is_off)
        .await
        .unwrap();
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_label_that_somebody_takes_off_is_put_back_and_one_that_somebody_sets_is_taken_off() {
    let (stage, _operator) = ready().await;
    let key = Key::new(NODE, "", "node-0");
    let take = |node: &mut serde_json::Value| {
        drop(
            node["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove(LABEL),
        );
    };
    stage.cluster.update(&key, take).unwrap();
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    stage
        .fleet
        .join(fake_cluster::Joining::new("outside").label(LABEL, "ready"));
    stage.until("wasmedge", &["outside"], "none").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_state_that_somebody_deletes_is_made_again() {
    let (stage, _operator) = ready().await;
    let key = Key::new(WASM_RUNTIME_NODE, "", "wasmedge.node-0");
    let uid = || {
        stage
            .cluster
            .get(&key)
            .map(|state| state["metadata"]["uid"].clone())
    };
    let before = uid();
    stage.cluster.delete(&key).unwrap();
    let is_new = || {
        if uid().is_some() && uid() != before {
            Ok(())
        } else {
            Err(format!("{:?}", uid()))
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), is_new)
        .await
        .unwrap();
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.assert_sound();
}
