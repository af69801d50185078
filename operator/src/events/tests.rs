//! Tests of the Events of a node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::*;

fn at(phase: Phase) -> WasmRuntimeNodeStatus {
    WasmRuntimeNodeStatus {
        phase,
        ..WasmRuntimeNodeStatus::default()
    }
}

fn because(phase: Phase, reason: &str, message: &str) -> WasmRuntimeNodeStatus {
    WasmRuntimeNodeStatus {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..at(phase)
    }
}

fn event(before: Option<&WasmRuntimeNodeStatus>, after: &WasmRuntimeNodeStatus) -> String {
    transition("wasmedge", "node-a", before, after).map_or_else(String::new, |content| {
        format!("{:?} {}", content.kind, content.reason)
    })
}

#[test]
fn each_phase_of_a_node_has_one_event() {
    let failed = because(Phase::Failed, "SmokeFailed", "no output");
    let unsupported = because(Phase::Unsupported, "Unsupported", "no containerd");
    for (before, after, expected) in [
        (None, at(Phase::Claimed), ""),
        (
            Some(at(Phase::Claimed)),
            at(Phase::Installing),
            "Normal Installing",
        ),
        (
            Some(at(Phase::Failed)),
            at(Phase::Installing),
            "Normal Installing",
        ),
        (
            Some(at(Phase::Installing)),
            at(Phase::Verifying),
            "Normal Installed",
        ),
        (Some(at(Phase::Verifying)), at(Phase::Verifying), ""),
        (Some(at(Phase::Verifying)), at(Phase::Ready), "Normal Ready"),
        (Some(at(Phase::Ready)), at(Phase::Ready), ""),
        (
            Some(at(Phase::Installing)),
            failed.clone(),
            "Warning SmokeFailed",
        ),
        (Some(failed.clone()), failed, ""),
        (
            Some(at(Phase::Claimed)),
            unsupported.clone(),
            "Warning NodeUnsupported",
        ),
        (Some(unsupported.clone()), unsupported, ""),
        (
            Some(at(Phase::Ready)),
            at(Phase::Removing),
            "Normal Removing",
        ),
        (
            Some(at(Phase::Removing)),
            because(Phase::Removing, "InUse", "2 containers"),
            "Warning InUse",
        ),
        (
            Some(because(Phase::Removing, "InUse", "2 containers")),
            because(Phase::Removing, "InUse", "2 containers"),
            "",
        ),
    ] {
        assert_eq!(
            event(before.as_ref(), &after),
            expected,
            "{:?} -> {:?}",
            before.map(|before| before.phase),
            after.phase
        );
    }
}

#[test]
fn new_attempt_has_event_and_same_attempt_only_with_a_new_reason() {
    let job = |name: &str| WasmRuntimeNodeStatus {
        job: Some(name.to_owned()),
        attempts: 1,
        ..at(Phase::Installing)
    };
    let waiting = WasmRuntimeNodeStatus {
        message: Some("ErrImagePull".to_owned()),
        ..job("one")
    };
    assert_eq!(event(Some(&job("one")), &job("two")), "Normal Installing");
    assert_eq!(
        event(Some(&job("one")), &waiting),
        "Warning InstallerWaiting"
    );
    assert_eq!(event(Some(&waiting), &waiting), "");
    assert_eq!(event(Some(&waiting), &job("one")), "");
}

#[test]
fn event_of_failure_has_next_step() {
    let gone = because(Phase::Failed, "DigestMismatch", "it is another archive");
    let note = |status: &WasmRuntimeNodeStatus| {
        transition("wasmedge", "node-a", None, status).unwrap().note
    };
    assert!(
        note(&gone).contains("it is another archive; no further attempt before the spec"),
        "{}",
        note(&gone)
    );
    assert!(note(&gone).contains(names::RETRY_ANNOTATION));
    let later = WasmRuntimeNodeStatus {
        retry_at: Some(Time(Timestamp::UNIX_EPOCH)),
        ..gone
    };
    assert!(
        note(&later).ends_with("next attempt at 1970-01-01T00:00:00Z"),
        "{}",
        note(&later)
    );
}

#[test]
fn note_is_cut_to_maximum_length() {
    let note = bounded(format!("begin{}end", "é".repeat(2000)));
    assert!(note.len() <= MAX_NOTE_BYTES && note.starts_with("begin") && note.ends_with("end"));
    assert_eq!(bounded("short".to_owned()), "short");
}
