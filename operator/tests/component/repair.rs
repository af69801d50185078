//! Tests of changes by other clients, which the operator repairs.

use std::time::Duration;

use fake_cluster::Key;
use fake_cluster::resource::{NODE, WASM_RUNTIME_NODE};
use serde_json::json;

use crate::fixture::{Fixture, Operator};

const LABEL: &str = "runtime.wasmedge.dev/wasmedge";

async fn ready() -> (Fixture, Operator) {
    let fixture = Fixture::with_nodes(2);
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    (fixture, operator)
}

#[tokio::test(start_paused = true)]
async fn rebooted_node_is_verified_again() {
    let (fixture, _operator) = ready().await;
    let runs = fixture.fleet.machine("node-1").runs;
    fixture
        .fleet
        .reboot("node-1", Duration::from_secs(40))
        .await;
    let is_proven = || {
        if fixture.fleet.machine("node-1").runs > runs {
            Ok(())
        } else {
            Err("no installer came".to_owned())
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), is_proven)
        .await
        .unwrap();
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_rebooted_during_installation_becomes_ready() {
    for seconds in [4, 10, 16, 19] {
        let fixture = Fixture::with_nodes(1);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({}));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        fixture
            .fleet
            .reboot("node-0", Duration::from_secs(40))
            .await;
        fixture
            .until("wasmedge", &["node-0"], "Ready labelled")
            .await;
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn lost_handler_removes_label_and_is_reinstalled() {
    let (fixture, _operator) = ready().await;
    fixture.fleet.lose_handler("node-0", "wasmedge");
    let is_off = || {
        if fixture.is_labelled("wasmedge", "node-0") {
            Err("it is labelled".to_owned())
        } else {
            Ok(())
        }
    };
    fixture
        .cluster
        .until(Duration::from_mins(1), is_off)
        .await
        .unwrap();
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn readiness_label_changed_by_user_is_restored() {
    let (fixture, _operator) = ready().await;
    let key = Key::new(NODE, "", "node-0");
    let take = |node: &mut serde_json::Value| {
        drop(
            node["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove(LABEL),
        );
    };
    fixture.cluster.update(&key, take).unwrap();
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    fixture
        .fleet
        .join(fake_cluster::Joining::new("outside").label(LABEL, "ready"));
    fixture.until("wasmedge", &["outside"], "none").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn deleted_runtime_node_is_created_again() {
    let (fixture, _operator) = ready().await;
    let key = Key::new(WASM_RUNTIME_NODE, "", "wasmedge.node-0");
    let uid = || {
        fixture
            .cluster
            .get(&key)
            .map(|state| state["metadata"]["uid"].clone())
    };
    let before = uid();
    fixture.cluster.delete(&key).unwrap();
    let is_new = || {
        if uid().is_some() && uid() != before {
            Ok(())
        } else {
            Err(format!("{:?}", uid()))
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), is_new)
        .await
        .unwrap();
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}
