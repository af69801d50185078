//! Rules of installers whose pods cannot start, and of nodes that were never touched.

use super::steps::{at_work, world};
use super::world::{World, lost, never_began};
use super::*;

/// Beyond all time that a Job is waited for.
const LATE: i64 = 7200;

/// A runtime whose installer on the first node cannot start.
fn blocked(nodes: usize) -> (World, String) {
    let mut world = world(&json!({}), nodes);
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    world.block(&job);
    world.reconcile("wasmedge", usize::MAX);
    (world, job)
}

fn message(world: &World) -> (Option<&str>, Option<&str>) {
    let status = world.status("wasmedge", "node-00");
    (status.reason.as_deref(), status.message.as_deref())
}

#[test]
fn node_object_says_why_installer_does_not_start_and_forgets_it_when_it_does() {
    let (mut world, job) = blocked(1);
    let said = (
        Some("NotStarted"),
        Some("the installer does not start: ErrImagePull: no such image"),
    );
    assert_eq!(message(&world), said);
    let JobFacts::Running { start, .. } = &mut world.jobs.get_mut(&job).unwrap().facts else {
        panic!("it runs")
    };
    *start = Start::Blocked(Obstacle {
        reason: "ImagePullBackOff".to_owned(),
        message: "Back-off pulling image".to_owned(),
    });
    assert!(
        plan(&world.observed("wasmedge")).actions.is_empty(),
        "the cause stands, whatever the kubelet waits for"
    );
    let JobFacts::Running { start, .. } = &mut world.jobs.get_mut(&job).unwrap().facts else {
        panic!("it runs")
    };
    *start = Start::Started;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&world), (None, None));
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn node_object_says_after_a_minute_that_installer_has_not_started_without_a_reason() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    for job in world.jobs.values_mut() {
        let JobFacts::Running { start, .. } = &mut job.facts else {
            panic!("it runs")
        };
        *start = Start::Pending;
    }
    let plan = world.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&world), (None, None));
    assert!(plan.requeue_after.unwrap().as_secs() < 60);
    world.seconds += 60;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(message(&world).0, Some("NotStarted"));
}

#[test]
fn node_whose_installer_never_started_needs_no_cleaning() {
    let (mut world, job) = blocked(1);
    world.delete("wasmedge");
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(world.ending(), std::slice::from_ref(&job));
    assert!(
        world.reconcile("wasmedge", usize::MAX).actions.is_empty(),
        "its pod has not ended"
    );
    world.end(&job, never_began());
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.states.is_empty() && world.running().is_empty());
    world.settle();
    assert!(world.runtimes.is_empty());
}

#[test]
fn node_whose_installer_started_after_all_is_cleaned() {
    for end in [Some(lost("exit code 143, Error")), None] {
        let (mut world, job) = blocked(1);
        world.delete("wasmedge");
        world.reconcile("wasmedge", usize::MAX);
        match end {
            Some(end) => world.end(&job, end),
            // Nobody saw its pod end.
            None => drop(world.jobs.remove(&job)),
        }
        world.reconcile("wasmedge", usize::MAX);
        let cleaner = world.running().remove(0);
        assert_eq!(world.jobs[&cleaner].verb, Verb::Uninstall);
        world.settle();
        assert!(world.runtimes.is_empty());
    }
}

#[test]
fn node_whose_container_failed_to_start_needs_no_cleaning() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    world.end(
        &job,
        JobFacts::Lost {
            why: "exit code 128, StartError: exec format error".to_owned(),
            began: Began::Never,
        },
    );
    world.reconcile("wasmedge", usize::MAX);
    let said = (
        Some("NotStarted"),
        Some("the installer did not start: exit code 128, StartError: exec format error"),
    );
    assert_eq!(message(&world), said);
    world.delete("wasmedge");
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.states.is_empty() && world.running().is_empty());
}

#[test]
fn job_that_cannot_start_is_replaced_when_operator_makes_installers_of_something_else() {
    let (mut world, job) = blocked(2);
    world.installer.digest = "2".to_owned();
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(world.ending(), std::slice::from_ref(&job));
    world.reconcile("wasmedge", usize::MAX);
    assert!(at_work(&world).is_empty(), "two installers on one node");
    world.end(&job, never_began());
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-00"]);
    assert_eq!(world.status("wasmedge", "node-00").attempts, 1);
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00") && world.is_labelled("wasmedge", "node-01"));
}

#[test]
fn job_that_runs_is_not_replaced() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    world.installer.digest = "2".to_owned();
    assert!(world.reconcile("wasmedge", usize::MAX).actions.is_empty());
}

#[test]
fn removing_job_that_cannot_start_says_so_and_is_replaced() {
    let mut world = world(&json!({}), 1);
    world.settle();
    world.delete("wasmedge");
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    world.block(&job);
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        message(&world),
        (
            Some("NotStarted"),
            Some("the installer does not start: ErrImagePull: no such image")
        )
    );
    world.installer.digest = "2".to_owned();
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        (world.ending(), &world.status("wasmedge", "node-00").job),
        (vec![job], &None)
    );
    world.settle();
    assert!(world.runtimes.is_empty() && world.hosts.is_empty());
}

#[test]
fn installer_that_never_starts_is_given_up_and_leaves_what_the_node_has() {
    let mut world = world(&json!({}), 1);
    world.settle();
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::Mode::InPlace;
    for _ in 0..40 {
        world.reconcile("wasmedge", usize::MAX);
        world.running().iter().for_each(|job| world.block(job));
        for job in world.ending() {
            world.end(&job, never_began());
        }
        world.seconds += LATE;
    }
    let status = world.status("wasmedge", "node-00");
    assert_eq!(
        (status.phase, status.reason.as_deref(), &status.retry_at),
        (Phase::Failed, Some("NotStarted"), &None)
    );
    assert!(
        status.installed.is_some() && world.is_labelled("wasmedge", "node-00"),
        "the older version works"
    );
    assert_eq!(
        plan(&world.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn node_of_another_architecture_is_unsupported_and_holds_no_other_up() {
    for arch in [Some(Arch::Arm64), None] {
        let mut world = world(
            &json!({ "rollout": { "canary": 1, "maxUnavailable": 1 } }),
            3,
        );
        world.nodes.get_mut("node-00").unwrap().arch = arch;
        world.settle();
        let status = world.status("wasmedge", "node-00");
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
                .all(|node| world.is_labelled("wasmedge", node))
        );
        assert!(
            !world
                .touched
                .contains(&("wasmedge".to_owned(), "node-00".to_owned()))
        );
        world.installer.architectures.push(Arch::Arm64);
        world.settle();
        assert_eq!(world.is_labelled("wasmedge", "node-00"), arch.is_some());
    }
}
