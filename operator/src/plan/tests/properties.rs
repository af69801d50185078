//! Properties of random clusters, with random events and operators that stop at any action.

use proptest::prelude::*;

use super::model::Model;
use super::*;

/// An event in a cluster.
#[derive(Debug, Clone)]
enum Event {
    /// An operator reconciles a runtime, and stops after so many actions.
    Reconcile(usize, usize),
    /// A running installer ends.
    End(usize, usize),
    /// The pod of a running installer turns out not to start.
    Block(usize),
    /// The pod of a deleted Job ends; its container has run or not.
    Leave(usize, bool),
    /// The template of installers changes.
    Template(usize),
    /// Time passes.
    Pass(i64),
    /// A node joins or leaves the pool.
    Pool(usize),
    /// A node reboots, and is not Ready until the next such event.
    Reboot(usize),
    /// A node is deleted, or replaced by one of the same name.
    Vanish(usize),
    /// A runtime's spec changes.
    Spec(usize),
    /// A rollout is paused or resumed.
    Pause(usize),
    /// A runtime is deleted.
    Delete(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..2usize, prop_oneof![4 => Just(usize::MAX), 1 => 0..6usize]).prop_map(|(runtime,
            limit)| Event::Reconcile(runtime, limit)),
        6 => (0..8usize, 0..10usize).prop_map(|(job, end)| Event::End(job, end)),
        4 => (0..8usize).prop_map(Event::Block),
        4 => (0..8usize, prop_oneof![3 => Just(false), 1 => Just(true)]).prop_map(|(job,
            began)| Event::Leave(job, began)),
        1 => (0..3usize).prop_map(Event::Template),
        2 => (1..400i64).prop_map(Event::Pass),
        1 => (1400..9000i64).prop_map(Event::Pass),
        1 => (0..8usize).prop_map(Event::Pool),
        1 => (0..8usize).prop_map(Event::Reboot),
        1 => (0..8usize).prop_map(Event::Vanish),
        1 => (0..2usize).prop_map(Event::Spec),
        1 => (0..2usize).prop_map(Event::Pause),
        1 => (0..40usize).prop_map(Event::Delete),
    ]
}

const NAMES: [&str; 2] = ["blue", "green"];

fn cluster(max: usize, canary: usize, nodes: usize) -> Model {
    let spec = |handler: &str| {
        json!({
            "nodeSelector": { "matchExpressions": [{ "key": "outside",
            "operator": "DoesNotExist" }] },
            "runtimeClass": { "name": handler, "handler": handler },
            "rollout": { "maxUnavailable": max, "canary": canary, "failureThreshold": 2 },
        })
    };
    Model::new(
        NAMES
            .iter()
            .map(|name| runtime(name, &spec(name)))
            .collect(),
        nodes,
    )
}

/// Returns the result of an installer for the random number `end`.
fn ending(model: &Model, job: &str, end: usize) -> JobFacts {
    let kept = |job: &model::Job| {
        model
            .installed
            .contains_key(&(job.runtime.clone(), job.node.clone()))
            .then_some("1")
    };
    let failed = |outcome, reason| {
        JobFacts::Reported(Box::new(report(outcome, reason, kept(&model.jobs[job]))))
    };
    match end {
        0 => failed(Outcome::RolledBack, Reason::SmokeFailed),
        1 => failed(Outcome::Refused, Reason::Download),
        2 => JobFacts::Reported(Box::new(report(
            Outcome::Broken,
            Reason::ContainerdRestart,
            None,
        ))),
        3 => model::lost("exit code 255"),
        4 => failed(Outcome::Refused, Reason::InUse),
        5 => model::never_began(),
        _ => model.success(job),
    }
}

fn apply_event(model: &mut Model, event: &Event) {
    let node = |model: &Model, number: usize| {
        model
            .nodes
            .keys()
            .nth(number % model.nodes.len().max(1))
            .cloned()
    };
    match *event {
        Event::Reconcile(number, limit) if model.runtimes.contains_key(NAMES[number]) => {
            drop(model.reconcile(NAMES[number], limit));
        }
        Event::End(number, end) => {
            let running = model.running();
            if let Some(job) = running.get(number % running.len().max(1)) {
                let facts = ending(model, job, end);
                model.end(job, facts);
            }
        }
        Event::Block(number) => {
            let running = model.running();
            if let Some(job) = running.get(number % running.len().max(1)) {
                model.block(job);
            }
        }
        Event::Leave(number, began) => {
            let ending = model.ending();
            if let Some(job) = ending.get(number % ending.len().max(1)) {
                model.end(
                    job,
                    if began {
                        model::lost("exit code 143")
                    } else {
                        model::never_began()
                    },
                );
            }
        }
        Event::Template(number) => model.installer.digest = number.to_string(),
        Event::Pass(seconds) => model.seconds += seconds,
        Event::Pool(number) => {
            let Some(name) = node(model, number) else {
                return;
            };
            let labels = &mut model.nodes.get_mut(&name).unwrap().labels;
            if labels.remove("outside").is_none() {
                labels.insert("outside".to_owned(), String::new());
            }
        }
        Event::Reboot(number) => {
            let Some(name) = node(model, number) else {
                return;
            };
            let facts = model.nodes.get_mut(&name).unwrap();
            facts.readiness = if facts.readiness == Readiness::Ready {
                Readiness::NotReady
            } else {
                Readiness::Ready
            };
            facts.boot_id.push('+');
        }
        Event::Vanish(number) => {
            if let Some(name) = node(model, number) {
                replace_node(model, &name);
            }
        }
        Event::Spec(number) => {
            let Some(runtime) = model.runtimes.get_mut(NAMES[number]) else {
                return;
            };
            runtime.spec.containerd.paths.unit = Some(format!("unit-{}.service", model.seconds));
        }
        Event::Pause(number) => {
            let Some(runtime) = model.runtimes.get_mut(NAMES[number]) else {
                return;
            };
            runtime.spec.rollout.paused = !runtime.spec.rollout.paused;
        }
        Event::Delete(number)
            if number < NAMES.len() && model.runtimes.contains_key(NAMES[number]) =>
        {
            model.delete(NAMES[number]);
        }
        Event::Reconcile(..) | Event::Delete(_) => {}
    }
}

