//! Several replicas: one works at a time.

use std::sync::Arc;
use std::time::Duration;

use fake_cluster::resource::{EVENT, LEASE, RUNTIME_CLASS};
use fake_cluster::{Connection, Key};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wasmedge_operator::commands::run::work;
use wasmedge_operator::metrics::Metrics;

use crate::context::{NAMESPACE, context};
use crate::stage::{IMAGE, Stage};

/// A replica that takes part in the election of a leader.
pub(crate) struct Replica {
    pub(crate) connection: Connection,
    metrics: Arc<Metrics>,
    task: JoinHandle<anyhow::Result<()>>,
    stop: watch::Sender<()>,
}

impl Replica {
    pub(crate) fn start(stage: &Stage, name: &str) -> Self {
        let connection = stage.cluster.connect(&format!("operator-{name}"));
        let context = context(&stage.cluster, &connection, name, IMAGE);
        let (stop, stopped) = watch::channel(());
        let metrics = Arc::clone(&context.metrics);
        let task = tokio::spawn(work(context, stopped));
        Self {
            connection,
            metrics,
            task,
            stop,
        }
    }

    pub(crate) fn kill(self) {
        self.connection.cut();
        self.task.abort();
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(());
        self.task
            .await
            .expect("an operator does not panic")
            .expect("an operator that is asked to stop does not fail");
    }
}

fn holder(stage: &Stage) -> String {
    let lease = stage
        .cluster
        .get(&Key::new(LEASE, NAMESPACE, "wasmedge-operator"));
    lease
        .and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// A stage with `nodes` nodes whose leader is at work on a runtime, and a rival that waits.
async fn at_work_with_a_rival(nodes: usize) -> (Stage, Replica, Replica) {
    let stage = Stage::with_nodes(nodes);
    let first = Replica::start(&stage, "first");
    until_leads(&stage, "first").await;
    let second = Replica::start(&stage, "second");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-1"], "Installing").await;
    (stage, first, second)
}

async fn until_leads(stage: &Stage, name: &str) {
    let leads = || {
        if holder(stage) == name {
            Ok(())
        } else {
            Err(format!("{:?} leads", holder(stage)))
        }
    };
    stage
        .cluster
        .until(Duration::from_mins(2), leads)
        .await
        .unwrap();
}

/// Changes that a replica asked for, but for those of the Lease, and for Events: the task that
/// publishes them ends with the process, which a test's replica is not.
fn writes(stage: &Stage, name: &str) -> usize {
    let by = format!("operator-{name}");
    let calls = stage.cluster.calls();
    calls
        .iter()
        .filter(|call| {
            *call.by == *by
                && call.target.verb.writes()
                && ![LEASE, EVENT].contains(&call.target.resource)
        })
        .count()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_replicas_works_and_the_other_takes_over_when_it_is_killed() {
    let (stage, first, _second) = at_work_with_a_rival(4).await;
    assert_eq!(writes(&stage, "second"), 0);
    first.kill();
    until_leads(&stage, "second").await;
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    assert!(writes(&stage, "second") > 0);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_gives_the_lead_away_at_once() {
    let stage = Stage::with_nodes(2);
    let first = Replica::start(&stage, "first");
    until_leads(&stage, "first").await;
    let second = Replica::start(&stage, "second");
    sleep(Duration::from_secs(10)).await;
    first.stop().await;
    assert_eq!(holder(&stage), "");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(holder(&stage), "second");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_ends_before_another_one_leads() {
    let (stage, first, _second) = at_work_with_a_rival(4).await;
    let Replica {
        connection, task, ..
    } = first;
    connection.cut();
    let cut = stage.cluster.now();
    // It ends by itself, with an error that makes its pod begin anew.
    task.await.unwrap().unwrap_err();
    assert_eq!(
        holder(&stage),
        "first",
        "the other one must not lead before this one has ended"
    );
    assert!(stage.cluster.now().duration_since(cut).as_secs() < 15);
    until_leads(&stage, "second").await;
    let before = writes(&stage, "first");
    connection.mend();
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    assert_eq!(writes(&stage, "first"), before);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_rival_leads_again_after_its_lease_was_deleted() {
    let stage = Stage::with_nodes(1);
    let _only = Replica::start(&stage, "only");
    until_leads(&stage, "only").await;
    stage
        .cluster
        .delete(&Key::new(LEASE, NAMESPACE, "wasmedge-operator"))
        .unwrap();
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Ready labelled").await;
    until_leads(&stage, "only").await;
}

#[tokio::test(start_paused = true)]
async fn leaders_that_follow_each_other_never_change_more_nodes_than_one_may() {
    let stage = Stage::with_nodes(8);
    stage.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
    let mut replicas = vec![Replica::start(&stage, "0"), Replica::start(&stage, "1")];
    for n in 2..8 {
        sleep(Duration::from_secs(25)).await;
        replicas.remove(0).kill();
        replicas.push(Replica::start(&stage, &n.to_string()));
    }
    let names = stage.fleet.names();
    stage
        .until(
            "wasmedge",
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
            "Ready labelled",
        )
        .await;
    stage.assert_sound();
}

/// Waits until a replica is ready, and fails if it is not within `limit`.
async fn until_ready(stage: &Stage, replicas: &[&Replica], limit: Duration) {
    let ready = || {
        if replicas.iter().all(|replica| replica.metrics.is_ready()) {
            Ok(())
        } else {
            Err("not ready".to_owned())
        }
    };
    stage.cluster.until(limit, ready).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replicas_are_not_ready_before_the_lease_of_a_dead_leader_is_taken_over_and_the_class_is_made()
 {
    let stage = Stage::with_nodes(1);
    let former = Replica::start(&stage, "former");
    until_leads(&stage, "former").await;
    former.kill();
    stage.install("wasmedge", &json!({}));
    let (one, two) = (Replica::start(&stage, "one"), Replica::start(&stage, "two"));
    let class = Key::new(RUNTIME_CLASS, "", "wasmedge");
    let mut seconds = 0;
    while !(one.metrics.is_ready() && two.metrics.is_ready()) {
        seconds += 1;
        assert!(seconds < 30, "not ready after {seconds} s");
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        seconds > 10,
        "ready after {seconds} s, while {:?} was not taken over",
        holder(&stage)
    );
    assert!(
        stage.cluster.get(&class).is_some(),
        "ready, and pods of the class are refused"
    );
}

#[tokio::test(start_paused = true)]
async fn replica_that_sees_another_one_lead_is_ready_within_seconds() {
    let stage = Stage::with_nodes(1);
    let first = Replica::start(&stage, "first");
    until_ready(&stage, &[&first], Duration::from_secs(5)).await;
    let second = Replica::start(&stage, "second");
    until_ready(&stage, &[&second], Duration::from_secs(10)).await;
    assert_eq!(holder(&stage), "first");
    first.stop().await;
    until_leads(&stage, "second").await;
    until_ready(&stage, &[&second], Duration::from_secs(10)).await;
}
