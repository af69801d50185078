//! Tests of the facts of an installer.

use installer_protocol::report::{ContainerdFacts, Restart};
use installer_protocol::{Outcome, Reason, Stage};
use serde_json::{Value, json};

use super::*;

fn job(status: &Value) -> JobState {
    let labels = json!({ names::RUNTIME_LABEL: "wasmedge" });
    job_state(
        &serde_json::from_value(
            json!({ "metadata": { "name": "j", "labels": labels }, "status": status }),
        )
        .unwrap(),
    )
}

fn pod_with(status: &Value) -> PodState {
    pod_state(
        &serde_json::from_value(
            json!({ "metadata": { "labels": { JOB_LABEL: "j" } }, "status": status }),
        )
        .unwrap(),
    )
}

fn pod(state: &Value) -> PodState {
    pod_with(&json!({ "containerStatuses": [
        { "name": "installer", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": state }] }))
}

fn facts_of(job: &JobState, pods: &[&PodState]) -> JobFacts {
    facts(Some(job), pods, false, || None).unwrap()
}

fn obstacle(reason: &str, message: &str) -> Obstacle {
    Obstacle {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn start(facts: JobFacts) -> Start {
    let JobFacts::Running { start, .. } = facts else {
        panic!("it has ended: {facts:?}")
    };
    start
}

fn report() -> Report {
    Report {
        outcome: Outcome::Installed,
        stage: Stage::Clean,
        reason: Reason::Done,
        message: String::new(),
        containerd: ContainerdFacts::default(),
        installed: None,
        restart: Restart::Done,
    }
}

#[test]
fn report_of_pod_counts_before_job_has_ended() {
    let pod = pod(&json!({ "terminated": { "exitCode": 0, "message": report().to_message() } }));
    assert_eq!(
        facts_of(&job(&json!({})), &[&pod]),
        JobFacts::Reported(Box::new(report()))
    );
}

#[test]
fn end_of_container_without_report_names_exit_code_reason_and_message() {
    for (state, why, began) in [
        (
            json!({ "exitCode": 137, "reason": "OOMKilled" }),
            "exit code 137, OOMKilled",
            Began::Perhaps,
        ),
        (
            json!({ "exitCode": 128, "reason": "StartError",
                "message": "failed to create containerd task: exec format error\n" }),
            "exit code 128, StartError: failed to create containerd task: exec format error",
            Began::Never,
        ),
        (
            json!({ "exitCode": 137, "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was terminated" }),
            "exit code 137, ContainerStatusUnknown: The container could not be located when the \
             pod was terminated",
            Began::Never,
        ),
        (
            json!({ "exitCode": 137, "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was deleted.  The \
                            container used to be Running" }),
            "exit code 137, ContainerStatusUnknown: The container could not be located when the \
             pod was deleted.  \
             The container used to be Running",
            Began::Perhaps,
        ),
    ] {
        let pod = pod(&json!({ "terminated": state }));
        assert_eq!(
            facts_of(&job(&json!({})), &[&pod]),
            JobFacts::Lost {
                why: why.to_owned(),
                began
            }
        );
        assert_eq!(pod.never_began(), began == Began::Never);
    }
}

#[test]
fn container_that_was_created_and_lost_may_have_run() {
    let ended = json!({ "exitCode": 137, "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated" });
    let pod = pod_with(
        &json!({ "phase": "Failed", "containerStatuses": [{ "name": "installer", "image": "i",
            "imageID": "",
        "containerID": "containerd://1", "ready": false, "restartCount": 0,
        "state": { "terminated": ended } }] }),
    );
    assert!(!pod.never_began() && !pod.may_run());
}

#[test]
fn end_of_pod_without_container_is_its_end() {
    for (status, never) in [
        (
            json!({ "phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected: \
                                                            Predicate NodeAffinity failed" }),
            true,
        ),
        (
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on \
                                                            resource: memory" }),
            false,
        ),
    ] {
        let pod = pod_with(&status);
        assert!(!pod.may_run());
        let JobFacts::Lost { why, began } = facts_of(&job(&json!({})), &[&pod]) else {
            panic!("it has ended")
        };
        assert!(why.contains(status["message"].as_str().unwrap()), "{why}");
        assert_eq!(began == Began::Never, never, "{status}");
    }
}

#[test]
fn job_without_pods_runs_until_kubernetes_ends_it() {
    assert_eq!(start(facts_of(&job(&json!({})), &[])), Start::Pending);
    let failed = json!({ "conditions": [{ "type": "Failed", "status": "True",
        "reason": "DeadlineExceeded", "message": "too long" }] });
    let lost = JobFacts::Lost {
        why: "DeadlineExceeded: too long".to_owned(),
        began: Began::Perhaps,
    };
    assert_eq!(facts_of(&job(&failed), &[]), lost);
}

#[test]
fn obstacle_of_container_counts_before_warning_of_event() {
    let warning = || Some(obstacle("FailedMount", "no such folder"));
    let pulling =
        pod(&json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } }));
    let creating = pod(&json!({ "waiting": { "reason": "ContainerCreating" } }));
    let running = pod(&json!({ "running": {} }));
    for (pod, expected) in [
        (
            &pulling,
            Start::Blocked(obstacle("ErrImagePull", "no such image")),
        ),
        (
            &creating,
            Start::Blocked(obstacle("FailedMount", "no such folder")),
        ),
        (&running, Start::Started),
    ] {
        assert_eq!(
            start(facts(Some(&job(&json!({}))), &[pod], false, warning).unwrap()),
            expected
        );
    }
    assert_eq!(
        start(facts_of(&job(&json!({})), &[&creating])),
        Start::Pending
    );
}

#[test]
fn job_without_pod_never_began() {
    let forbidden = || Some(obstacle("FailedCreate", "violates PodSecurity"));
    let condition = json!([{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded",
        "message": "too long" }]);
    for (status, expected) in [
        (json!({ "conditions": condition }), Began::Never),
        (
            json!({ "conditions": condition, "failed": 1 }),
            Began::Perhaps,
        ),
    ] {
        let Some(JobFacts::Lost { why, began }) = facts(Some(&job(&status)), &[], false, forbidden)
        else {
            panic!("it has ended")
        };
        assert_eq!(
            (why.as_str(), began),
            (
                "DeadlineExceeded: too long; FailedCreate: violates PodSecurity",
                expected
            )
        );
    }
}

#[test]
fn job_that_is_gone_ends_with_its_pod() {
    let waiting = pod(&json!({ "waiting": { "reason": "ImagePullBackOff" } }));
    assert_eq!(
        facts(None, &[&waiting], false, || None),
        Some(JobFacts::Ending)
    );
    let never = JobFacts::Lost {
        why: "its Job was deleted".to_owned(),
        began: Began::Never,
    };
    assert_eq!(facts(None, &[], true, || None), Some(never));
    assert_eq!(facts(None, &[], false, || None), None);
}
