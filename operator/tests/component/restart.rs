//! Tests of operators that stop at any write: the next one reaches the same state.

use std::time::Duration;

use fake_cluster::cluster::Moment;
use fake_cluster::resource::{JOB, NODE, RUNTIME_CLASS, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Script};
use serde_json::json;
use tokio::time::sleep;

use crate::fixture::{Fixture, IMAGE, Operator, pooled};

const NODES: [&str; 3] = ["a", "b", "c"];

fn fixture() -> Fixture {
    let fixture = Fixture::empty();
    for name in NODES {
        let scripts = if name == "b" {
            vec![Script::cannot_download()]
        } else {
            Vec::new()
        };
        fixture
            .fleet
            .join(pooled(name).taint("startup").script(scripts));
    }
    fixture.install(
        "wasmedge",
        &json!({ "startupTaints": [{ "key": "startup" }], "rollout": { "maxUnavailable": 2 } }),
    );
    fixture
}

async fn assert_installed(fixture: &Fixture) {
    fixture.until("wasmedge", &NODES, "Ready labelled").await;
    let settled = || {
        let taints = fixture
            .cluster
            .all(NODE)
            .iter()
            .any(|node| node["spec"]["taints"].to_string().contains("startup"));
        let jobs = fixture.cluster.all(JOB).len();
        if !taints && jobs == 0 {
            Ok(())
        } else {
            Err(format!("{jobs} Jobs, taints: {taints}"))
        }
    };
    fixture
        .cluster
        .until(Duration::from_hours(1), settled)
        .await
        .unwrap();
    fixture.assert_sound();
}

async fn assert_removed(fixture: &Fixture) {
    fixture.until_gone("wasmedge").await;
    for resource in [JOB, RUNTIME_CLASS, WASM_RUNTIME_NODE] {
        assert_eq!(fixture.cluster.all(resource).len(), 0, "{resource}");
    }
    for name in NODES {
        assert!(
            fixture.fleet.machine(name).touched.is_empty()
                && !fixture.is_labelled("wasmedge", name)
        );
    }
    fixture.assert_sound();
}

/// Kills the first operator at its `n`th write; returns false if it has fewer.
async fn killed_at(n: usize, moment: Moment) -> bool {
    let fixture = fixture();
    let first = Operator::start(&fixture, "first");
    let was_killed = first.kill_at(n, moment, Duration::from_mins(10)).await;
    let second = Operator::start(&fixture, "second");
    assert_installed(&fixture).await;
    second.stop().await;
    was_killed
}

/// Kills an operator at its `n`th write of a removal; returns false if it has fewer.
async fn killed_while_removing_at(n: usize, moment: Moment) -> bool {
    let fixture = fixture();
    let operator = Operator::start(&fixture, "zeroth");
    // During the rollout: one node has the runtime, one does not.
    fixture.until("wasmedge", &["a"], "Ready labelled").await;
    operator.stop().await;
    fixture.uninstall("wasmedge");
    let was_killed = Operator::start(&fixture, "first")
        .kill_at(n, moment, Duration::from_mins(10))
        .await;
    let second = Operator::start(&fixture, "second");
    assert_removed(&fixture).await;
    second.stop().await;
    was_killed
}

#[tokio::test(start_paused = true)]
async fn operator_may_be_killed_at_any_write_of_a_rollout() {
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
async fn operator_may_be_killed_at_any_write_of_a_removal() {
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
async fn rollout_completes_although_operators_are_killed_repeatedly() {
    let fixture = fixture();
    let mut operators = 0;
    while fixture.node_state("wasmedge", "c") != "Ready labelled" {
        operators += 1;
        assert!(operators < 100, "{}", fixture.evidence("wasmedge"));
        Operator::start(&fixture, &format!("n{operators}"))
            .kill_at(3, Moment::After, Duration::from_mins(1))
            .await;
    }
    let _last = Operator::start(&fixture, "last");
    assert_installed(&fixture).await;
}

#[tokio::test(start_paused = true)]
async fn operator_after_long_absence_records_what_happened() {
    let fixture = fixture();
    let first = Operator::start(&fixture, "first");
    fixture.until("wasmedge", &["a"], "Installing").await;
    first.stop().await;
    // Longer than finished Jobs are kept.
    sleep(Duration::from_hours(8)).await;
    fixture.fleet.remove("c");
    fixture.fleet.join(pooled("c"));
    fixture.fleet.lose_handler("a", "wasmedge");
    let _second = Operator::start_with(&fixture, "second", IMAGE, Faults::default());
    assert_installed(&fixture).await;
}
