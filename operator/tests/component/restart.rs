//! Operators that end in the middle: whoever comes after them ends up where they would have.

use std::time::Duration;

use fake_cluster::cluster::Moment;
use fake_cluster::resource::{JOB, NODE, RUNTIME_CLASS, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Script};
use serde_json::json;
use tokio::time::sleep;

use crate::stage::{IMAGE, Operator, Stage, pooled};

const NODES: [&str; 3] = ["a", "b", "c"];

fn stage() -> Stage {
    let stage = Stage::empty();
    for name in NODES {
        let scripts = if name == "b" {
            vec![Script::cannot_download()]
        } else {
            Vec::new()
        };
        stage
            .fleet
            .join(pooled(name).taint("startup").script(scripts));
    }
    stage.install(
        "wasmedge",
        &json!({ "startupTaints": [{ "key": "startup" }], "rollout": { "maxUnavailable": 2 } }),
    );
    stage
}

async fn assert_installed(stage: &Stage) {
    stage.until("wasmedge", &NODES, "Ready labelled").await;
    let settled = || {
        let taints = stage
            .cluster
            .all(NODE)
            .iter()
            .any(|node| node["spec"]["taints"].to_string().contains("startup"));
        let jobs = stage.cluster.all(JOB).len();
        if !taints && jobs == 0 {
            Ok(())
        } else {
            Err(format!("{jobs} Jobs, taints: {taints}"))
        }
    };
    stage
        .cluster
        .until(Duration::from_hours(1), settled)
        .await
        .unwrap();
    stage.assert_sound();
}

async fn assert_removed(stage: &Stage) {
    stage.until_gone("wasmedge").await;
    for resource in [JOB, RUNTIME_CLASS, WASM_RUNTIME_NODE] {
        assert_eq!(stage.cluster.all(resource).len(), 0, "{resource}");
    }
    for name in NODES {
        assert!(
            stage.fleet.machine(name).touched.is_empty() && !stage.is_labelled("wasmedge", name)
        );
    }
    stage.assert_sound();
}

/// Kills the first operator at its `n`th write; false if it never made so many.
async fn killed_at(n: usize, moment: Moment) -> bool {
    let stage = stage();
    let first = Operator::start(&stage, "first");
    let was_killed = first.kill_at(n, moment, Duration::from_mins(10)).await;
    let second = Operator::start(&stage, "second");
    assert_installed(&stage).await;
    second.stop().await;
    was_killed
}

/// Kills an operator at its `n`th write of a removal; false if it never made so many.
async fn killed_while_removing_at(n: usize, moment: Moment) -> bool {
    let stage = stage();
    let operator = Operator::start(&stage, "zeroth");
    // In the middle of the rollout: one node has it, one does not.
    stage.until("wasmedge", &["a"], "Ready labelled").await;
    operator.stop().await;
    stage.uninstall("wasmedge");
    let was_killed = Operator::start(&stage, "first")
        .kill_at(n, moment, Duration::from_mins(10))
        .await;
    let second = Operator::start(&stage, "second");
    assert_removed(&stage).await;
    second.stop().await;
    was_killed
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_be_killed_at_any_write_of_a_rollout() {
    for moment in [Moment::Before, Moment::After] {
        let mut n = 1;
        while killed_at(n, moment).await {
            n += 1;
        }
        assert!(
            n > 15,
            "a rollout of three nodes takes more than {n} writes"
        );
        println!("killed at each of {} writes, {moment:?}", n - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_be_killed_at_any_write_of_a_removal() {
    for moment in [Moment::Before, Moment::After] {
        let mut n = 1;
        while killed_while_removing_at(n, moment).await {
            n += 1;
        }
        assert!(n > 10, "a removal takes more than {n} writes");
        println!("killed at each of {} writes, {moment:?}", n - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn operators_that_are_killed_again_and_again_get_there_all_the_same() {
    let stage = stage();
    let mut operators = 0;
    while stage.standing("wasmedge", "c") != "Ready labelled" {
        operators += 1;
        assert!(operators < 100, "{}", stage.evidence("wasmedge"));
        Operator::start(&stage, &format!("n{operators}"))
            .kill_at(3, Moment::After, Duration::from_mins(1))
            .await;
    }
    let _last = Operator::start(&stage, "last");
    assert_installed(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_away_for_long_finds_what_happened_meanwhile() {
    let stage = stage();
    let first = Operator::start(&stage, "first");
    stage.until("wasmedge", &["a"], "Installing").await;
    first.stop().await;
    // Longer than finished Jobs are kept.
    sleep(Duration::from_hours(8)).await;
    stage.fleet.remove("c");
    stage.fleet.join(pooled("c"));
    stage.fleet.lose_handler("a", "wasmedge");
    let _second = Operator::start_with(&stage, "second", IMAGE, Faults::default());
    assert_installed(&stage).await;
}
