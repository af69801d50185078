//! Tests of leader election: the decision as a table, and two replicas on a fake API server with
//! simulated time.

use fake_cluster::resource::LEASE;
use fake_cluster::{Cluster, Connection, Key};
use serde_json::{Value, json};

use super::*;

const NAMESTIMINGS: &str = "wasmedge-system";

fn election(identity: &str) -> Election {
    Election {
        namespace: NAMESTIMINGS.to_owned(),
        identity: identity.to_owned(),
        timings: TIMINGS,
    }
}

fn key() -> Key {
    Key::new(LEASE, NAMESTIMINGS, names::LEASE)
}

fn spec(cluster: &Cluster) -> Value {
    cluster
        .get(&key())
        .map_or(Value::Null, |lease| lease["spec"].clone())
}

fn holder(cluster: &Cluster) -> Option<String> {
    spec(cluster)["holderIdentity"]
        .as_str()
        .map(ToOwned::to_owned)
}

/// Starts a replica, which leads at once.
async fn leader(cluster: &Cluster, identity: &str) -> (Connection, Leadership) {
    let connection = cluster.connect(identity);
    let leadership = lead(connection.client(), election(identity), || ()).await;
    (connection, leadership)
}

#[test]
fn decision_follows_from_holder_and_age_of_lease() {
    let seen = |holder: Option<&'static str>, unchanged: u64| {
        Some(ObservedLease {
            holder,
            lease_duration: TIMINGS.lease_duration,
            unchanged: Duration::from_secs(unchanged),
        })
    };
    for (role, seen, expected) in [
        (Role::Waiting, None, Decision::Acquire),
        (Role::Waiting, seen(None, 0), Decision::Acquire),
        (Role::Waiting, seen(Some("me"), 0), Decision::Acquire),
        (Role::Waiting, seen(Some("other"), 0), Decision::Wait),
        (Role::Waiting, seen(Some("other"), 15), Decision::Wait),
        (Role::Waiting, seen(Some("other"), 16), Decision::Acquire),
        (Role::Leader, None, Decision::Acquire),
        (Role::Leader, seen(None, 0), Decision::Acquire),
        (Role::Leader, seen(Some("me"), 3), Decision::Renew),
        (Role::Leader, seen(Some("other"), 100), Decision::Lost),
    ] {
        assert_eq!(decide(role, seen, "me"), expected, "{role:?} {seen:?}");
    }
}

#[test]
fn renew_deadline_ends_before_lease_duration() {
    // The last step may take a read and a write, and has to end in time.
    assert!(TIMINGS.renew_deadline + TIMINGS.retry_period * 2 < TIMINGS.lease_duration);
}

#[tokio::test(start_paused = true)]
async fn first_replica_leads_and_second_waits() {
    let cluster = Cluster::start();
    let (_line, mut leadership) = leader(&cluster, "one").await;
    let other = cluster.connect("two");
    timeout(
        Duration::from_hours(1),
        lead(other.client(), election("two"), || ()),
    )
    .await
    .unwrap_err();
    timeout(Duration::from_secs(1), leadership.lost())
        .await
        .unwrap_err();
    assert_eq!(holder(&cluster).as_deref(), Some("one"));
    assert_eq!(spec(&cluster)["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn released_lease_is_acquired_at_once() {
    let cluster = Cluster::start();
    let (_line, leadership) = leader(&cluster, "one").await;
    let other = cluster.connect("two");
    let waiting = tokio::spawn(lead(other.client(), election("two"), || ()));
    sleep(Duration::from_mins(1)).await;
    let given_up = Instant::now();
    leadership.release().await;
    let _leadership = waiting.await.unwrap();
    assert!(
        given_up.elapsed() < TIMINGS.retry_period * 2,
        "{:?}",
        given_up.elapsed()
    );
    assert_eq!(holder(&cluster).as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn disconnected_leader_stops_before_next_one_leads() {
    let cluster = Cluster::start();
    let (line, mut leadership) = leader(&cluster, "one").await;
    let other = cluster.connect("two");
    let waiting = tokio::spawn(async move {
        let leadership = lead(other.client(), election("two"), || ()).await;
        (leadership, Instant::now())
    });
    sleep(Duration::from_mins(1)).await;
    line.cut();
    let cut = Instant::now();
    leadership.lost().await;
    let lost = Instant::now();
    let (_leadership, led) = waiting.await.unwrap();
    assert!(
        lost < led,
        "the first one gave up {:?} after the next one led",
        lost - led
    );
    assert!(
        lost - cut <= TIMINGS.renew_deadline + TIMINGS.retry_period,
        "{:?}",
        lost - cut
    );
    assert!(
        led - cut <= TIMINGS.lease_duration + TIMINGS.retry_period * 2,
        "{:?}",
        led - cut
    );
}

#[tokio::test(start_paused = true)]
async fn leader_keeps_lease_through_short_disconnection() {
    let cluster = Cluster::start();
    let (line, mut leadership) = leader(&cluster, "one").await;
    for _ in 0..10 {
        line.cut();
        sleep(Duration::from_secs(5)).await;
        line.restore();
        timeout(Duration::from_secs(30), leadership.lost())
            .await
            .unwrap_err();
    }
    assert_eq!(spec(&cluster)["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn replicas_with_different_clocks_elect_one_leader() {
    let cluster = Cluster::start();
    let (_line, mut leadership) = leader(&cluster, "one").await;
    // A leader whose clock is far behind writes this with each renewal.
    cluster
        .edit(&key(), |lease| {
            lease["spec"]["renewTime"] = json!("2001-01-01T00:00:00.000000Z");
        })
        .unwrap();
    let other = cluster.connect("two");
    timeout(
        Duration::from_mins(5),
        lead(other.client(), election("two"), || ()),
    )
    .await
    .unwrap_err();
    timeout(Duration::from_secs(1), leadership.lost())
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn leader_loses_when_another_holder_is_written() {
    let cluster = Cluster::start();
    let (_line, mut leadership) = leader(&cluster, "one").await;
    cluster
        .edit(&key(), |lease| {
            lease["spec"]["holderIdentity"] = json!("thief");
        })
        .unwrap();
    let seen = Instant::now();
    leadership.lost().await;
    assert!(
        seen.elapsed() < TIMINGS.retry_period * 2,
        "{:?}",
        seen.elapsed()
    );
    assert_eq!(holder(&cluster).as_deref(), Some("thief"));
}

#[tokio::test(start_paused = true)]
async fn restarted_container_acquires_its_own_lease() {
    let cluster = Cluster::start();
    let (line, leadership) = leader(&cluster, "one").await;
    line.cut();
    drop(leadership);
    let began = Instant::now();
    let (_line, _leadership) = leader(&cluster, "one").await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(spec(&cluster)["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn held_lease_costs_one_call_per_retry_period() {
    let cluster = Cluster::start();
    let (_line, _leadership) = leader(&cluster, "one").await;
    cluster.forget_calls();
    sleep(Duration::from_mins(1)).await;
    let calls = cluster.calls().len();
    assert!((28..=31).contains(&calls), "{calls} calls");
}
