//! Rules of what goes wrong: installers that are late, told something else, or cannot be sent;
//! removals that fail; what has to be there first and is not.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::steps::{at_work, end_all, world};
use super::world::World;
use super::*;
use crate::crd::Mode;

/// The pool's nodes are those that have a label.
fn pooled(nodes: usize, rollout: &Value) -> World {
    let mut world = world(
        &json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } }, "rollout": rollout }),
        nodes,
    );
    for node in world.nodes.values_mut() {
        node.labels.insert("pool".to_owned(), "wasm".to_owned());
    }
    world
}

fn leave(world: &mut World, node: &str) {
    world.nodes.get_mut(node).unwrap().labels.remove("pool");
}

/// Beyond all time that a Job is waited for.
const LATE: i64 = 7200;

fn is_start(action: &Action) -> bool {
    matches!(action, Action::StartInstaller { .. })
}

#[test]
fn a_spec_that_changed_while_an_older_one_was_refused_is_tried() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = Mode::InPlace;
    end_all(&mut world, Outcome::Refused, Reason::Unsupported, None);
    assert_eq!(
        world.status("wasmedge", "node-00").phase,
        Phase::Unsupported
    );
    world.settle();
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Ready);
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn what_was_to_be_begun_before_the_spec_changed_is_begun_with_the_new_spec_alone() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    world.jobs.clear();
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = Mode::InPlace;
    // One plan gives the old name up, the next one begins.
    assert!(
        !world
            .reconcile("wasmedge", usize::MAX)
            .actions
            .iter()
            .any(is_start)
    );
    world.reconcile("wasmedge", usize::MAX);
    let anew = world.running().remove(0);
    assert_ne!(anew, job);
    let end = world.success(&anew);
    world.end(&anew, end);
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.running().is_empty(), "one installer is enough");
    let hash = plan(&world.observed("wasmedge")).target.hash;
    assert_eq!(
        world.status("wasmedge", "node-00").installed.as_ref(),
        Some(&hash)
    );
}

