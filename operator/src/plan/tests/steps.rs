//! Rules of single nodes and of the rollout's order.

use super::world::World;
use super::*;

pub(super) fn world(spec: &Value, nodes: usize) -> World {
    World::new(vec![runtime("wasmedge", spec)], nodes)
}

/// The nodes that installers work on.
pub(super) fn at_work(world: &World) -> Vec<String> {
    let nodes: BTreeSet<String> = world
        .running()
        .iter()
        .map(|job| world.jobs[job].node.clone())
        .collect();
    nodes.into_iter().collect()
}

/// Lets one installer end so, and plans.
pub(super) fn end_all(world: &mut World, outcome: Outcome, reason: Reason, kept: Option<&str>) {
    for job in world.running() {
        world.end(
            &job,
            JobFacts::Reported(Box::new(report(outcome, reason, kept))),
        );
    }
    world.reconcile("wasmedge", usize::MAX);
}

#[test]
fn a_runtime_comes_to_every_node_of_the_pool_and_then_nothing_is_left_to_do() {
    let mut world = world(&json!({}), 3);
    world.settle();
    for node in world.nodes.keys() {
        assert_eq!(world.status("wasmedge", node).phase, Phase::Ready);
        assert!(world.is_labelled("wasmedge", node));
    }
    assert!(plan(&world.observed("wasmedge")).actions.is_empty());
    assert_eq!(plan(&world.observed("wasmedge")).rollout, Rollout::Settled);
}

#[test]
fn an_empty_selector_leaves_the_control_plane_alone_and_a_selector_selects() {
    for (selector, expected) in [
        (json!({}), 1),
        (json!({ "matchLabels": { "pool": "wasm" } }), 1),
        (json!({ "matchLabels": { "pool": "x" } }), 0),
    ] {
        let mut world = world(&json!({ "nodeSelector": selector }), 2);
        world
            .nodes
            .get_mut("node-00")
            .unwrap()
            .labels
            .insert(names::CONTROL_PLANE_LABEL.to_owned(), String::new());
        world
            .nodes
            .get_mut("node-01")
            .unwrap()
            .labels
            .insert("pool".to_owned(), "wasm".to_owned());
        assert_eq!(
            plan(&world.observed("wasmedge")).desired.len(),
            expected,
            "{selector}"
        );
    }
}

#[test]
fn the_first_node_is_tried_alone_and_then_the_budget_counts() {
    let mut world = world(
        &json!({ "rollout": { "maxUnavailable": 3, "canary": 1 } }),
        6,
    );
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-00"]);
    assert_eq!(plan(&world.observed("wasmedge")).rollout, Rollout::Canary);
    end_all(&mut world, Outcome::Installed, Reason::Done, Some("1"));
    assert_eq!(at_work(&world), ["node-01", "node-02", "node-03"]);
}

#[test]
fn too_many_failures_stop_the_rollout_and_a_new_spec_begins_anew() {
    let mut world = world(&json!({ "rollout": { "maxUnavailable": 1 } }), 3);
    world.reconcile("wasmedge", usize::MAX);
    end_all(&mut world, Outcome::RolledBack, Reason::SmokeFailed, None);
    assert_eq!(
        plan(&world.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
    assert!(at_work(&world).is_empty());
    assert!(!world.is_labelled("wasmedge", "node-00"));
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::Mode::InPlace;
    world.settle();
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Ready);
}

#[test]
fn a_person_can_ask_for_another_try_once() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    end_all(&mut world, Outcome::RolledBack, Reason::HostFiles, None);
    let annotations = BTreeMap::from([(names::RETRY_ANNOTATION.to_owned(), "1".to_owned())]);
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .meta_mut()
        .annotations = Some(annotations);
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-00"]);
    end_all(&mut world, Outcome::RolledBack, Reason::HostFiles, None);
    assert!(at_work(&world).is_empty());
}

