//! Tests of RuntimeClasses of other owners.

use std::time::Duration;

use fake_cluster::resource::{NODE, RUNTIME_CLASS};
use fake_cluster::{Faults, Key};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Fixture, Operator, pooled};

/// Returns a RuntimeClass like that of k3s and RKE2.
fn foreign() -> Value {
    json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "wasmedge", "labels": { "objectset.rio.cattle.io/hash": "x" } },
        "handler": "wasmedge", "scheduling": { "nodeSelector": { "kubernetes.io/os": "linux" } } })
}

fn key() -> Key {
    Key::new(RUNTIME_CLASS, "", "wasmedge")
}

/// Returns the RuntimeClass without resource version and managed fields.
fn content(fixture: &Fixture) -> Value {
    let mut class = Value::clone(&fixture.cluster.get(&key()).unwrap());
    class["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    class
}

#[tokio::test(start_paused = true)]
async fn foreign_runtime_class_is_not_changed_and_no_installer_starts() {
    let fixture = Fixture::with_nodes(1);
    fixture.cluster.create(foreign()).unwrap();
    let before = fixture.cluster.get(&key()).unwrap();
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(
        (
            fixture.cluster.get(&key()).unwrap(),
            fixture.fleet.machine("node-0").runs
        ),
        (before.clone(), 0)
    );
    assert!(
        fixture.runtime("wasmedge").unwrap()["status"]["conditions"]
            .to_string()
            .contains("RuntimeClassNotOurs")
    );
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    assert_eq!(fixture.cluster.get(&key()).unwrap(), before);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn adopted_runtime_class_is_restored_on_removal() {
    let fixture = Fixture::with_nodes(1);
    fixture.cluster.create(foreign()).unwrap();
    let before = content(&fixture);
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "wasmedge",
        &json!({ "runtimeClass": { "adoptExisting": true } }),
    );
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    assert_eq!(
        content(&fixture)["scheduling"]["nodeSelector"]["runtime.wasmedge.dev/wasmedge"],
        "ready"
    );
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    assert_eq!(content(&fixture), before);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn deleted_or_changed_runtime_class_is_restored() {
    let fixture = Fixture::with_nodes(1);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    let wanted = content(&fixture)["scheduling"].clone();
    let is_back = || match fixture.cluster.get(&key()) {
        Some(class) if class["scheduling"] == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    };
    fixture.cluster.delete(&key()).unwrap();
    fixture
        .cluster
        .until(Duration::from_mins(10), is_back)
        .await
        .unwrap();
    fixture
        .cluster
        .update(&key(), |class| {
            class["scheduling"] = json!({ "nodeSelector": { "a": "b" } });
        })
        .unwrap();
    fixture
        .cluster
        .until(Duration::from_mins(10), is_back)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn older_of_two_runtimes_keeps_a_shared_name() {
    let fixture = Fixture::with_nodes(2);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.install(
        "second",
        &json!({ "runtimeClass": { "name": "wasmedge", "handler": "other" } }),
    );
    sleep(Duration::from_hours(1)).await;
    assert!(
        fixture.runtime("second").unwrap()["status"]["conditions"]
            .to_string()
            .contains("NameTaken")
    );
    assert_eq!(fixture.node_state("second", "node-0"), "none");
    fixture.uninstall("wasmedge");
    fixture.until_gone("wasmedge").await;
    fixture
        .until("second", &["node-0", "node-1"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn nodes_are_cleaned_although_runtime_class_cannot_be_restored() {
    let fixture = Fixture::with_nodes(2);
    fixture.cluster.create(foreign()).unwrap();
    let _operator = Operator::start(&fixture, "a");
    fixture.install(
        "wasmedge",
        &json!({ "runtimeClass": { "adoptExisting": true } }),
    );
    fixture
        .until("wasmedge", &["node-0", "node-1"], "Ready labelled")
        .await;
    let note = |text: Value| {
        move |class: &mut Value| {
            class["metadata"]["annotations"]["runtime.wasmedge.dev/adopted"] = text;
        }
    };
    fixture.cluster.update(&key(), note("{".into())).unwrap();
    fixture.uninstall("wasmedge");
    fixture
        .until("wasmedge", &["node-0", "node-1"], "none")
        .await;
    let text = fixture.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        text.contains("ApiError") && text.contains("runtime.wasmedge.dev/adopted"),
        "{text}"
    );
    fixture.cluster.update(&key(), note("{}".into())).unwrap();
    fixture.until_gone("wasmedge").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn labels_and_nodes_are_cleaned_although_runtime_class_cannot_be_changed() {
    let fixture = Fixture::with_nodes(3);
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 3 } }));
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    operator
        .connection
        .set_faults(Faults::forbidding("patch", "runtimeclasses"));
    fixture.change(
        "wasmedge",
        &json!({ "runtimeClass": { "tolerations": [{ "operator": "Exists" }] } }),
    );
    fixture.fleet.join(pooled("new"));
    fixture.fleet.lose_handler("node-0", "wasmedge");
    fixture
        .cluster
        .update(&Key::new(NODE, "", "node-1"), |node| {
            node["metadata"]["labels"]["pool"] = "other".into();
        })
        .unwrap();
    sleep(Duration::from_mins(5)).await;
    assert!(
        !fixture.is_labelled("wasmedge", "node-0"),
        "{}",
        fixture.evidence("wasmedge")
    );
    assert_eq!(
        [
            fixture.node_state("wasmedge", "node-1"),
            fixture.node_state("wasmedge", "new")
        ],
        ["none", "none"]
    );
    assert!(fixture.fleet.machine("node-1").touched.is_empty());
    assert!(
        fixture.runtime("wasmedge").unwrap()["status"]["conditions"]
            .to_string()
            .contains("ApiError")
    );
    operator.connection.set_faults(Faults::default());
    fixture
        .until("wasmedge", &["node-0", "node-2", "new"], "Ready labelled")
        .await;
    fixture.assert_sound();
}
