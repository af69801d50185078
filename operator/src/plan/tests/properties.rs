//! Rules that hold in every world, whatever happens and wherever an operator ends.

use proptest::prelude::*;

use super::world::World;
use super::*;

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    /// An operator reconciles a runtime, and ends after so many actions.
    Reconcile(usize, usize),
    /// A running installer ends.
    End(usize, usize),
    /// A running installer's pod cannot start, as it turns out.
    Block(usize),
    /// The pod of a Job that was deleted ends, with or without its container having run.
    Leave(usize, bool),
    /// The operator makes installers of something else.
    Template(usize),
    /// Time passes.
    Pass(i64),
    /// A node joins or leaves the pool.
    Pool(usize),
    /// A node reboots, and is not Ready until the next such event.
    Reboot(usize),
    /// A node vanishes, or a new one of its name comes.
    Vanish(usize),
    /// A runtime's spec changes.
    Spec(usize),
    /// A rollout is paused, or goes on.
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

fn cluster(max: usize, canary: usize, nodes: usize) -> World {
    let spec = |handler: &str| {
        json!({
            "nodeSelector": { "matchExpressions": [{ "key": "outside",
            "operator": "DoesNotExist" }] },
            "runtimeClass": { "name": handler, "handler": handler },
            "rollout": { "maxUnavailable": max, "canary": canary, "failureThreshold": 2 },
        })
    };
    World::new(
        NAMES
            .iter()
            .map(|name| runtime(name, &spec(name)))
            .collect(),
        nodes,
    )
}

/// How the installer that is told `end` ends.
fn ending(world: &World, job: &str, end: usize) -> JobFacts {
    let kept = |job: &world::Job| {
        world
            .hosts
            .contains_key(&(job.runtime.clone(), job.node.clone()))
            .then_some("1")
    };
    let failed = |outcome, reason| {
        JobFacts::Reported(Box::new(report(outcome, reason, kept(&world.jobs[job]))))
    };
    match end {
        0 => failed(Outcome::RolledBack, Reason::SmokeFailed),
        1 => failed(Outcome::Refused, Reason::Download),
        2 => JobFacts::Reported(Box::new(report(
            Outcome::Broken,
            Reason::ContainerdRestart,
            None,
        ))),
        3 => world::lost("exit code 255"),
        4 => failed(Outcome::Refused, Reason::InUse),
        5 => world::never_began(),
        _ => world.success(job),
    }
}

fn happen(world: &mut World, event: &Event) {
    let node = |world: &World, number: usize| {
        world
            .nodes
            .keys()
            .nth(number % world.nodes.len().max(1))
            .cloned()
    };
    match *event {
        Event::Reconcile(number, limit) if world.runtimes.contains_key(NAMES[number]) => {
            drop(world.reconcile(NAMES[number], limit));
        }
        Event::End(number, end) => {
            let running = world.running();
            if let Some(job) = running.get(number % running.len().max(1)) {
                let facts = ending(world, job, end);
                world.end(job, facts);
            }
        }
        Event::Block(number) => {
            let running = world.running();
            if let Some(job) = running.get(number % running.len().max(1)) {
                world.block(job);
            }
        }
        Event::Leave(number, began) => {
            let ending = world.ending();
            if let Some(job) = ending.get(number % ending.len().max(1)) {
                world.end(
                    job,
                    if began {
                        world::lost("exit code 143")
                    } else {
                        world::never_began()
                    },
                );
            }
        }
        Event::Template(number) => world.installer.digest = number.to_string(),
        Event::Pass(seconds) => world.seconds += seconds,
        Event::Pool(number) => {
            let Some(name) = node(world, number) else {
                return;
            };
            let labels = &mut world.nodes.get_mut(&name).unwrap().labels;
            if labels.remove("outside").is_none() {
                labels.insert("outside".to_owned(), String::new());
            }
        }
        Event::Reboot(number) => {
            let Some(name) = node(world, number) else {
                return;
            };
            let facts = world.nodes.get_mut(&name).unwrap();
            facts.readiness = if facts.readiness == Readiness::Ready {
                Readiness::NotReady
            } else {
                Readiness::Ready
            };
            facts.boot_id.push('+');
        }
        Event::Vanish(number) => {
            if let Some(name) = node(world, number) {
                vanish(world, &name);
            }
        }
        Event::Spec(number) => {
            let Some(runtime) = world.runtimes.get_mut(NAMES[number]) else {
                return;
            };
            runtime.spec.containerd.paths.unit = Some(format!("unit-{}.service", world.seconds));
        }
        Event::Pause(number) => {
            let Some(runtime) = world.runtimes.get_mut(NAMES[number]) else {
                return;
            };
            runtime.spec.rollout.paused = !runtime.spec.rollout.paused;
        }
        Event::Delete(number)
            if number < NAMES.len() && world.runtimes.contains_key(NAMES[number]) =>
        {
            world.delete(NAMES[number]);
        }
        Event::Reconcile(..) | Event::Delete(_) => {}
    }
}