#[test]
fn what_may_pass_is_tried_again_later_and_later_and_then_a_person_is_asked() {
    let mut world = world(&json!({}), 2);
    let mut waits = Vec::new();
    world.reconcile("wasmedge", usize::MAX);
    for attempt in 1..=timing::MAX_ATTEMPTS {
        assert_eq!(world.status("wasmedge", "node-00").attempts, attempt);
        end_all(&mut world, Outcome::Refused, Reason::Download, None);
        let Some(wait) = plan(&world.observed("wasmedge")).requeue_after else {
            break;
        };
        assert!(
            at_work(&world).is_empty(),
            "the node that is being tried has the only slot"
        );
        waits.push(wait.as_secs());
        world.seconds += i64::try_from(wait.as_secs()).unwrap() + 1;
        world.reconcile("wasmedge", usize::MAX);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160]);
    assert_eq!(
        plan(&world.observed("wasmedge")).rollout,
        Rollout::Stopped { failed: 1 }
    );
}

#[test]
fn an_installer_that_left_no_report_is_sent_again() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    world.end(&job, world::lost("exit code 255"));
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        world.status("wasmedge", "node-00").reason.as_deref(),
        Some("Interrupted")
    );
    world.settle();
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Ready);
}

#[test]
fn an_older_version_that_works_goes_on_taking_pods_when_the_new_one_fails() {
    let mut world = world(&json!({}), 1);
    world.settle();
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::Mode::InPlace;
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.is_labelled("wasmedge", "node-00"));
    end_all(
        &mut world,
        Outcome::RolledBack,
        Reason::SmokeFailed,
        Some("1"),
    );
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Failed);
    assert!(world.is_labelled("wasmedge", "node-00"));
    // The list may be older than the way back; what it says for long is so, until it says
    // otherwise.
    let listed = world.nodes["node-00"].handlers.clone();
    world.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.is_labelled("wasmedge", "node-00"));
    world.seconds += 31;
    world.reconcile("wasmedge", usize::MAX);
    assert!(!world.is_labelled("wasmedge", "node-00"));
    world.nodes.get_mut("node-00").unwrap().handlers = listed;
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.is_labelled("wasmedge", "node-00"));
    // And a node that could not be brought back takes none.
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .containerd
        .mode = crate::crd::Mode::DropIn;
    world.reconcile("wasmedge", usize::MAX);
    end_all(&mut world, Outcome::Broken, Reason::ContainerdRestart, None);
    assert!(!world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn what_is_chosen_of_the_runtime_is_rolled_out_like_a_new_version() {
    let target = |spec: &Value| plan(&world(spec, 1).observed("wasmedge")).target;
    let plain = target(&json!({}));
    let mut digests = BTreeSet::from([plain.hash.clone()]);
    for choice in [
        json!({ "runtime": { "grouping": "Pod" } }),
        json!({ "runtime": { "logLevel": "Debug" } }),
        json!({ "runtime": { "maxContainers": 250 } }),
        json!({ "containerd": { "sandboxer": "Shim" } }),
    ] {
        let chosen = target(&choice);
        assert!(
            digests.insert(chosen.hash.clone()),
            "{choice} is no new target"
        );
        let request = chosen.install(&node(&[])).unwrap();
        assert_eq!(
            request.settings,
            runtime("wasmedge", &choice).spec.settings()
        );
    }

    let mut world = world(&json!({}), 2);
    world.settle();
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .runtime
        .log_level = crate::crd::LogLevel::Debug;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-00"]);
    assert!(
        world.is_labelled("wasmedge", "node-00") && world.is_labelled("wasmedge", "node-01"),
        "both go on taking pods"
    );
    world.settle();
    assert!(
        world
            .hosts
            .values()
            .all(|host| *host == target(&json!({ "runtime": { "logLevel": "Debug" } })).hash)
    );
}

#[test]
fn a_new_operator_alone_sends_no_installer_where_nothing_is_chosen() {
    // The digest from before there was a choice.
    let expected = "651b2119d74dbafd";
    for spec in [
        json!({}),
        json!({ "runtime": { "grouping": "Node", "logLevel": "Info" },
            "containerd": { "sandboxer": "PodSandbox" } }),
    ] {
        assert_eq!(
            plan(&world(&spec, 1).observed("wasmedge")).target.hash,
            expected
        );
    }
}

#[test]
fn the_label_waits_for_the_node_to_list_the_handler() {
    let mut world = world(&json!({}), 1);
    world.reconcile("wasmedge", usize::MAX);
    let job = world.running().remove(0);
    let end = world.success(&job);
    world.end(&job, end);
    world.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(world.status("wasmedge", "node-00").phase, Phase::Verifying);
    assert!(!world.is_labelled("wasmedge", "node-00"));
    world.seconds += i64::from(world.runtimes["wasmedge"].spec.rollout.node_timeout_seconds) + 1;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(
        world.status("wasmedge", "node-00").reason.as_deref(),
        Some("HandlerMissing")
    );
}

#[test]
fn a_containerd_that_cannot_say_is_believed_the_installer() {
    let mut world = world(&json!({}), 1);
    world.nodes.get_mut("node-00").unwrap().handlers = Handlers::Unknown;
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn a_node_that_loses_its_handler_takes_no_pods_and_gets_it_back() {
    let mut world = world(&json!({}), 1);
    world.settle();
    world.nodes.get_mut("node-00").unwrap().handlers = Handlers::Listed(BTreeSet::new());
    world.reconcile("wasmedge", usize::MAX);
    assert!(
        world.is_labelled("wasmedge", "node-00"),
        "the list may be older than what the installer proved"
    );
    world.seconds += 31;
    world.reconcile("wasmedge", usize::MAX);
    assert!(!world.is_labelled("wasmedge", "node-00"));
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn a_reboot_is_proven_again_and_a_label_that_was_lost_comes_back() {
    let mut world = world(&json!({}), 1);
    world.settle();
    let node = world.nodes.get_mut("node-00").unwrap();
    node.boot_id = "another".to_owned();
    node.labels.clear();
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.is_labelled("wasmedge", "node-00"));
    assert_eq!(at_work(&world), ["node-00"]);
    world.settle();
    assert_eq!(
        world.status("wasmedge", "node-00").boot_id.as_deref(),
        Some("another")
    );
}

#[test]
fn startup_taints_go_with_the_label() {
    let mut world = world(
        &json!({ "startupTaints": [{ "key": "wasm/starting", "effect": "NoSchedule" }] }),
        1,
    );
    let taint = |key: &str| (key.to_owned(), "NoSchedule".to_owned());
    world.nodes.get_mut("node-00").unwrap().taints = vec![taint("wasm/starting"), taint("gpu")];
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(world.nodes["node-00"].taints.len(), 2);
    world.settle();
    assert_eq!(world.nodes["node-00"].taints, [taint("gpu")]);
}

#[test]
fn a_node_that_cannot_have_it_is_told_so_without_being_touched() {
    let mut world = world(&json!({}), 2);
    world.nodes.get_mut("node-00").unwrap().distribution = Distribution::Bottlerocket;
    world.settle();
    assert_eq!(
        world.status("wasmedge", "node-00").phase,
        Phase::Unsupported
    );
    assert!(
        !world
            .touched
            .contains(&("wasmedge".to_owned(), "node-00".to_owned()))
    );
    assert!(world.is_labelled("wasmedge", "node-01"));
}

#[test]
fn a_node_that_is_not_ready_is_not_begun_and_one_that_vanished_is_forgotten() {
    let mut world = world(&json!({}), 2);
    world.nodes.get_mut("node-00").unwrap().readiness = Readiness::NotReady;
    world.reconcile("wasmedge", usize::MAX);
    assert_eq!(at_work(&world), ["node-01"]);
    world.nodes.remove("node-01");
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.states.is_empty() && world.jobs.is_empty());
}

#[test]
fn a_later_node_of_the_same_name_starts_from_nothing() {
    let mut world = world(&json!({}), 1);
    world.settle();
    *world.nodes.get_mut("node-00").unwrap() = NodeFacts {
        uid: "later".to_owned(),
        ..node(&["runc"])
    };
    world.settle();
    assert_eq!(world.states.values().next().unwrap().node_uid, "later");
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn a_paused_rollout_begins_nothing_and_finishes_what_it_began() {
    let mut world = world(&json!({}), 2);
    world.reconcile("wasmedge", usize::MAX);
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .rollout
        .paused = true;
    world.settle();
    assert_eq!(plan(&world.observed("wasmedge")).rollout, Rollout::Paused);
    assert!(world.is_labelled("wasmedge", "node-00") && !world.is_labelled("wasmedge", "node-01"));
}

#[test]
fn a_class_of_somebody_else_keeps_nodes_untouched_until_it_may_be_adopted() {
    let mut world = world(&json!({}), 1);
    let foreign: RuntimeClass = serde_json::from_value(
        json!({ "metadata": { "name": "wasmedge" }, "handler": "wasmedge" }),
    )
    .unwrap();
    world.classes.insert("wasmedge".to_owned(), foreign);
    world.settle();
    assert_eq!(plan(&world.observed("wasmedge")).rollout, Rollout::Blocked);
    assert!(world.touched.is_empty());
    world
        .runtimes
        .get_mut("wasmedge")
        .unwrap()
        .spec
        .runtime_class
        .adopt_existing = true;
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn of_two_runtimes_with_one_handler_the_older_one_has_it() {
    let mut younger = runtime("b", &json!({ "runtimeClass": { "name": "other" } }));
    younger.meta_mut().creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    let mut world = World::new(vec![younger, runtime("wasmedge", &json!({}))], 1);
    world.settle();
    assert_eq!(plan(&world.observed("b")).class, ClassVerdict::NameTaken);
    assert!(world.is_labelled("wasmedge", "node-00") && !world.is_labelled("b", "node-00"));
}

#[test]
fn deleting_cleans_every_node_before_the_object_goes() {
    let mut world = world(&json!({ "rollout": { "maxUnavailable": "100%" } }), 3);
    world.settle();
    world.delete("wasmedge");
    world.reconcile("wasmedge", usize::MAX);
    assert!(world.classes.is_empty());
    assert_eq!(at_work(&world).len(), 3);
    assert!(
        world
            .nodes
            .keys()
            .all(|node| !world.is_labelled("wasmedge", node))
    );
    end_all(&mut world, Outcome::Refused, Reason::InUse, Some("1"));
    assert!(world.runtimes.contains_key("wasmedge"));
    world.settle();
    assert!(world.runtimes.is_empty() && world.hosts.is_empty() && world.states.is_empty());
}

#[test]
fn a_retained_runtime_leaves_nodes_and_class_as_they_are() {
    let mut world = world(&json!({ "uninstallPolicy": "Retain" }), 1);
    world.settle();
    world.delete("wasmedge");
    world.settle();
    assert!(world.runtimes.is_empty() && world.states.is_empty());
    assert!(
        world.is_labelled("wasmedge", "node-00")
            && world.classes.contains_key("wasmedge")
            && !world.hosts.is_empty()
    );
}

#[test]
fn a_node_that_leaves_the_pool_is_cleaned_and_may_come_back() {
    let mut world = world(
        &json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } } }),
        1,
    );
    let pool = |world: &mut World, member: bool| {
        let labels = &mut world.nodes.get_mut("node-00").unwrap().labels;
        if member {
            drop(labels.insert("pool".to_owned(), "wasm".to_owned()));
        } else {
            drop(labels.remove("pool"));
        }
    };
    pool(&mut world, true);
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
    pool(&mut world, false);
    world.reconcile("wasmedge", usize::MAX);
    assert!(!world.is_labelled("wasmedge", "node-00"));
    // Wanted again while it is half way off: it goes all the way off first.
    pool(&mut world, true);
    world.settle();
    assert!(world.is_labelled("wasmedge", "node-00"));
}

#[test]
fn a_share_of_the_pool_is_rounded_down_and_one_node_may_always_be_changed() {
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
