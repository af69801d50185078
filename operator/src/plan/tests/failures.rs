//! Tests of failures: installers that are late, outdated or cannot be created, removals that fail,
//! and a missing finalizer or RuntimeClass.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::model::Model;
use super::steps::{end_all, model, nodes_with_installer};
use super::*;
use crate::crd::ConfigMode;

/// Returns a model with a runtime that selects nodes by a label.
fn pooled(nodes: usize, rollout: &Value) -> Model {
    let mut model = model(
        &json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } }, "rollout": rollout }),
        nodes,
    );
    for node in model.nodes.values_mut() {
        node.labels.insert("pool".to_owned(), "wasm".to_owned());
    }
    model
}

fn leave(model: &mut Model, node: &str) {
    model.nodes.get_mut(node).unwrap().labels.remove("pool");
}

/// Seconds after which no Job is waited for any more.
const AFTER_TIMEOUT: i64 = 7200;

fn is_start(action: &Action) -> bool {
    matches!(action, Action::StartInstaller { .. })
}

#[test]
fn changed_spec_is_tried_after_older_one_was_refused() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = ConfigMode::InPlace;
    end_all(&mut model, Outcome::Refused, Reason::Unsupported, None);
    assert_eq!(
        model.status("wasmedge", "node-00").phase,
        Phase::Unsupported
    );
    model.settle();
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Ready);
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn job_that_was_not_created_before_spec_change_is_created_with_new_spec_only() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    model.jobs.clear();
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = ConfigMode::InPlace;
    // One plan abandons the old name, the next one starts the installer.
    assert!(
        !model
            .reconcile("wasmedge", usize::MAX)
            .actions
            .iter()
            .any(is_start)
    );
    model.reconcile("wasmedge", usize::MAX);
    let second = model.running().remove(0);
    assert_ne!(second, job);
    let end = model.success(&second);
    model.end(&second, end);
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.running().is_empty(), "one installer is enough");
    let hash = plan(&model.observed("wasmedge")).target.hash;
    assert_eq!(
        model.status("wasmedge", "node-00").installed.as_ref(),
        Some(&hash)
    );
}

#[test]
fn job_that_cannot_be_created_fails_after_timeout_up_to_maximum_attempts() {
    let mut model = model(&json!({}), 2);
    model.reconcile("wasmedge", usize::MAX);
    model.jobs.clear();
    model.reconcile_without("wasmedge", is_start);
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Installing);
    for _ in 0..2 * timing::MAX_ATTEMPTS {
        model.seconds += AFTER_TIMEOUT;
        model.reconcile_without("wasmedge", is_start);
    }
    let status = model.status("wasmedge", "node-00");
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
        plan(&model.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn removal_job_that_cannot_be_created_is_reported_and_retried() {
    let mut model = model(&json!({}), 1);
    model.settle();
    model.delete("wasmedge");
    model.reconcile_without("wasmedge", is_start);
    model.seconds += AFTER_TIMEOUT;
    model.reconcile_without("wasmedge", is_start);
    let status = model.status("wasmedge", "node-00");
    assert_eq!(
        (status.phase, status.reason.as_deref(), &status.job),
        (Phase::Removing, Some("Interrupted"), &None)
    );
    model.settle();
    assert!(model.runtimes.is_empty() && model.installed.is_empty());
}

#[test]
fn timeout_of_late_created_job_starts_at_its_creation() {
    let mut model = model(&json!({}), 1);
    let limit = i64::from(model.runtimes["wasmedge"].spec.rollout.node_timeout_seconds);
    model.reconcile("wasmedge", usize::MAX);
    model.jobs.clear();
    model.seconds += limit;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        nodes_with_installer(&model),
        ["node-00"],
        "there is still time"
    );
    model.seconds += limit;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Installing);
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
}

