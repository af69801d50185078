//! Tests of single nodes and of the order of a rollout.

use super::model::Model;
use super::*;

pub(super) fn model(spec: &Value, nodes: usize) -> Model {
    Model::new(vec![runtime("wasmedge", spec)], nodes)
}

/// Returns the nodes on which installers run.
pub(super) fn nodes_with_installer(model: &Model) -> Vec<String> {
    let nodes: BTreeSet<String> = model
        .running()
        .iter()
        .map(|job| model.jobs[job].node.clone())
        .collect();
    nodes.into_iter().collect()
}

/// Ends one installer with this report, and plans.
pub(super) fn end_all(model: &mut Model, outcome: Outcome, reason: Reason, kept: Option<&str>) {
    for job in model.running() {
        model.end(
            &job,
            JobFacts::Reported(Box::new(report(outcome, reason, kept))),
        );
    }
    model.reconcile("wasmedge", usize::MAX);
}

#[test]
fn runtime_is_installed_on_every_selected_node_and_then_plan_is_empty() {
    let mut model = model(&json!({}), 3);
    model.settle();
    for node in model.nodes.keys() {
        assert_eq!(model.status("wasmedge", node).phase, Phase::Ready);
        assert!(model.is_labelled("wasmedge", node));
    }
    assert!(plan(&model.observed("wasmedge")).actions.is_empty());
    assert_eq!(plan(&model.observed("wasmedge")).rollout, Rollout::Settled);
}

#[test]
fn empty_selector_excludes_control_plane_nodes() {
    for (selector, expected) in [
        (json!({}), 1),
        (json!({ "matchLabels": { "pool": "wasm" } }), 1),
        (json!({ "matchLabels": { "pool": "x" } }), 0),
    ] {
        let mut model = model(&json!({ "nodeSelector": selector }), 2);
        model
            .nodes
            .get_mut("node-00")
            .unwrap()
            .labels
            .insert(names::CONTROL_PLANE_LABEL.to_owned(), String::new());
        model
            .nodes
            .get_mut("node-01")
            .unwrap()
            .labels
            .insert("pool".to_owned(), "wasm".to_owned());
        assert_eq!(
            plan(&model.observed("wasmedge")).desired.len(),
            expected,
            "{selector}"
        );
    }
}

#[test]
fn canary_is_installed_alone_and_then_the_budget_applies() {
    let mut model = model(
        &json!({ "rollout": { "maxUnavailable": 3, "canary": 1 } }),
        6,
    );
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
    assert_eq!(plan(&model.observed("wasmedge")).rollout, Rollout::Canary);
    end_all(&mut model, Outcome::Installed, Reason::Done, Some("1"));
    assert_eq!(
        nodes_with_installer(&model),
        ["node-01", "node-02", "node-03"]
    );
}

#[test]
fn rollout_stops_at_failure_threshold_and_restarts_with_new_spec() {
    let mut model = model(&json!({ "rollout": { "maxUnavailable": 1 } }), 3);
    model.reconcile("wasmedge", usize::MAX);
    end_all(&mut model, Outcome::RolledBack, Reason::SmokeFailed, None);
    assert_eq!(
        plan(&model.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
    assert!(nodes_with_installer(&model).is_empty());
    assert!(!model.is_labelled("wasmedge", "node-00"));
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::ConfigMode::InPlace;
    model.settle();
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Ready);
}

#[test]
fn retry_annotation_requests_one_attempt_per_value() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    end_all(&mut model, Outcome::RolledBack, Reason::HostFiles, None);
    let annotations = BTreeMap::from([(names::RETRY_ANNOTATION.to_owned(), "1".to_owned())]);
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .meta_mut()
        .annotations = Some(annotations);
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
    end_all(&mut model, Outcome::RolledBack, Reason::HostFiles, None);
    assert!(nodes_with_installer(&model).is_empty());
}

