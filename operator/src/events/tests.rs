//! What is told of a node, and what is not.

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

fn told(before: Option<&WasmRuntimeNodeStatus>, after: &WasmRuntimeNodeStatus) -> String {
    transition("wasmedge", "node-a", before, after).map_or_else(String::new, |word| {
        format!("{:?} {}", word.kind, word.reason)
    })
}

#[test]
fn every_step_of_a_node_is_told_once() {
    let failed = because(Phase::Failed, "SmokeFailed", "it said nothing");
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
            told(before.as_ref(), &after),
            expected,
            "{:?} -> {:?}",
            before.map(|before| before.phase),
            after.phase
        );
    }
}

#[test]
fn another_try_is_told_and_a_word_about_the_same_try_only_if_it_says_why() {
    let job = |name: &str| WasmRuntimeNodeStatus {
        job: Some(name.to_owned()),
        attempts: 1,
        ..at(Phase::Installing)
    };
    let waiting = WasmRuntimeNodeStatus {
        message: Some("ErrImagePull".to_owned()),
        ..job("one")
    };
    assert_eq!(told(Some(&job("one")), &job("two")), "Normal Installing");
    assert_eq!(
        told(Some(&job("one")), &waiting),
        "Warning InstallerWaiting"
    );
    assert_eq!(told(Some(&waiting), &waiting), "");
    assert_eq!(told(Some(&waiting), &job("one")), "");
}

#[test]
fn a_failure_says_what_comes_next() {
    let gone = because(Phase::Failed, "DigestMismatch", "it is another archive");
    let note = |status: &WasmRuntimeNodeStatus| {
        transition("wasmedge", "node-a", None, status).unwrap().note
    };
    assert!(
        note(&gone)
            .contains("it is another archive; it is not tried again before the spec changes"),
        "{}",
        note(&gone)
    );
    assert!(note(&gone).contains(names::RETRY_ANNOTATION));
    let later = WasmRuntimeNodeStatus {
        retry_at: Some(Time(Timestamp::UNIX_EPOCH)),
        ..gone
    };
    assert!(
        note(&later).ends_with("it is tried again at 1970-01-01T00:00:00Z"),
        "{}",
        note(&later)
    );
}

#[test]
fn a_note_is_cut_to_what_the_api_server_takes() {
    let note = bounded(format!("begin{}end", "é".repeat(2000)));
    assert!(note.len() <= NOTE_LIMIT && note.starts_with("begin") && note.ends_with("end"));
    assert_eq!(bounded("short".to_owned()), "short");
}
