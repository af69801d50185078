//! Tests of installations that fail.

use std::time::Duration;

use fake_cluster::fleet::Joining;
use fake_cluster::{Faults, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Fixture, Operator, pooled, runtime_key};

fn nodes(scripts: &[(&str, Vec<Script>)]) -> Fixture {
    let fixture = Fixture::empty();
    for (name, scripts) in scripts {
        fixture.fleet.join(pooled(name).script(scripts.clone()));
    }
    fixture
}

fn condition(fixture: &Fixture, kind: &str) -> (String, String) {
    let runtime = fixture.runtime("wasmedge").unwrap();
    let conditions = runtime["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["status"]), text(&found["reason"]))
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn failure_stops_rollout_until_retry_annotation_is_set() {
    let fixture = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::rolls_back()]),
        ("c", vec![]),
        ("d", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["b"], "Failed SmokeFailed")
        .await;
    sleep(Duration::from_hours(3)).await;
    assert_eq!(
        [
            fixture.node_state("wasmedge", "a"),
            fixture.node_state("wasmedge", "c")
        ],
        ["Ready labelled", "none"]
    );
    assert_eq!(
        (
            condition(&fixture, "Degraded"),
            condition(&fixture, "Progressing").1
        ),
        (pair("True", "RolloutStopped"), "RolloutStopped".to_owned())
    );
    assert_eq!(condition(&fixture, "Available"), pair("True", "NodesReady"));
    assert_eq!(
        fixture.fleet.machine("b").runs,
        1,
        "a permanent failure is not retried automatically"
    );
    let retry = |runtime: &mut Value| {
        runtime["metadata"]["annotations"] = json!({ "runtime.wasmedge.dev/retry": "1" });
    };
    fixture
        .cluster
        .update(&runtime_key("wasmedge"), retry)
        .unwrap();
    fixture
        .until("wasmedge", &["a", "b", "c", "d"], "Ready labelled")
        .await;
    assert_eq!(condition(&fixture, "Degraded"), pair("False", "AsExpected"));
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn failures_below_threshold_do_not_stop_rollout() {
    let fixture = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::rolls_back()]),
        ("c", vec![]),
        ("d", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    fixture
        .until("wasmedge", &["a", "c", "d"], "Ready labelled")
        .await;
    fixture
        .until("wasmedge", &["b"], "Failed SmokeFailed")
        .await;
    assert_eq!(condition(&fixture, "Degraded"), pair("True", "NodesFailed"));
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn failed_canary_is_the_only_changed_node() {
    let fixture = nodes(&[
        ("a", vec![Script::rolls_back()]),
        ("b", vec![]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 3 } }));
    fixture
        .until("wasmedge", &["a"], "Failed SmokeFailed")
        .await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(
        [
            fixture.fleet.machine("b").runs,
            fixture.fleet.machine("c").runs
        ],
        [0, 0]
    );
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn transient_failure_is_retried_until_success() {
    for script in [
        Script::cannot_download(),
        Script::Dies,
        Script::Hangs,
        Script::NeverStarts,
        Script::CannotMount,
        Script::FailsToStart,
        Script::IsNotAdmitted,
    ] {
        let fixture = nodes(&[("a", vec![script.clone(), script.clone()]), ("b", vec![])]);
        let _operator = Operator::start(&fixture, "a");
        fixture.install("wasmedge", &json!({}));
        fixture
            .until("wasmedge", &["a", "b"], "Ready labelled")
            .await;
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn persistent_transient_failure_ends_after_maximum_attempts() {
    let fixture = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::cannot_download(); 50]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    fixture
        .until("wasmedge", &["a", "c"], "Ready labelled")
        .await;
    fixture.until("wasmedge", &["b"], "Failed Download").await;
    sleep(Duration::from_hours(12)).await;
    let runs = fixture.fleet.machine("b").runs;
    assert!((2..=10).contains(&runs), "{runs} attempts");
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_that_never_lists_handler_is_not_labelled() {
    let fixture = nodes(&[("a", vec![Script::WorksWithoutHandler]), ("b", vec![])]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["a"], "Failed HandlerMissing")
        .await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(fixture.node_state("wasmedge", "b"), "none");
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn next_node_starts_after_previous_one_is_ready_again() {
    let fixture = nodes(&[
        ("a", vec![Script::WorksWithNotReady(Duration::from_mins(4))]),
        ("b", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    let is_down = || {
        if fixture.fleet.machine("a").is_ready {
            Err("it is still Ready".to_owned())
        } else {
            Ok(())
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), is_down)
        .await
        .unwrap();
    sleep(Duration::from_mins(3)).await;
    assert_eq!(
        (
            fixture.fleet.machine("a").is_ready,
            fixture.fleet.machine("b").runs
        ),
        (false, 0)
    );
    assert!(!fixture.is_labelled("wasmedge", "a"));
    fixture
        .until("wasmedge", &["a", "b"], "Ready labelled")
        .await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn unresponsive_node_keeps_its_budget_slot_until_deletion() {
    let fixture = nodes(&[("a", vec![]), ("b", vec![Script::NodeDies]), ("c", vec![])]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    let is_dead = || {
        if fixture.fleet.machine("b").is_dead {
            Ok(())
        } else {
            Err("it lives".to_owned())
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), is_dead)
        .await
        .unwrap();
    sleep(Duration::from_hours(2)).await;
    assert_eq!(
        fixture.node_state("wasmedge", "c"),
        "none",
        "one node is down already"
    );
    assert!(
        fixture.node_state("wasmedge", "b").starts_with("Failed"),
        "{}",
        fixture.evidence("wasmedge")
    );
    fixture.fleet.remove("b");
    fixture
        .until("wasmedge", &["a", "c"], "Ready labelled")
        .await;
    fixture.until("wasmedge", &["b"], "none").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_deleted_during_installation_is_forgotten() {
    let fixture = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::NodeVanishes]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["a", "c"], "Ready labelled")
        .await;
    fixture.until("wasmedge", &["b"], "none").await;
    // A new machine of the same name is a new node.
    fixture.fleet.join(pooled("b"));
    fixture.until("wasmedge", &["b"], "Ready labelled").await;
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn unsupported_node_does_not_count_as_failure() {
    let fixture = nodes(&[
        ("a", vec![Script::unsupported()]),
        ("b", vec![]),
        ("c", vec![]),
    ]);
    fixture
        .fleet
        .join(pooled("z").script([Script::unsupported()]));
    fixture.fleet.join(Joining::new("elsewhere"));
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["b", "c"], "Ready labelled")
        .await;
    fixture
        .until("wasmedge", &["a", "z"], "Unsupported Unsupported")
        .await;
    assert_eq!(
        condition(&fixture, "Degraded"),
        pair("True", "NodesUnsupported")
    );
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn node_is_unlabelled_after_broken_upgrade_and_kept_after_rollback() {
    let fixture = nodes(&[("a", vec![]), ("b", vec![])]);
    let _operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    fixture
        .until("wasmedge", &["a", "b"], "Ready labelled")
        .await;
    fixture.fleet.script(
        "a",
        [Script::Fails(Outcome::Broken, Reason::ContainerdRestart)],
    );
    fixture.fleet.script("b", [Script::rolls_back()]);
    let platform =
        json!({ "arch": "amd64", "url": "https://example.org/0.3.0", "sha256": "a".repeat(64) });
    fixture.change(
        "wasmedge",
        &json!({ "artifact": { "platforms": [platform] } }),
    );
    fixture
        .until("wasmedge", &["a"], "Failed ContainerdRestart")
        .await;
    fixture
        .until("wasmedge", &["b"], "Failed SmokeFailed labelled")
        .await;
    assert_eq!(
        fixture.fleet.machine("b").installed["wasmedge"].version,
        "0.1.0"
    );
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn refused_job_is_reported_and_created_when_api_server_accepts_it() {
    let fixture = nodes(&[("a", vec![]), ("b", vec![])]);
    let operator = Operator::start(&fixture, "a");
    operator
        .connection
        .set_faults(Faults::forbidding("create", "jobs"));
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["a"], "Installing").await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(condition(&fixture, "Degraded"), pair("True", "ApiError"));
    let text = fixture.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        text.contains("cannot create Job") && text.contains("jobs is forbidden"),
        "{text}"
    );
    // After the timeout, the node's status shows it, too.
    fixture
        .until("wasmedge", &["a"], "Failed Interrupted")
        .await;
    assert_eq!(fixture.node_state("wasmedge", "b"), "none");
    operator.connection.set_faults(Faults::default());
    fixture
        .until("wasmedge", &["a", "b"], "Ready labelled")
        .await;
    assert_eq!(condition(&fixture, "Degraded"), pair("False", "AsExpected"));
    fixture.assert_sound();
}