#[test]
fn an_installer_that_cannot_be_sent_is_given_up_after_its_time_and_at_last_a_person_is_asked() {
    let mut world = world(&json!({}), 2);
    world.reconcile("wasmedge", usize::MAX);
    world.jobs.clear();
    world.reconcile_without("wasmedge", is_start);
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Installing);
    for _ in 0..2 * timing::MAX_ATTEMPTS {
        world.seconds += LATE;
        world.reconcile_without("wasmedge", is_start);
    }
    let status = world.status("wasmedge", "node-00");
    assert_eq!(
        (status.phase, status.reason.as_deref(), &status.retry_at),
        (Phase::Failed, Some("Interrupted"), &None)
    );
    assert!(
        status
            .message
            .as_ref()
            .is_some_and(|message| message.contains("could not be created")),
        "{:?}",
        status.message
    );
    assert_eq!(
        plan(&world.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn an_uninstaller_that_cannot_be_sent_is_told_and_tried_again() {
    let mut world = world(&json!({}), 1);
    world.settle();
    world.delete("wasmedge");
    world.reconcile_without("wasmedge", is_start);
    world.seconds += LATE;
    world.reconcile_without("wasmedge", is_start);
    let status = world.status("wasmedge", "node-00");
    assert_eq!(
        (status.phase, status.reason.as_deref(), &status.job),
        (Phase::Removing, Some("Interrupted"), &None)
    );
    world.settle();
    assert!(world.runtimes.is_empty() && world.hosts.is_empty());
}

#[test]
fn an_installer_that_was_made_late_has_all_its_time_from_then_on() {
    let mut world = world(&json!({}), 1);
    let limit = i64::from(world.runtimes["wasmedge"].spec.rollout.node_timeout_seconds);
    world.reconcile("wasmedge", usize::MAX);
    world.jobs.clear();
    world.seconds += limit;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-00"], "there is still time");
    world.seconds += limit;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Installing);
    assert_eq!(at_work(&world), ["node-00"]);
}

#[test]
fn an_installer_that_is_late_goes_in_one_plan_and_its_removal_begins_in_a_later_one() {
    for lost in [false, true] {
        let mut world = pooled(1, &json!({}));
        world.reconcile("wasmedge", usize::MAX);
        leave(&mut world, "node-00");
        let job = world.running().remove(0);
        if lost {
            world.end(&job, world::lost("DeadlineExceeded"));
        } else {
            world.seconds += LATE;
        }
        let mut observed = world.observed("wasmedge");
        let actions = plan(&observed).actions;
        assert!(
            actions.contains(&Action::DeleteJob {
                node: Some("node-00".to_owned()),
                job
            }) && !actions.iter().any(is_start),
            "{actions:?}"
        );
        world.reconcile("wasmedge", usize::MAX);
        // Its container takes its time to end, and nobody refers to it any more.
        observed = world.observed("wasmedge");
        observed.busy.insert("node-00".to_owned());
        assert!(!plan(&observed).actions.iter().any(is_start));
        observed.busy.clear();
        assert!(plan(&observed).actions.iter().any(is_start));
        world.settle();
        assert!(world.hosts.is_empty() && world.states.is_empty());
    }
}

#[test]
fn a_proof_after_a_reboot_that_fails_on_a_preinstalled_node_takes_the_label_off() {
    for says in [true, false] {
        let mut world = world(&json!({ "containerd": { "mode": "Preinstalled" } }), 1);
        let node = world.nodes.get_mut("node-00").unwrap();
        node.distribution = Distribution::Talos;
        node.handlers = if says {
            Handlers::Listed(BTreeSet::from(["wasmedge".to_owned()]))
        } else {
            Handlers::Unknown
        };
        world.settle();
        assert!(world.is_labelled("wasmedge", "node-00"));
        world.nodes.get_mut("node-00").unwrap().boot_id.push('+');
        world.reconcile("wasmedge", usize::MAX);
        let job = world.running().remove(0);
        // The image still has the handler, and the guest does not run.
        let facts =
            JobFacts::Reported(Box::new(report(Outcome::Broken, Reason::SmokeFailed, None)));
        world.jobs.get_mut(&job).unwrap().facts = facts;
        for _ in 0..3 {
            world.reconcile("wasmedge", usize::MAX);
            let status = world.status("wasmedge", "node-00");
            assert_eq!((status.phase, &status.installed), (Phase::Failed, &None));
            assert!(
                !world.is_labelled("wasmedge", "node-00"),
                "the handler is listed: {says}"
            );
        }
    }
}

#[test]
fn a_removal_that_does_harm_stops_at_the_threshold_and_goes_on_when_it_is_repaired() {
    for (threshold, touched) in [(1, 1), (2, 2)] {
        let mut world = pooled(
            4,
            &json!({ "failureThreshold": threshold, "maxUnavailable": 1 }),
        );
        world.settle();
        world.delete("wasmedge");
        world.reconcile("wasmedge", usize::MAX);
        for _ in 0..12 {
            end_all(&mut world, Outcome::Broken, Reason::ContainerdRestart, None);
            world.seconds += 301;
            world.reconcile("wasmedge", usize::MAX);
        }
        let removing = world
            .states
            .values()
            .filter(|state| state.status.phase == Phase::Removing)
            .count();
        assert_eq!(removing, touched, "with a threshold of {threshold}");
        assert!(world.is_labelled("wasmedge", "node-03"));
        world.settle();
        assert!(world.runtimes.is_empty() && world.states.is_empty());
    }
}

#[test]
fn one_node_that_cannot_be_cleaned_or_is_in_use_keeps_no_other_from_it_below_the_threshold() {
    for (threshold, reason, outcome) in [
        (2, Reason::HostFiles, Outcome::Refused),
        (1, Reason::InUse, Outcome::Refused),
    ] {
        let mut world = pooled(
            3,
            &json!({ "failureThreshold": threshold, "maxUnavailable": 1 }),
        );
        world.settle();
        world.delete("wasmedge");
        for _ in 0..20 {
            world.reconcile("wasmedge", usize::MAX);
            for job in world.running() {
                let is_stuck = world.jobs[&job].node == "node-00";
                let end = if is_stuck {
                    JobFacts::Reported(Box::new(report(outcome, reason, Some("1"))))
                } else {
                    world.success(&job)
                };
                world.end(&job, end);
            }
            world.seconds += 301;
        }
        let left: Vec<&str> = world.states.keys().map(|(_, node)| node.as_str()).collect();
        assert_eq!(left, ["node-00"], "{reason:?}");
    }
}

#[test]
fn without_what_has_to_be_there_first_nothing_is_begun_and_what_takes_back_hears_or_cleans_goes_on()
{
    let forbidden: [fn(&Action) -> bool; 2] = [
        |action| matches!(action, Action::AddFinalizer),
        |action| matches!(action, Action::ApplyRuntimeClass),
    ];
    for (number, forbidden) in forbidden.into_iter().enumerate() {
        let mut world = pooled(5, &json!({ "maxUnavailable": 4, "canary": 0 }));
        let slots = |world: &mut World, slots| {
            world
                .runtimes
                .get_mut("wasmedge")
                .unwrap()
                .spec
                .rollout
                .max_unavailable = IntOrString::Int(slots);
        };
        leave(&mut world, "node-04");
        world.settle();
        // A version that is being installed on one node, a node that leaves, one that loses its
        // handler, and one that comes.
        slots(&mut world, 1);
        world
            .runtimes
            .get_mut("wasmedge")
            .unwrap()
            .spec
            .containerd
            .mode = Mode::InPlace;
        world.reconcile("wasmedge", usize::MAX);
        assert_eq!(at_work(&world), ["node-00"]);
        slots(&mut world, 4);
        leave(&mut world, "node-01");
        world.nodes.get_mut("node-02").unwrap().handlers = Handlers::Listed(BTreeSet::new());
        world
            .nodes
            .get_mut("node-04")
            .unwrap()
            .labels
            .insert("pool".to_owned(), "wasm".to_owned());
        world.seconds += 60;
        if number == 0 {
            world
                .runtimes
                .get_mut("wasmedge")
                .unwrap()
                .finalizers_mut()
                .clear();
        } else {
            world.classes.clear();
        }
        for job in world.running() {
            let end = world.success(&job);
            world.end(&job, end);
        }
        let plan = world.reconcile_without("wasmedge", forbidden);
        assert_eq!(plan.rollout, Rollout::Preparing);
        let begun = |action: &Action| match action {
            Action::Claim { .. } | Action::Label { .. } | Action::RemoveTaints { .. } => true,
            Action::StartInstaller { request, .. } => request.verb == Verb::Install,
            _ => false,
        };
        assert!(!plan.actions.iter().any(begun), "{:?}", plan.actions);
        assert_eq!(
            world.status("wasmedge", "node-00").phase,
            Phase::Verifying,
            "the report was heard"
        );
        assert!(
            !world.is_labelled("wasmedge", "node-02"),
            "its handler is gone"
        );
        assert_eq!(
            (at_work(&world), world.is_labelled("wasmedge", "node-01")),
            (vec!["node-01".to_owned()], false)
        );
        world.settle();
        assert!(
            ["node-00", "node-02", "node-03", "node-04"]
                .iter()
                .all(|node| world.is_labelled("wasmedge", node))
        );
        assert!(
            !world
                .hosts
                .contains_key(&("wasmedge".to_owned(), "node-01".to_owned()))
        );
    }
}

#[test]
fn a_class_that_cannot_be_taken_away_keeps_no_node_from_being_cleaned() {
    let mut world = world(&json!({}), 2);
    world.settle();
    world.delete("wasmedge");
    let is_removal = |action: &Action| {
        matches!(
            action,
            Action::RemoveRuntimeClass | Action::ReleaseFinalizer
        )
    };
    for _ in 0..10 {
        world.reconcile_without("wasmedge", is_removal);
        for job in world.running() {
            let end = world.success(&job);
            world.end(&job, end);
        }
    }
    assert!(
        world.hosts.is_empty()
            && world.states.is_empty()
            && world.runtimes.contains_key("wasmedge")
    );
    world.settle();
    assert!(world.runtimes.is_empty() && world.classes.is_empty());
}