#[test]
fn late_installer_is_abandoned_before_its_node_is_cleaned() {
    for lost in [false, true] {
        let mut model = pooled(1, &json!({}));
        model.reconcile("wasmedge", usize::MAX);
        leave(&mut model, "node-00");
        let job = model.running().remove(0);
        if lost {
            model.end(&job, model::lost("DeadlineExceeded"));
        } else {
            model.seconds += AFTER_TIMEOUT;
        }
        let mut observed = model.observed("wasmedge");
        let actions = plan(&observed).actions;
        assert!(
            actions.contains(&Action::DeleteJob {
                node: Some("node-00".to_owned()),
                job
            }) && !actions.iter().any(is_start),
            "{actions:?}"
        );
        model.reconcile("wasmedge", usize::MAX);
        // Its container takes time to end, and no node refers to it any more.
        observed = model.observed("wasmedge");
        observed.busy.insert("node-00".to_owned());
        assert!(!plan(&observed).actions.iter().any(is_start));
        observed.busy.clear();
        assert!(plan(&observed).actions.iter().any(is_start));
        model.settle();
        assert!(model.installed.is_empty() && model.states.is_empty());
    }
}

#[test]
fn failed_verification_after_reboot_unlabels_preinstalled_node() {
    for is_listed in [true, false] {
        let mut model = model(&json!({ "containerd": { "mode": "Preinstalled" } }), 1);
        let node = model.nodes.get_mut("node-00").unwrap();
        node.distribution = Distribution::Talos;
        node.handlers = if is_listed {
            Handlers::Listed(BTreeSet::from(["wasmedge".to_owned()]))
        } else {
            Handlers::Unknown
        };
        model.settle();
        assert!(model.is_labelled("wasmedge", "node-00"));
        model.nodes.get_mut("node-00").unwrap().boot_id.push('+');
        model.reconcile("wasmedge", usize::MAX);
        let job = model.running().remove(0);
        // The image still has the handler, but the guest does not run.
        let facts =
            JobFacts::Reported(Box::new(report(Outcome::Broken, Reason::SmokeFailed, None)));
        model.jobs.get_mut(&job).unwrap().facts = facts;
        for _ in 0..3 {
            model.reconcile("wasmedge", usize::MAX);
            let status = model.status("wasmedge", "node-00");
            assert_eq!((status.phase, &status.installed), (Phase::Failed, &None));
            assert!(
                !model.is_labelled("wasmedge", "node-00"),
                "the handler is listed: {is_listed}"
            );
        }
    }
}

#[test]
fn failing_removal_stops_at_threshold_and_continues_after_repair() {
    for (threshold, touched) in [(1, 1), (2, 2)] {
        let mut model = pooled(
            4,
            &json!({ "failureThreshold": threshold, "maxUnavailable": 1 }),
        );
        model.settle();
        model.delete("wasmedge");
        model.reconcile("wasmedge", usize::MAX);
        for _ in 0..12 {
            end_all(&mut model, Outcome::Broken, Reason::ContainerdRestart, None);
            model.seconds += 301;
            model.reconcile("wasmedge", usize::MAX);
        }
        let removing = model
            .states
            .values()
            .filter(|state| state.status.phase == Phase::Removing)
            .count();
        assert_eq!(removing, touched, "with a threshold of {threshold}");
        assert!(model.is_labelled("wasmedge", "node-03"));
        model.settle();
        assert!(model.runtimes.is_empty() && model.states.is_empty());
    }
}

#[test]
fn removal_continues_below_threshold_past_failed_or_used_node() {
    for (threshold, reason, outcome) in [
        (2, Reason::HostFiles, Outcome::Refused),
        (1, Reason::InUse, Outcome::Refused),
    ] {
        let mut model = pooled(
            3,
            &json!({ "failureThreshold": threshold, "maxUnavailable": 1 }),
        );
        model.settle();
        model.delete("wasmedge");
        for _ in 0..20 {
            model.reconcile("wasmedge", usize::MAX);
            for job in model.running() {
                let is_stuck = model.jobs[&job].node == "node-00";
                let end = if is_stuck {
                    JobFacts::Reported(Box::new(report(outcome, reason, Some("1"))))
                } else {
                    model.success(&job)
                };
                model.end(&job, end);
            }
            model.seconds += 301;
        }
        let left: Vec<&str> = model.states.keys().map(|(_, node)| node.as_str()).collect();
        assert_eq!(left, ["node-00"], "{reason:?}");
    }
}