#[test]
fn transient_failure_is_retried_with_backoff_up_to_a_maximum() {
    let mut model = model(&json!({}), 2);
    let mut waits = Vec::new();
    model.reconcile("wasmedge", usize::MAX);
    for attempt in 1..=timing::MAX_ATTEMPTS {
        assert_eq!(model.status("wasmedge", "node-00").attempts, attempt);
        end_all(&mut model, Outcome::Refused, Reason::Download, None);
        let Some(wait) = plan(&model.observed("wasmedge")).requeue_after else {
            break;
        };
        assert!(
            nodes_with_installer(&model).is_empty(),
            "the node with the installer has the only slot"
        );
        waits.push(wait.as_secs());
        model.seconds += i64::try_from(wait.as_secs()).unwrap() + 1;
        model.reconcile("wasmedge", usize::MAX);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160]);
    assert_eq!(
        plan(&model.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn installer_without_report_is_retried() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    model.end(&job, model::lost("exit code 255"));
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        model.status("wasmedge", "node-00").reason.as_deref(),
        Some("Interrupted")
    );
    model.settle();
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Ready);
}

#[test]
fn node_keeps_label_of_older_version_when_upgrade_fails() {
    let mut model = model(&json!({}), 1);
    model.settle();
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::ConfigMode::InPlace;
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.is_labelled("wasmedge", "node-00"));
    end_all(
        &mut model,
        Outcome::RolledBack,
        Reason::SmokeFailed,
        Some("1"),
    );
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Failed);
    assert!(model.is_labelled("wasmedge", "node-00"));
    // The list may be older than the rollback; after a delay it counts, until it changes.
    let listed = model.nodes["node-00"].handlers.clone();
    model.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.is_labelled("wasmedge", "node-00"));
    model.seconds += 31;
    model.reconcile("wasmedge", usize::MAX);
    assert!(!model.is_labelled("wasmedge", "node-00"));
    model.nodes.get_mut("node-00").unwrap().handlers = listed;
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.is_labelled("wasmedge", "node-00"));
    // A node that could not be rolled back accepts no pods.
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::ConfigMode::DropIn;
    model.reconcile("wasmedge", usize::MAX);
    end_all(&mut model, Outcome::Broken, Reason::ContainerdRestart, None);
    assert!(!model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn changed_runtime_option_is_rolled_out_like_a_new_version() {
    let target = |spec: &Value| plan(&model(spec, 1).observed("wasmedge")).target;
    let plain = target(&json!({}));
    let mut digests = BTreeSet::from([plain.hash.clone()]);
    for choice in [
        json!({ "runtime": { "grouping": "Pod" } }),
        json!({ "runtime": { "logLevel": "Debug" } }),
        json!({ "runtime": { "maxContainers": 250 } }),
        json!({ "runtime": { "engine": "Wasmtime" } }),
        json!({ "runtime": { "compileWait": "0" } }),
        json!({ "runtime": { "locked": ["engine"] } }),
        json!({ "containerd": { "sandboxer": "Shim" } }),
    ] {
        let chosen = target(&choice);
        assert!(
            digests.insert(chosen.hash.clone()),
            "{choice} is not a new target"
        );
        let request = chosen.install(&node(&[])).unwrap();
        assert_eq!(
            request.settings,
            runtime("wasmedge", &choice).spec.settings()
        );
    }

    let mut model = model(&json!({}), 2);
    model.settle();
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .runtime
        .log_level = runtime_options::LogLevel::Debug;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
    assert!(
        model.is_labelled("wasmedge", "node-00") && model.is_labelled("wasmedge", "node-01"),
        "both accept pods"
    );
    model.settle();
    assert!(
        model
            .installed
            .values()
            .all(|host| *host == target(&json!({ "runtime": { "logLevel": "Debug" } })).hash)
    );
}

#[test]
fn new_operator_version_starts_no_installer_with_default_options() {
    // The digest of a version without these options.
    let expected = "651b2119d74dbafd";
    for spec in [
        json!({}),
        json!({ "runtime": { "grouping": "Node", "logLevel": "Info", "engine": "Auto",
            "compileWait": "10000ms", "locked": [] },
            "containerd": { "sandboxer": "PodSandbox" } }),
    ] {
        assert_eq!(
            plan(&model(&spec, 1).observed("wasmedge")).target.hash,
            expected
        );
    }
}

#[test]
fn node_is_labelled_after_it_lists_the_handler() {
    let mut model = model(&json!({}), 1);
    model.reconcile("wasmedge", usize::MAX);
    let job = model.running().remove(0);
    let end = model.success(&job);
    model.end(&job, end);
    model.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(model.status("wasmedge", "node-00").phase, Phase::Verifying);
    assert!(!model.is_labelled("wasmedge", "node-00"));
    model.seconds += i64::from(model.runtimes["wasmedge"].spec.rollout.node_timeout_seconds) + 1;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        model.status("wasmedge", "node-00").reason.as_deref(),
        Some("HandlerMissing")
    );
}

