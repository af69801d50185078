//! Tests of installers whose pods cannot start, and of nodes that were never touched.

use super::model::{Model, lost, never_began};
use super::steps::{model, nodes_with_installer};
use super::*;

/// Seconds after which no Job is waited for any more.
const AFTER_TIMEOUT: i64 = 7200;

/// Returns a model in which the installer on the first node cannot start.
fn blocked(nodes: usize) -> (Model, String) {
    let mut model = model(&json!({}), nodes);
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    model.block(&job);
    model.reconcile("wasmedge", usize::MAX);
    (model, job)
}

fn message(model: &Model) -> (Option<&str>, Option<&str>) {
    let status = model.status("wasmedge", "node-00");
    (status.reason.as_deref(), status.message.as_deref())
}

#[test]
fn node_status_shows_why_installer_does_not_start_until_it_starts() {
    let (mut model, job) = blocked(1);
    let expected = (
        Some("NotStarted"),
        Some("the installer does not start: ErrImagePull: no such image"),
    );
    assert_eq!(message(&model), expected);
    let JobFacts::Running { start, .. } = &mut model.jobs.get_mut(&job).unwrap().facts else {
        panic!("it runs")
    };
    *start = Start::Blocked(Obstacle {
        reason: "ImagePullBackOff".to_owned(),
        message: "Back-off pulling image".to_owned(),
    });
    assert!(
        plan(&model.observed("wasmedge")).actions.is_empty(),
        "the cause stays while the kubelet backs off"
    );
    let JobFacts::Running { start, .. } = &mut model.jobs.get_mut(&job).unwrap().facts else {
        panic!("it runs")
    };
    *start = Start::Started;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&model), (None, None));
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn node_status_shows_after_a_minute_that_installer_has_not_started() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    for job in model.jobs.values_mut() {
        let JobFacts::Running { start, .. } = &mut job.facts else {
            panic!("it runs")
        };
        *start = Start::Pending;
    }
    let plan = model.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&model), (None, None));
    assert!(plan.requeue_after.unwrap().as_secs() < 60);
    model.seconds += 60;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&model).0, Some("NotStarted"));
}

#[test]
fn node_whose_installer_never_started_needs_no_cleaning() {
    let (mut model, job) = blocked(1);
    model.delete("wasmedge");
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(model.ending(), std::slice::from_ref(&job));
    assert!(
        model.reconcile("wasmedge", usize::MAX).actions.is_empty(),
        "its pod has not ended"
    );
    model.end(&job, never_began());
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.states.is_empty() && model.running().is_empty());
    model.settle();
    assert!(model.runtimes.is_empty());
}

#[test]
fn node_whose_installer_started_after_all_is_cleaned() {
    for end in [Some(lost("exit code 143, Error")), None] {
        let (mut model, job) = blocked(1);
        model.delete("wasmedge");
        model.reconcile("wasmedge", usize::MAX);
        match end {
            Some(end) => model.end(&job, end),
            // The end of its pod was not observed.
            None => drop(model.jobs.remove(&job)),
        }
        model.reconcile("wasmedge", usize::MAX);
        let cleaner = model.running().remove(0);
        assert_eq!(model.jobs[&cleaner].verb, Verb::Uninstall);
        model.settle();
        assert!(model.runtimes.is_empty());
    }
}

#[test]
fn node_whose_container_failed_to_start_needs_no_cleaning() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    model.end(
        &job,
        JobFacts::Lost {
            why: "exit code 128, StartError: exec format error".to_owned(),
            began: Began::Never,
        },
    );
    model.reconcile("wasmedge", usize::MAX);
    let expected = (
        Some("NotStarted"),
        Some("the installer did not start: exit code 128, StartError: exec format error"),
    );
    assert_eq!(message(&model), expected);
    model.delete("wasmedge");
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.states.is_empty() && model.running().is_empty());
}

#[test]
fn job_that_cannot_start_is_replaced_when_installer_template_changes() {
    let (mut model, job) = blocked(2);
    model.installer.digest = "2".to_owned();
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(model.ending(), std::slice::from_ref(&job));
    model.reconcile("wasmedge", usize::MAX);
    assert!(
        nodes_with_installer(&model).is_empty(),
        "two installers on one node"
    );
    model.end(&job, never_began());
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
    assert_eq!(model.status("wasmedge", "node-00").attempts, 1);
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00") && model.is_labelled("wasmedge", "node-01"));
}

#[test]
fn job_that_runs_is_not_replaced() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    model.installer.digest = "2".to_owned();
    assert!(model.reconcile("wasmedge", usize::MAX).actions.is_empty());
}

#[test]
fn removal_job_that_cannot_start_is_reported_and_replaced() {
    let mut model = model(&json!({}), 1);
    model.settle();
    model.delete("wasmedge");
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    model.block(&job);
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        message(&model),
        (
            Some("NotStarted"),
            Some("the installer does not start: ErrImagePull: no such image")
        )
    );
    model.installer.digest = "2".to_owned();
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        (model.ending(), &model.status("wasmedge", "node-00").job),
        (vec![job], &None)
    );
    model.settle();
    assert!(model.runtimes.is_empty() && model.installed.is_empty());
}

#[test]
fn installer_that_never_starts_fails_and_keeps_the_older_version() {
    let mut model = model(&json!({}), 1);
    model.settle();
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::ConfigMode::InPlace;
    for _ in 0..40 {
        model.reconcile("wasmedge", usize::MAX);
        model.running().iter().for_each(|job| model.block(job));
        for job in model.ending() {
            model.end(&job, never_began());
        }
        model.seconds += AFTER_TIMEOUT;
    }
    let status = model.status("wasmedge", "node-00");
    assert_eq!(
        (status.phase, status.reason.as_deref(), &status.retry_at),
        (Phase::Failed, Some("NotStarted"), &None)
    );
    assert!(
        status.installed.is_some() && model.is_labelled("wasmedge", "node-00"),
        "the older version works"
    );
    assert_eq!(
        plan(&model.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn node_of_another_architecture_is_unsupported_and_blocks_no_other() {
    for arch in [Some(Arch::Arm64), None] {
        let mut model = model(
            &json!({ "rollout": { "canary": 1, "maxUnavailable": 1 } }),
            3,
        );
        model.nodes.get_mut("node-00").unwrap().arch = arch;
        model.settle();
        let status = model.status("wasmedge", "node-00");
        assert_eq!(
            (status.phase, status.reason.as_deref()),
            (Phase::Unsupported, Some("Unsupported"))
        );
        assert!(
            status
                .message
                .as_ref()
                .unwrap()
                .contains("the installer's image is for amd64"),
            "{:?}",
            status.message
        );
        assert!(
            ["node-01", "node-02"]
                .iter()
                .all(|node| model.is_labelled("wasmedge", node))
        );
        assert!(
            !model
                .touched
                .contains(&("wasmedge".to_owned(), "node-00".to_owned()))
        );
        model.installer.architectures.push(Arch::Arm64);
        model.settle();
        assert_eq!(model.is_labelled("wasmedge", "node-00"), arch.is_some());
    }
}
