//! What happens where it does not work.

use std::time::Duration;

use fake_cluster::fleet::Joining;
use fake_cluster::{Faults, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::{Operator, Stage, pooled, runtime_key};

fn nodes(scripts: &[(&str, Vec<Script>)]) -> Stage {
    let stage = Stage::empty();
    for (name, scripts) in scripts {
        stage.fleet.join(pooled(name).script(scripts.clone()));
    }
    stage
}

fn condition(stage: &Stage, kind: &str) -> (String, String) {
    let runtime = stage.runtime("wasmedge").unwrap();
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
async fn a_failure_stops_the_rollout_until_somebody_asks_for_another_try() {
    let stage = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::rolls_back()]),
        ("c", vec![]),
        ("d", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["b"], "Failed SmokeFailed").await;
    sleep(Duration::from_hours(3)).await;
    assert_eq!(
        [
            stage.standing("wasmedge", "a"),
            stage.standing("wasmedge", "c")
        ],
        ["Ready labelled", "none"]
    );
    assert_eq!(
        (
            condition(&stage, "Degraded"),
            condition(&stage, "Progressing").1
        ),
        (pair("True", "RolloutStopped"), "RolloutStopped".to_owned())
    );
    assert_eq!(condition(&stage, "Available"), pair("True", "NodesReady"));
    assert_eq!(
        stage.fleet.machine("b").runs,
        1,
        "what does not pass by itself is not tried again by itself"
    );
    let retry = |runtime: &mut Value| {
        runtime["metadata"]["annotations"] = json!({ "runtime.wasmedge.dev/retry": "1" });
    };
    stage
        .cluster
        .update(&runtime_key("wasmedge"), retry)
        .unwrap();
    stage
        .until("wasmedge", &["a", "b", "c", "d"], "Ready labelled")
        .await;
    assert_eq!(condition(&stage, "Degraded"), pair("False", "AsExpected"));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn fewer_failures_than_the_threshold_keep_no_other_node_from_it() {
    let stage = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::rolls_back()]),
        ("c", vec![]),
        ("d", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    stage
        .until("wasmedge", &["a", "c", "d"], "Ready labelled")
        .await;
    stage.until("wasmedge", &["b"], "Failed SmokeFailed").await;
    assert_eq!(condition(&stage, "Degraded"), pair("True", "NodesFailed"));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_fails_is_the_only_node_that_is_touched() {
    let stage = nodes(&[
        ("a", vec![Script::rolls_back()]),
        ("b", vec![]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 3 } }));
    stage.until("wasmedge", &["a"], "Failed SmokeFailed").await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(
        [stage.fleet.machine("b").runs, stage.fleet.machine("c").runs],
        [0, 0]
    );
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_then_goes_on() {
    for script in [
        Script::cannot_download(),
        Script::Dies,
        Script::Hangs,
        Script::NeverStarts,
        Script::CannotMount,
        Script::FailsToStart,
        Script::IsNotAdmitted,
    ] {
        let stage = nodes(&[("a", vec![script.clone(), script.clone()]), ("b", vec![])]);
        let _operator = Operator::start(&stage, "a");
        stage.install("wasmedge", &json!({}));
        stage.until("wasmedge", &["a", "b"], "Ready labelled").await;
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_passes_is_given_up() {
    let stage = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::cannot_download(); 50]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    stage.until("wasmedge", &["a", "c"], "Ready labelled").await;
    stage.until("wasmedge", &["b"], "Failed Download").await;
    sleep(Duration::from_hours(12)).await;
    let runs = stage.fleet.machine("b").runs;
    assert!((2..=10).contains(&runs), "{runs} tries");
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_the_node_never_lists_keeps_pods_away() {
    let stage = nodes(&[("a", vec![Script::WorksWithoutHandler]), ("b", vec![])]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage
        .until("wasmedge", &["a"], "Failed HandlerMissing")
        .await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(stage.standing("wasmedge", "b"), "none");
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn the_next_node_waits_until_the_last_one_is_ready_again() {
    let stage = nodes(&[
        ("a", vec![Script::WorksWithNotReady(Duration::from_mins(4))]),
        ("b", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    let is_down = || {
        if stage.fleet.machine("a").is_ready {
            Err("it is still Ready".to_owned())
        } else {
            Ok(())
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), is_down)
        .await
        .unwrap();
    sleep(Duration::from_mins(3)).await;
    assert_eq!(
        (
            stage.fleet.machine("a").is_ready,
            stage.fleet.machine("b").runs
        ),
        (false, 0)
    );
    assert!(!stage.is_labelled("wasmedge", "a"));
    stage.until("wasmedge", &["a", "b"], "Ready labelled").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_to_answer_holds_its_place_until_it_is_removed() {
    let stage = nodes(&[("a", vec![]), ("b", vec![Script::NodeDies]), ("c", vec![])]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    let is_dead = || {
        if stage.fleet.machine("b").is_dead {
            Ok(())
        } else {
            Err("it lives".to_owned())
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), is_dead)
        .await
        .unwrap();
    sleep(Duration::from_hours(2)).await;
    assert_eq!(
        stage.standing("wasmedge", "c"),
        "none",
        "one node is down already"
    );
    assert!(
        stage.standing("wasmedge", "b").starts_with("Failed"),
        "{}",
        stage.evidence("wasmedge")
    );
    stage.fleet.remove("b");
    stage.until("wasmedge", &["a", "c"], "Ready labelled").await;
    stage.until("wasmedge", &["b"], "none").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_vanishes_in_the_middle_is_forgotten() {
    let stage = nodes(&[
        ("a", vec![]),
        ("b", vec![Script::NodeVanishes]),
        ("c", vec![]),
    ]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["a", "c"], "Ready labelled").await;
    stage.until("wasmedge", &["b"], "none").await;
    // A new machine of the old name is a new node.
    stage.fleet.join(pooled("b"));
    stage.until("wasmedge", &["b"], "Ready labelled").await;
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_have_it_is_no_failure() {
    let stage = nodes(&[
        ("a", vec![Script::unsupported()]),
        ("b", vec![]),
        ("c", vec![]),
    ]);
    stage
        .fleet
        .join(pooled("z").script([Script::unsupported()]));
    stage.fleet.join(Joining::new("elsewhere"));
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["b", "c"], "Ready labelled").await;
    stage
        .until("wasmedge", &["a", "z"], "Unsupported Unsupported")
        .await;
    assert_eq!(
        condition(&stage, "Degraded"),
        pair("True", "NodesUnsupported")
    );
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_upgrade_broke_takes_no_more_pods_and_one_that_went_back_does() {
    let stage = nodes(&[("a", vec![]), ("b", vec![])]);
    let _operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({ "rollout": { "failureThreshold": 2 } }));
    stage.until("wasmedge", &["a", "b"], "Ready labelled").await;
    stage.fleet.script(
        "a",
        [Script::Fails(Outcome::Broken, Reason::ContainerdRestart)],
    );
    stage.fleet.script("b", [Script::rolls_back()]);
    let platform =
        json!({ "arch": "amd64", "url": "https://example.org/0.3.0", "sha256": "a".repeat(64) });
    stage.change(
        "wasmedge",
        &json!({ "artifact": { "platforms": [platform] } }),
    );
    stage
        .until("wasmedge", &["a"], "Failed ContainerdRestart")
        .await;
    stage
        .until("wasmedge", &["b"], "Failed SmokeFailed labelled")
        .await;
    assert_eq!(
        stage.fleet.machine("b").installed["wasmedge"].version,
        "0.1.0"
    );
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn an_installer_that_the_api_server_does_not_take_is_told_and_sent_when_it_does() {
    let stage = nodes(&[("a", vec![]), ("b", vec![])]);
    let operator = Operator::start(&stage, "a");
    operator
        .connection
        .set_faults(Faults::forbidding("create", "jobs"));
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["a"], "Installing").await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(condition(&stage, "Degraded"), pair("True", "ApiError"));
    let words = stage.runtime("wasmedge").unwrap()["status"]["conditions"].to_string();
    assert!(
        words.contains("cannot create Job") && words.contains("jobs is forbidden"),
        "{words}"
    );
    // It does not wait for ever: the node says so too.
    stage.until("wasmedge", &["a"], "Failed Interrupted").await;
    assert_eq!(stage.standing("wasmedge", "b"), "none");
    operator.connection.set_faults(Faults::default());
    stage.until("wasmedge", &["a", "b"], "Ready labelled").await;
    assert_eq!(condition(&stage, "Degraded"), pair("False", "AsExpected"));
    stage.assert_sound();
}