#[test]
fn node_without_handler_list_is_labelled_after_its_installer_succeeded() {
    let mut model = model(&json!({}), 1);
    model.nodes.get_mut("node-00").unwrap().handlers = Handlers::Unknown;
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn node_that_loses_its_handler_is_unlabelled_and_reinstalled() {
    let mut model = model(&json!({}), 1);
    model.settle();
    model.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    model.reconcile("wasmedge", usize::MAX);
    assert!(
        model.is_labelled("wasmedge", "node-00"),
        "the list may be older than the verification by the installer"
    );
    model.seconds += 31;
    model.reconcile("wasmedge", usize::MAX);
    assert!(!model.is_labelled("wasmedge", "node-00"));
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn node_is_verified_again_after_reboot_and_lost_label_is_restored() {
    let mut model = model(&json!({}), 1);
    model.settle();
    let node = model.nodes.get_mut("node-00").unwrap();
    node.boot_id = "another".to_owned();
    node.labels.clear();
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.is_labelled("wasmedge", "node-00"));
    assert_eq!(nodes_with_installer(&model), ["node-00"]);
    model.settle();
    assert_eq!(
        model.status("wasmedge", "node-00").boot_id.as_deref(),
        Some("another")
    );
}

#[test]
fn startup_taints_are_removed_when_node_is_labelled() {
    let mut model = model(
        &json!({ "startupTaints": [{ "key": "wasm/starting", "effect": "NoSchedule" }] }),
        1,
    );
    let taint = |key: &str| (key.to_owned(), "NoSchedule".to_owned());
    model.nodes.get_mut("node-00").unwrap().taints = vec![taint("wasm/starting"), taint("gpu")];
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(model.nodes["node-00"].taints.len(), 2);
    model.settle();
    assert_eq!(model.nodes["node-00"].taints, [taint("gpu")]);
}

#[test]
fn unsupported_node_gets_status_without_an_installer() {
    let mut model = model(&json!({}), 2);
    model.nodes.get_mut("node-00").unwrap().distribution = Distribution::Bottlerocket;
    model.settle();
    assert_eq!(
        model.status("wasmedge", "node-00").phase,
        Phase::Unsupported
    );
    assert!(
        !model
            .touched
            .contains(&("wasmedge".to_owned(), "node-00".to_owned()))
    );
    assert!(model.is_labelled("wasmedge", "node-01"));
}

#[test]
fn node_that_is_not_ready_gets_no_installer_and_deleted_node_is_forgotten() {
    let mut model = model(&json!({}), 2);
    model.nodes.get_mut("node-00").unwrap().readiness = Readiness::NotReady;
    model.reconcile("wasmedge", usize::MAX);
    assert_eq!(nodes_with_installer(&model), ["node-01"]);
    model.nodes.remove("node-01");
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.states.is_empty() && model.jobs.is_empty());
}

