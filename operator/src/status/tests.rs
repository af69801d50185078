//! Tests of the status for each kind of plan.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::Distribution;
use serde_json::{Value, json};

use super::*;
use crate::crd::WasmRuntime;
use crate::plan::{Handlers, NodeFacts, NodeState, Readiness, plan};

fn observed(spec: &Value, states: &[(&str, Value)]) -> Observed {
    let runtime: WasmRuntime = serde_json::from_value(json!({
        "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": "wasmedge", "generation": 3,
        "finalizers": [names::RUNTIME_FINALIZER] }, "spec": spec }))
    .unwrap();
    let node = |name: &str| NodeFacts {
        uid: name.to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        readiness: Readiness::Ready,
        leaving: false,
        arch: Some(crate::crd::Arch::Amd64),
        os: "linux".to_owned(),
        handlers: Handlers::Listed(BTreeSet::from(["wasmedge".to_owned()])),
        boot_id: "boot".to_owned(),
        distribution: Distribution::Systemd,
    };
    let state = |name: &str, status: &Value| NodeState {
        uid: String::new(),
        node_uid: name.to_owned(),
        deleting: false,
        status: serde_json::from_value(status.clone()).unwrap(),
    };
    Observed {
        now: Timestamp::from_second(1_800_000_000).unwrap(),
        peers: Vec::new(),
        nodes: states
            .iter()
            .map(|(name, _)| ((*name).to_owned(), node(name)))
            .collect(),
        states: states
            .iter()
            .filter(|(_, state)| !state.is_null())
            .map(|(name, status)| ((*name).to_owned(), state(name, status)))
            .collect(),
        busy: BTreeSet::new(),
        jobs: BTreeMap::new(),
        class: Some(crate::objects::runtime_class::desired(&runtime)),
        runtime,
        installer: crate::plan::tests::installer(),
    }
}

fn status_of(observed: &Observed) -> WasmRuntimeStatus {
    status(observed, &plan(observed), None)
}

fn reason(status: &WasmRuntimeStatus, kind: ConditionType) -> (&str, &str, &str) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())
        .unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

/// Returns the digest of the spec.
fn hash(spec: &Value) -> String {
    plan(&observed(spec, &[])).target.hash
}

#[test]
fn runtime_without_nodes_is_not_available_and_not_degraded() {
    let status = status_of(&observed(&json!({}), &[]));
    assert_eq!(
        reason(&status, ConditionType::Available).1,
        "NoNodesSelected"
    );
    assert_eq!(reason(&status, ConditionType::Degraded).0, "False");
    assert_eq!(
        (status.state.as_str(), status.observed_generation),
        ("No nodes", Some(3))
    );
}

#[test]
fn runtime_with_all_nodes_ready_is_available_and_not_progressing() {
    let ready = json!({ "phase": "Ready", "installed": hash(&json!({})),
        "target": hash(&json!({})), "version": "1.2.3", "bootId": "boot" });
    let status = status_of(&observed(&json!({}), &[("a", ready.clone()), ("b", ready)]));
    assert_eq!(
        reason(&status, ConditionType::Available),
        (
            "True",
            "NodesReady",
            "2 of 2 nodes accept pods of the class"
        )
    );
    assert_eq!(reason(&status, ConditionType::Progressing).1, "UpToDate");
    assert_eq!(
        (status.state.as_str(), status.version.as_deref()),
        ("Up to date", Some("1.2.3"))
    );
    assert_eq!(
        (
            status.nodes.desired,
            status.nodes.updated,
            status.nodes.ready
        ),
        (2, 2, 2)
    );
}

#[test]
fn degraded_condition_names_failed_node_and_reason() {
    let failed = json!({ "phase": "Failed", "target": hash(&json!({})), "reason": "DigestMismatch",
        "message": "it is another file", "attempts": 1 });
    let status = status_of(&observed(&json!({}), &[("a", failed), ("b", Value::Null)]));
    let (holds, why, message) = reason(&status, ConditionType::Degraded);
    assert_eq!(
        (holds, why, message),
        (
            "True",
            "RolloutStopped",
            "a: DigestMismatch: it is another file"
        )
    );
    assert_eq!(
        reason(&status, ConditionType::Progressing).1,
        "RolloutStopped"
    );
    assert_eq!(status.state, "Stopped, 1 failed");
}

#[test]
fn progressing_condition_shows_canary_and_pause() {
    let status = status_of(&observed(
        &json!({}),
        &[("a", Value::Null), ("b", Value::Null)],
    ));
    assert_eq!(reason(&status, ConditionType::Progressing).1, "Canary");
    let status = status_of(&observed(
        &json!({ "rollout": { "paused": true } }),
        &[("a", Value::Null)],
    ));
    assert_eq!(reason(&status, ConditionType::Progressing).1, "Paused");
}

#[test]
fn degraded_condition_names_few_of_many_nodes() {
    let failed = json!({ "phase": "Failed", "target": hash(&json!({})), "reason": "SmokeFailed",
        "message": "x" });
    let names = ["a", "b", "c", "d", "e"];
    let nodes: Vec<(&str, Value)> = names.iter().map(|name| (*name, failed.clone())).collect();
    let status = status_of(&observed(&json!({}), &nodes));
    let message = reason(&status, ConditionType::Degraded).2;
    assert!(
        message.contains("c: SmokeFailed")
            && !message.contains("d: Smoke")
            && message.contains("and 2 more"),
        "{message}"
    );
}

#[test]
fn unchanged_condition_keeps_its_time() {
    let mut observed = observed(&json!({}), &[]);
    observed.runtime.status = Some(status_of(&observed));
    observed.now = Timestamp::from_second(1_800_000_100).unwrap();
    let status = status_of(&observed);
    assert_eq!(Some(&status), observed.runtime.status.as_ref());
}

#[test]
fn api_error_comes_before_other_reasons() {
    let failed = json!({ "phase": "Failed", "target": hash(&json!({})), "reason": "SmokeFailed",
        "message": "x" });
    let observed = observed(&json!({}), &[("a", failed)]);
    let status = status(
        &observed,
        &plan(&observed),
        Some("cannot create Job j for Node b: the API server answered: exceeded quota"),
    );
    let (holds, why, message) = reason(&status, ConditionType::Degraded);
    assert_eq!((holds, why), ("True", "ApiError"));
    assert!(message.contains("exceeded quota"), "{message}");
}

#[test]
fn status_ignores_actions_that_are_not_done() {
    let observed = observed(&json!({}), &[("a", Value::Null)]);
    let plan = plan(&observed);
    assert_eq!(status(&observed, &plan, None).nodes.changing, 1);
    assert_eq!(
        status(&observed, &plan.without_actions(&observed), None)
            .nodes
            .changing,
        0
    );
}

#[test]
fn stopped_removal_names_the_failed_node() {
    let runtime = json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } } });
    let stuck = json!({ "phase": "Removing", "reason": "HostFiles", "message": "read-only",
        "retryAt": "2100-01-01T00:00:00Z" });
    let ready = json!({ "phase": "Ready", "installed": "x" });
    let status = status_of(&observed(&runtime, &[("a", stuck), ("b", ready)]));
    assert_eq!(status.state, "Removal stopped, 1 failed");
    let (_, why, message) = reason(&status, ConditionType::Degraded);
    assert_eq!(
        (why, message),
        (
            "RemovalBlocked",
            "a: HostFiles: read-only; no further removal is started until it is resolved"
        )
    );
}
