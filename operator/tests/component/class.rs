//! Whose the RuntimeClass is.

use std::time::Duration;

use fake_cluster::resource::{NODE, RUNTIME_CLASS};
use fake_cluster::{Faults, Key};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::{Operator, Stage, pooled};

/// As k3s and RKE2 bring it.
fn foreign() -> Value {
    json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "wasmedge", "labels": { "objectset.rio.cattle.io/hash": "x" } },
        "handler": "wasmedge", "scheduling": { "nodeSelector": { "kubernetes.io/os": "linux" } } })
}

fn key() -> Key {
    Key::new(RUNTIME_CLASS, "", "wasmedge")
}

/// A class without what counts its writes.
fn content(stage: &Stage) -> Value {
    let mut class = Value::clone(&stage.cluster.get(&key()).unwrap());
    class["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    class
}

#[tokio::test(start_paused = true)]
async fn a_class_of_somebody_else_is_not_touched_and_nothing_is_begun() {
    let stage = Stage::with_nodes(1);
    stage.cluster.create(foreign()).unwrap();
    let before = stage.cluster.get(&key()).unwrap();
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(
        (
            stage.cluster.get(&key()).unwrap(),
            stage.fleet.machine("node-0").runs
        ),
        (before.clone(), 0)
    );
    assert!(
        stage.runtime("wasmedge").unwrap()["status"]["conditions"]
            .to_string()
            .contains("RuntimeClassNotOurs")
    );
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    assert_eq!(stage.cluster.get(&key()).unwrap(), before);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn an_adopted_class_is_put_back_as_it_was() {
    let stage = Stage::with_nodes(1);
    stage.cluster.create(foreign()).unwrap();
    let before = content(&stage);
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "wasmedge",
        &json!({ "runtimeClass": { "adoptExisting": true } }),
    );
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    assert_eq!(
        content(&stage)["scheduling"]["nodeSelector"]["runtime.wasmedge.dev/wasmedge"],
        "ready"
    );
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    assert_eq!(content(&stage), before);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_deleted_or_changed_is_made_again() {
    let stage = Stage::with_nodes(1);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    let wanted = content(&stage)["scheduling"].clone();
    let is_back = || match stage.cluster.get(&key()) {
        Some(class) if class["scheduling"] == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    };
    stage.cluster.delete(&key()).unwrap();
    stage
        .cluster
        .until(Duration::from_mins(10), is_back)
        .await
        .unwrap();
    stage
        .cluster
        .update(&key(), |class| {
            class["scheduling"] = json!({ "nodeSelector": { "a": "b" } });
        })
        .unwrap();
    stage
        .cluster
        .until(Duration::from_mins(10), is_back)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_older_of_two_runtimes_keeps_a_name_that_both_want() {
    let stage = Stage::with_nodes(2);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.install(
        "second",
        &json!({ "runtimeClass": { "name": "wasmedge", "handler": "other" } }),
    );
    sleep(Duration::from_hours(1)).await;
    assert!(
        stage.runtime("second").unwrap()["status"]["conditions"]
            .to_string()
            .contains("NameTaken")
    );
    assert_eq!(stage.standing("second", "node-0"), "none");
    stage.uninstall("wasmedge");
    stage.until_gone("wasmedge").await;
    stage
        .until("second", &["node-0", "node-1"], "Ready labelled")
        .await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_class_that_cannot_be_put_back_keeps_no_node_from_being_cleaned() {
    let stage = Stage::with_nodes(2);
    stage.cluster.create(foreign()).unwrap();
    let _operator = Operator::start(&stage, "a");
    stage.install(
        "wasmedge",
        &json!({ "runtimeClass": { "adoptExisting": true } }),
    );
    stage
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    let note = |text: Value| {
        move |class: &mut Value| {
            class["metadata"]["annotations"]["runtime.wasmedge.dev/adopted"] = text;
        }
    };
    stage.cluster.update(&key(), note("{".into())).unwrap();
    stage.uninstall("wasmedge");
    stage.until("wasmedge", &["node-0", "node-1"], "none").await;
    let words = stage.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        words.contains("ApiError") && words.contains("runtime.wasmedge.dev/adopted"),
        "{words}"
    );
    stage.cluster.update(&key(), note("{}".into())).unwrap();
    stage.until_gone("wasmedge").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_class_that_cannot_be_changed_keeps_no_label_on_and_no_node_from_being_cleaned() {
    let stage = Stage::with_nodes(3);
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 3 } }));
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    operator
        .connection
        .set_faults(Faults::forbidding("patch", "runtimeclasses"));
    stage.change(
        "wasmedge",
        &json!({ "runtimeClass": { "tolerations": [{ "operator": "Exists" }] } }),
    );
    stage.fleet.join(pooled("new"));
    stage.fleet.lose_handler("node-0", "wasmedge");
    stage
        .cluster
        .update(&Key::new(NODE, "", "node-1"), |node| {
            node["metadata"]["labels"]["pool"] = "other".into();
        })
        .unwrap();
    sleep(Duration::from_mins(5)).await;
    assert!(
        !stage.is_labelled("wasmedge", "node-0"),
        "{}",
        stage.evidence("wasmedge")
    );
    assert_eq!(
        [
            stage.standing("wasmedge", "node-1"),
            stage.standing("wasmedge", "new")
        ],
        ["none", "none"]
    );
    assert!(stage.fleet.machine("node-1").touched.is_empty());
    assert!(
        stage.runtime("wasmedge").unwrap()["status"]["conditions"]
            .to_string()
            .contains("ApiError")
    );
    operator.connection.set_faults(Faults::default());
    stage
        .until("wasmedge", &["node-0", "node-2", "new"], "Ready labelled")
        .await;
    stage.assert_sound();
}
