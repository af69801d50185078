//! Tests with several replicas, of which one leads.

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
use crate::fixture::{Fixture, IMAGE};

/// A replica with leader election.
pub(crate) struct Replica {
    pub(crate) connection: Connection,
    metrics: Arc<Metrics>,
    task: JoinHandle<anyhow::Result<()>>,
    stop: watch::Sender<()>,
}

impl Replica {
    pub(crate) fn start(fixture: &Fixture, name: &str) -> Self {
        let connection = fixture.cluster.connect(&format!("operator-{name}"));
        let context = context(&fixture.cluster, &connection, name, IMAGE);
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

fn holder(fixture: &Fixture) -> String {
    let lease = fixture
        .cluster
        .get(&Key::new(LEASE, NAMESPACE, "wasmedge-operator"));
    lease
        .and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Returns a fixture with `nodes` nodes, a leader in a rollout, and a standby replica.
async fn leader_and_standby(nodes: usize) -> (Fixture, Replica, Replica) {
    let fixture = Fixture::with_nodes(nodes);
    let first = Replica::start(&fixture, "first");
    until_leads(&fixture, "first").await;
    let second = Replica::start(&fixture, "second");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["node-1"], "Installing").await;
    (fixture, first, second)
}

async fn until_leads(fixture: &Fixture, name: &str) {
    let leads = || {
        if holder(fixture) == name {
            Ok(())
        } else {
            Err(format!("{:?} leads", holder(fixture)))
        }
    };
    fixture
        .cluster
        .until(Duration::from_mins(2), leads)
        .await
        .unwrap();
}

/// Returns the number of a replica's writes, without those of the Lease and of Events: the task
/// that publishes these ends with the process, and a replica in a test has none.
fn writes(fixture: &Fixture, name: &str) -> usize {
    let by = format!("operator-{name}");
    let calls = fixture.cluster.calls();
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
async fn second_replica_takes_over_after_leader_is_killed() {
    let (fixture, first, _second) = leader_and_standby(4).await;
    assert_eq!(writes(&fixture, "second"), 0);
    first.kill();
    until_leads(&fixture, "second").await;
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    assert!(writes(&fixture, "second") > 0);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn stopping_leader_releases_lease_at_once() {
    let fixture = Fixture::with_nodes(2);
    let first = Replica::start(&fixture, "first");
    until_leads(&fixture, "first").await;
    let second = Replica::start(&fixture, "second");
    sleep(Duration::from_secs(10)).await;
    first.stop().await;
    assert_eq!(holder(&fixture), "");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(holder(&fixture), "second");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn disconnected_leader_exits_before_another_one_leads() {
    let (fixture, first, _second) = leader_and_standby(4).await;
    let Replica {
        connection, task, ..
    } = first;
    connection.cut();
    let cut = fixture.cluster.now();
    // It exits with an error, so that its pod restarts.
    task.await.unwrap().unwrap_err();
    assert_eq!(
        holder(&fixture),
        "first",
        "the other one must not lead before this one has ended"
    );
    assert!(fixture.cluster.now().duration_since(cut).as_secs() < 15);
    until_leads(&fixture, "second").await;
    let before = writes(&fixture, "first");
    connection.restore();
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2", "node-3"],
            "Ready labelled",
        )
        .await;
    assert_eq!(writes(&fixture, "first"), before);
    fixture.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn only_replica_leads_again_after_its_lease_is_deleted() {
    let fixture = Fixture::with_nodes(1);
    let _only = Replica::start(&fixture, "only");
    until_leads(&fixture, "only").await;
    fixture
        .cluster
        .delete(&Key::new(LEASE, NAMESPACE, "wasmedge-operator"))
        .unwrap();
    fixture.install("wasmedge", &json!({}));
    fixture
        .until("wasmedge", &["node-0"], "Ready labelled")
        .await;
    until_leads(&fixture, "only").await;
}

#[tokio::test(start_paused = true)]
async fn successive_leaders_keep_the_budget() {
    let fixture = Fixture::with_nodes(8);
    fixture.install("wasmedge", &json!({ "rollout": { "maxUnavailable": 2 } }));
    let mut replicas = vec![Replica::start(&fixture, "0"), Replica::start(&fixture, "1")];
    for n in 2..8 {
        sleep(Duration::from_secs(25)).await;
        replicas.remove(0).kill();
        replicas.push(Replica::start(&fixture, &n.to_string()));
    }
    let names = fixture.fleet.names();
    fixture
        .until(
            "wasmedge",
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
            "Ready labelled",
        )
        .await;
    fixture.assert_sound();
}

/// Waits until a replica is ready, and fails after `timeout`.
async fn until_ready(fixture: &Fixture, replicas: &[&Replica], timeout: Duration) {
    let ready = || {
        if replicas.iter().all(|replica| replica.metrics.is_ready()) {
            Ok(())
        } else {
            Err("not ready".to_owned())
        }
    };
    fixture.cluster.until(timeout, ready).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replicas_are_not_ready_before_dead_leader_is_replaced_and_class_exists() {
    let fixture = Fixture::with_nodes(1);
    let former = Replica::start(&fixture, "former");
    until_leads(&fixture, "former").await;
    former.kill();
    fixture.install("wasmedge", &json!({}));
    let (one, two) = (
        Replica::start(&fixture, "one"),
        Replica::start(&fixture, "two"),
    );
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
        holder(&fixture)
    );
    assert!(
        fixture.cluster.get(&class).is_some(),
        "ready, and pods of the class are refused"
    );
}

#[tokio::test(start_paused = true)]
async fn standby_replica_is_ready_within_seconds() {
    let fixture = Fixture::with_nodes(1);
    let first = Replica::start(&fixture, "first");
    until_ready(&fixture, &[&first], Duration::from_secs(5)).await;
    let second = Replica::start(&fixture, "second");
    until_ready(&fixture, &[&second], Duration::from_secs(10)).await;
    assert_eq!(holder(&fixture), "first");
    first.stop().await;
    until_leads(&fixture, "second").await;
    until_ready(&fixture, &[&second], Duration::from_secs(10)).await;
}