/// A node vanishes with all that is on it, and a new one of its name comes.
fn vanish(world: &mut World, name: &str) {
    world.hosts.retain(|(_, node), _| *node != *name);
    world.touched.retain(|(_, node)| *node != *name);
    world.dirty.retain(|(_, node)| *node != *name);
    for job in world.jobs.values_mut().filter(|job| job.node == *name) {
        job.facts = world::lost("its pod is gone");
    }
    let uid = format!("{}+", world.nodes[name].uid);
    *world.nodes.get_mut(name).unwrap() = NodeFacts {
        uid,
        ..node_facts()
    };
}

fn node_facts() -> NodeFacts {
    node(&["runc"])
}

/// What must never be seen, whatever happened.
fn check(world: &World, budget: usize) -> Result<(), TestCaseError> {
    prop_assert!(
        world.leaks.is_empty(),
        "forgotten, and not clean: {:?}",
        world.leaks
    );
    for name in NAMES {
        let states = || {
            world
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
            // A host that took pods and lost the runtime by our own doing has no label.
            let has = world.hosts.contains_key(&(name.to_owned(), node.clone()));
            let labelled = world.is_labelled(name, node);
            let heard = state.status.job.is_none();
            prop_assert!(
                !(labelled && heard && !has),
                "{node} takes pods of {name} and does not have it: {:?}",
                state.status
            );
            // What a node is said to have is what its installer was sent. One that is on its way
            // off is not asked for it.
            let heard = heard && state.status.phase != Phase::Removing;
            let is_this = world
                .nodes
                .get(node)
                .is_some_and(|facts| facts.uid == state.node_uid);
            if let (Some(installed), true, true) = (&state.status.installed, heard, is_this) {
                prop_assert_eq!(
                    Some(installed),
                    world.hosts.get(&(name.to_owned(), node.clone())),
                    "{}: {:?}",
                    node,
                    state.status
                );
            }
        }
        for (runtime, node) in world.touched.iter().filter(|(runtime, _)| runtime == name) {
            let known = world.states.contains_key(&(runtime.clone(), node.clone()));
            let has = world.hosts.contains_key(&(runtime.clone(), node.clone()));
            prop_assert!(known || !has, "{node} has {runtime} and nobody knows");
        }
    }
    for node in world.nodes.keys() {
        let at_work = world.jobs.values().filter(|job| {
            job.node == *node && matches!(job.facts, JobFacts::Running { .. } | JobFacts::Ending)
        });
        let owners: BTreeSet<&str> = at_work.map(|job| job.runtime.as_str()).collect();
        prop_assert!(
            owners.len() <= 1,
            "installers of {owners:?} are at work on {node}"
        );
    }
    Ok(())
}

/// The cluster after trouble has ended: every node is Ready, nothing is paused, and failures were
/// looked at.
fn heal(world: &mut World) {
    for facts in world.nodes.values_mut() {
        facts.readiness = Readiness::Ready;
    }
    for (name, runtime) in &mut world.runtimes {
        runtime.spec.rollout.paused = false;
        let token = BTreeMap::from([(names::RETRY_ANNOTATION.to_owned(), format!("heal {name}"))]);
        runtime.meta_mut().annotations = Some(token);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_budget_holds_and_pods_land_only_where_the_runtime_is(
        (budget, canary, nodes) in (1..4usize, 0..3usize, 1..7usize),
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut world = cluster(budget, canary, nodes);
        for event in &events {
            happen(&mut world, event);
            check(&world, budget)?;
        }
    }

    #[test]
    fn after_all_trouble_every_node_of_the_pool_has_it_and_no_other(
        (budget, canary, nodes) in (1..4usize, 0..3usize, 1..7usize),
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut world = cluster(budget, canary, nodes);
        for event in &events {
            happen(&mut world, event);
        }
        heal(&mut world);
        world.settle();
        for name in NAMES {
            let alive = world.runtimes.contains_key(name);
            for (node, facts) in &world.nodes {
                let wanted = alive && !facts.labels.contains_key("outside");
                prop_assert_eq!(world.is_labelled(name, node), wanted, "{} on {}: {:?}", name,
                    node, world.states);
                prop_assert_eq!(world.hosts.contains_key(&(name.to_owned(), node.clone())), wanted);
            }
            prop_assert_eq!(world.classes.contains_key(name), alive);
        }
        prop_assert!(world.jobs.is_empty(), "Jobs are left: {:?}", world.jobs);
    }
}
