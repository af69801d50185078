//! `start`: the cost of one container from its start to its end, and of one pod's sandbox.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::progress;

use super::Extent;
use super::client::Samples;
use super::environment::{Environment, Net};
use super::programs::Does;
use super::report::{Figure, Target, Unit};
use super::statistics::Summary;
use super::subject::Subject;

/// The number of rounds that do not count: caches fill, and a host is started.
pub(super) const WARM_UP: usize = 2;
/// How many times more rounds shims have that are called directly: so that 99th percentiles are
/// reliable. They take little time.
pub(super) const SHIM_ROUNDS: usize = 10;
/// The placeholder of the container's id in a command line.
const ID: &str = "@ID@";

const MS: Unit = Unit::Milliseconds;

pub(super) fn measure(environment: &Environment, extent: &Extent) -> Result<Vec<Figure>> {
    let plan = |subjects: Vec<Value>| {
        json!({ "rounds": extent.rounds, "warm_up": WARM_UP,
        "subjects": subjects })
    };
    let mut figures = Vec::new();
    figures.extend(progress::step("timed ctr run", || {
        commands(environment, &plan)
    })?);
    figures.extend(progress::step("timed tasks through one client", || {
        tasks(environment, &plan(environment.entries(Does::Hello)))
    })?);
    figures.extend(progress::step("timed tasks asked of their shims", || {
        shims(environment, extent)
    })?);
    figures.extend(progress::step("timed sandboxes of pods", || {
        pods(environment, &plan(environment.entries(Does::Idle)))
    })?);
    Ok(figures)
}

fn commands(environment: &Environment, plan: &impl Fn(Vec<Value>) -> Value) -> Result<Vec<Figure>> {
    let entry = |subject: &Subject| {
        let command = environment.ctr_run(subject, ID);
        json!({ "name": subject.name, "command": command })
    };
    let samples = environment.client.run(
        "commands",
        &plan(environment.subjects.iter().map(entry).collect()),
    )?;
    Ok(vec![
        samples
            .figure("run", "`ctr run --rm` of a hello", MS)
            .target(Target::Ratio(0.40)),
    ])
}

fn tasks(environment: &Environment, plan: &Value) -> Result<Vec<Figure>> {
    let samples = environment.client.run("tasks", plan)?;
    Ok(vec![
        samples
            .figure("to exit", "one client: Tasks.Create to the exit event", MS)
            .target(Target::Ratio(0.15)),
        samples.figure("create", "one client: Tasks.Create", MS),
        samples.figure("start", "one client: Tasks.Start", MS),
        samples.figure("delete", "one client: Tasks.Delete", MS),
    ])
}

fn shims(environment: &Environment, extent: &Extent) -> Result<Vec<Figure>> {
    let Some(samples) = asked(environment, extent)? else {
        return Ok(Vec::new());
    };
    let [both, worst] = created_and_started(&samples, "the shim itself");
    Ok(vec![
        samples.figure("launch", "the shim itself: start, to the connection", MS),
        samples.figure("create", "the shim itself: Create", MS),
        samples.figure("start", "the shim itself: Start", MS),
        both,
        worst,
        samples.figure(
            "first output",
            "the shim itself: Start's request to the first byte of output",
            MS,
        ),
        samples.figure(
            "ended",
            "the shim itself: Start's request to Wait's answer",
            MS,
        ),
        deleted(&samples, "the shim itself"),
    ])
}

/// Measures shims in an environment with cgroup v2.
pub(super) fn on_unified_cgroups(
    environment: &Environment,
    extent: &Extent,
) -> Result<Vec<Figure>> {
    let Some(samples) = progress::step("timed tasks on cgroup v2", || asked(environment, extent))?
    else {
        return Ok(Vec::new());
    };
    let subject = "the shim itself, on cgroup v2";
    let [both, worst] = created_and_started(&samples, subject);
    Ok(vec![both, worst, deleted(&samples, subject)])
}

/// Returns samples of shims that are called without containerd; `None` if no subject's shim can be.
fn asked(environment: &Environment, extent: &Extent) -> Result<Option<Samples>> {
    let ours = environment
        .subjects
        .iter()
        .filter(|subject| subject.can_be_called_directly());
    let subjects: Vec<Value> = ours
        .map(|subject| Environment::entry(subject, Does::Hello, Net::Given))
        .collect();
    if subjects.is_empty() {
        return Ok(None);
    }
    let plan =
        json!({ "rounds": extent.rounds * SHIM_ROUNDS, "warm_up": WARM_UP, "subjects": subjects });
    environment.client.run("shim", &plan).map(Some)
}

fn created_and_started(samples: &Samples, subject: &str) -> [Figure; 2] {
    let both = samples.sum("create", "start");
    let worst = both
        .iter()
        .filter_map(|(name, samples)| Some((name.clone(), vec![Summary::of(samples)?.worst])))
        .collect();
    [
        Figure::of(format!("{subject}: Create + Start"), MS, &both).target(Target::Value(5.0)),
        Figure::of(
            format!("{subject}: Create + Start, 99th percentile"),
            MS,
            &worst,
        )
        .target(Target::Value(20.0)),
    ]
}

fn deleted(samples: &Samples, subject: &str) -> Figure {
    samples
        .figure("delete", &format!("{subject}: Delete"), MS)
        .target(Target::Value(2.0))
}

fn pods(environment: &Environment, plan: &Value) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (network, name, target) in [
        ("pod", "with a bridge (CNI)", Some(Target::Ratio(0.30))),
        ("node", "with the machine's network", None),
    ] {
        let mut plan = plan.clone();
        plan["network"] = network.into();
        plan["cgroup"] = environment.pods().into();
        let samples = environment.client.run("pods", &plan)?;
        let run = samples.figure("run", &format!("RunPodSandbox {name}"), MS);
        figures.push(Figure { target, ..run });
        figures.push(samples.figure("stop", &format!("StopPodSandbox {name}"), MS));
        figures.push(samples.figure("remove", &format!("RemovePodSandbox {name}"), MS));
    }
    Ok(figures)
}