#[test]
fn later_node_of_same_name_starts_without_status() {
    let mut model = model(&json!({}), 1);
    model.settle();
    *model.nodes.get_mut("node-00").unwrap() = NodeFacts {
        uid: "later".to_owned(),
        ..node(&["runc"])
    };
    model.settle();
    assert_eq!(model.states.values().next().unwrap().node_uid, "later");
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn paused_rollout_starts_nothing_and_completes_what_was_started() {
    let mut model = model(&json!({}), 2);
    model.reconcile("wasmedge", usize::MAX);
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .rollout
        .paused = true;
    model.settle();
    assert_eq!(plan(&model.observed("wasmedge")).rollout, Rollout::Paused);
    assert!(model.is_labelled("wasmedge", "node-00") && !model.is_labelled("wasmedge", "node-01"));
}

#[test]
fn foreign_runtime_class_keeps_nodes_untouched_until_adoption_is_allowed() {
    let mut model = model(&json!({}), 1);
    let foreign: RuntimeClass = serde_json::from_value(
        json!({ "metadata": { "name": "wasmedge" }, "handler": "wasmedge" }),
    )
    .unwrap();
    model.classes.insert("wasmedge".to_owned(), foreign);
    model.settle();
    assert_eq!(plan(&model.observed("wasmedge")).rollout, Rollout::Blocked);
    assert!(model.touched.is_empty());
    model
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .runtime_class
        .adopt_existing = true;
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn older_of_two_runtimes_with_one_handler_keeps_it() {
    let mut younger = runtime("b", &json!({ "runtimeClass": { "name": "other" } }));
    younger.meta_mut().creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    let mut model = Model::new(vec![younger, runtime("wasmedge", &json!({}))], 1);
    model.settle();
    assert_eq!(plan(&model.observed("b")).class, ClassVerdict::NameTaken);
    assert!(model.is_labelled("wasmedge", "node-00") && !model.is_labelled("b", "node-00"));
}

#[test]
fn deleted_runtime_is_released_after_every_node_is_clean() {
    let mut model = model(&json!({ "rollout": { "maxUnavailable": "100%" } }), 3);
    model.settle();
    model.delete("wasmedge");
    model.reconcile("wasmedge", usize::MAX);
    assert!(model.classes.is_empty());
    assert_eq!(nodes_with_installer(&model).len(), 3);
    assert!(
        model
            .nodes
            .keys()
            .all(|node| !model.is_labelled("wasmedge", node))
    );
    end_all(&mut model, Outcome::Refused, Reason::InUse, Some("1"));
    assert!(model.runtimes.contains_key("wasmedge"));
    model.settle();
    assert!(model.runtimes.is_empty() && model.installed.is_empty() && model.states.is_empty());
}

#[test]
fn retained_runtime_keeps_nodes_installed() {
    let mut model = model(&json!({ "uninstallPolicy": "Retain" }), 1);
    model.settle();
    model.delete("wasmedge");
    model.settle();
    assert!(model.runtimes.is_empty() && model.states.is_empty());
    assert!(
        model.is_labelled("wasmedge", "node-00")
            && model.classes.contains_key("wasmedge")
            && !model.installed.is_empty()
    );
}

#[test]
fn node_that_leaves_the_pool_is_cleaned_and_can_return() {
    let mut model = model(
        &json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } } }),
        1,
    );
    let pool = |model: &mut Model, member: bool| {
        let labels = &mut model.nodes.get_mut("node-00").unwrap().labels;
        if member {
            drop(labels.insert("pool".to_owned(), "wasm".to_owned()));
        } else {
            drop(labels.remove("pool"));
        }
    };
    pool(&mut model, true);
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
    pool(&mut model, false);
    model.reconcile("wasmedge", usize::MAX);
    assert!(!model.is_labelled("wasmedge", "node-00"));
    // Selected again during the removal: the removal is completed first.
    pool(&mut model, true);
    model.settle();
    assert!(model.is_labelled("wasmedge", "node-00"));
}

#[test]
fn percentage_budget_is_rounded_down_to_at_least_one_node() {
    for (max, pool, expected) in [
        (json!(2), 10, 2),
        (json!("25%"), 10, 2),
        (json!("25%"), 3, 1),
        (json!("100%"), 7, 7),
        (json!(0), 5, 1),
    ] {
        assert_eq!(
            rollout::slots(&serde_json::from_value(max.clone()).unwrap(), pool),
            expected,
            "{max} of {pool}"
        );
    }
}