/// Replaces a node by a new one of the same name.
fn replace_node(model: &mut Model, name: &str) {
    model.installed.retain(|(_, node), _| *node != *name);
    model.touched.retain(|(_, node)| *node != *name);
    model.dirty.retain(|(_, node)| *node != *name);
    for job in model.jobs.values_mut().filter(|job| job.node == *name) {
        job.facts = model::lost("its pod is gone");
    }
    let uid = format!("{}+", model.nodes[name].uid);
    *model.nodes.get_mut(name).unwrap() = NodeFacts {
        uid,
        ..node_facts()
    };
}

fn node_facts() -> NodeFacts {
    node(&["runc"])
}

/// Checks the invariants.
fn check(model: &Model, budget: usize) -> Result<(), TestCaseError> {
    prop_assert!(
        model.leaks.is_empty(),
        "forgotten although not clean: {:?}",
        model.leaks
    );
    for name in NAMES {
        let states = || {
            model
                .states
                .iter()
                .filter(|((runtime, _), _)| runtime == name)
        };
        let changing = states()
            .filter(|(_, state)| is_changing(&state.status))
            .count();
        prop_assert!(
            changing <= budget,
            "{name} changes {changing} nodes, {budget} are allowed"
        );
        for ((_, node), state) in states() {
            // A node that lost the runtime by an installer has no label.
            let has = model
                .installed
                .contains_key(&(name.to_owned(), node.clone()));
            let labelled = model.is_labelled(name, node);
            let is_idle = state.status.job.is_none();
            prop_assert!(
                !(labelled && is_idle && !has),
                "{node} accepts pods of {name} without having it: {:?}",
                state.status
            );
            // The installed target is that of the installer's request. A node in removal is not
            // checked.
            let is_idle = is_idle && state.status.phase != Phase::Removing;
            let is_this = model
                .nodes
                .get(node)
                .is_some_and(|facts| facts.uid == state.node_uid);
            if let (Some(installed), true, true) = (&state.status.installed, is_idle, is_this) {
                prop_assert_eq!(
                    Some(installed),
                    model.installed.get(&(name.to_owned(), node.clone())),
                    "{}: {:?}",
                    node,
                    state.status
                );
            }
        }
        for (runtime, node) in model.touched.iter().filter(|(runtime, _)| runtime == name) {
            let known = model.states.contains_key(&(runtime.clone(), node.clone()));
            let has = model
                .installed
                .contains_key(&(runtime.clone(), node.clone()));
            prop_assert!(
                known || !has,
                "{node} has {runtime} without a WasmRuntimeNode"
            );
        }
    }
    for node in model.nodes.keys() {
        let at_work = model.jobs.values().filter(|job| {
            job.node == *node && matches!(job.facts, JobFacts::Running { .. } | JobFacts::Ending)
        });
        let owners: BTreeSet<&str> = at_work.map(|job| job.runtime.as_str()).collect();
        prop_assert!(owners.len() <= 1, "installers of {owners:?} run on {node}");
    }
    Ok(())
}

/// Repairs the cluster: every node is Ready, no rollout is paused, and retries are requested.
fn repair(model: &mut Model) {
    for facts in model.nodes.values_mut() {
        facts.readiness = Readiness::Ready;
    }
    for (name, runtime) in &mut model.runtimes {
        runtime.spec.rollout.paused = false;
        let token = BTreeMap::from([(names::RETRY_ANNOTATION.to_owned(), format!("heal {name}"))]);
        runtime.meta_mut().annotations = Some(token);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn rollout_keeps_budget_and_labels_only_nodes_with_the_runtime(
        (budget, canary, nodes) in (1..4usize, 0..3usize, 1..7usize),
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut model = cluster(budget, canary, nodes);
        for event in &events {
            apply_event(&mut model, event);
            check(&model, budget)?;
        }
    }

    #[test]
    fn after_recovery_exactly_the_selected_nodes_have_the_runtime(
        (budget, canary, nodes) in (1..4usize, 0..3usize, 1..7usize),
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut model = cluster(budget, canary, nodes);
        for event in &events {
            apply_event(&mut model, event);
        }
        repair(&mut model);
        model.settle();
        for name in NAMES {
            let alive = model.runtimes.contains_key(name);
            for (node, facts) in &model.nodes {
                let wanted = alive && !facts.labels.contains_key("outside");
                prop_assert_eq!(model.is_labelled(name, node), wanted, "{} on {}: {:?}", name,
                    node, model.states);
                let key = (name.to_owned(), node.clone());
                prop_assert_eq!(model.installed.contains_key(&key), wanted);
            }
            prop_assert_eq!(model.classes.contains_key(name), alive);
        }
        prop_assert!(model.jobs.is_empty(), "leftover Jobs: {:?}", model.jobs);
    }
}