#[test]
fn without_preparation_nothing_starts_but_results_and_removals_proceed() {
    let forbidden: [fn(&Action) -> bool; 2] = [
        |action| matches!(action, Action::AddFinalizer),
        |action| matches!(action, Action::ApplyRuntimeClass),
    ];
    for (number, forbidden) in forbidden.into_iter().enumerate() {
        let mut model = pooled(5, &json!({ "maxUnavailable": 4, "canary": 0 }));
        let slots = |model: &mut Model, slots| {
            model
                .runtimes
                .get_mut("wasmedge")
                .unwrap()
                .spec
                .rollout
                .max_unavailable = IntOrString::Int(slots);
        };
        leave(&mut model, "node-04");
        model.settle();
        // One node with a running installer, one that leaves, one that loses its handler, and a new
        // one.
        slots(&mut model, 1);
        model
            .runtimes
            .get_mut("wasmedge")
            .unwrap()
            .spec
            .containerd
            .mode = ConfigMode::InPlace;
        model.reconcile("wasmedge", usize::MAX);
        assert_eq!(nodes_with_installer(&model), ["node-00"]);
        slots(&mut model, 4);
        leave(&mut model, "node-01");
        model.nodes.get_mut("node-02").unwrap().handlers = Handlers::Listed(BTreeSet::new());
        model
            .nodes
            .get_mut("node-04")
            .unwrap()
            .labels
            .insert("pool".to_owned(), "wasm".to_owned());
        model.seconds += 60;
        if number == 0 {
            model
                .runtimes
                .get_mut("wasmedge")
                .unwrap()
                .finalizers_mut()
                .clear();
        } else {
            model.classes.clear();
        }
        for job in model.running() {
            let end = model.success(&job);
            model.end(&job, end);
        }
        let plan = model.reconcile_without("wasmedge", forbidden);
        assert_eq!(plan.rollout, Rollout::Preparing);
        let needs_preparation = |action: &Action| match action {
            Action::Claim { .. } | Action::Label { .. } | Action::RemoveTaints { .. } => true,
            Action::StartInstaller { request, .. } => request.verb == Verb::Install,
            _ => false,
        };
        assert!(
            !plan.actions.iter().any(needs_preparation),
            "{:?}",
            plan.actions
        );
        assert_eq!(
            model.status("wasmedge", "node-00").phase,
            Phase::Verifying,
            "the report was recorded"
        );
        assert!(
            !model.is_labelled("wasmedge", "node-02"),
            "its handler is gone"
        );
        assert_eq!(
            (
                nodes_with_installer(&model),
                model.is_labelled("wasmedge", "node-01")
            ),
            (vec!["node-01".to_owned()], false)
        );
        model.settle();
        assert!(
            ["node-00", "node-02", "node-03", "node-04"]
                .iter()
                .all(|node| model.is_labelled("wasmedge", node))
        );
        assert!(
            !model
                .installed
                .contains_key(&("wasmedge".to_owned(), "node-01".to_owned()))
        );
    }
}

#[test]
fn nodes_are_cleaned_although_runtime_class_cannot_be_deleted() {
    let mut model = model(&json!({}), 2);
    model.settle();
    model.delete("wasmedge");
    let is_removal = |action: &Action| {
        matches!(
            action,
            Action::RemoveRuntimeClass | Action::ReleaseFinalizer
        )
    };
    for _ in 0..10 {
        model.reconcile_without("wasmedge", is_removal);
        for job in model.running() {
            let end = model.success(&job);
            model.end(&job, end);
        }
    }
    assert!(
        model.installed.is_empty()
            && model.states.is_empty()
            && model.runtimes.contains_key("wasmedge")
    );
    model.settle();
    assert!(model.runtimes.is_empty() && model.classes.is_empty());
}
