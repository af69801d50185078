//! `start`: what one container costs from its start to its end, and one pod's sandbox.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::progress;

use super::Extent;
use super::client::Samples;
use super::ground::{Ground, Net};
use super::programs::Does;
use super::report::{Figure, Target, Unit};
use super::statistics::Summary;
use super::subject::Subject;

/// How many rounds go before those that count: caches fill, and a host comes up.
pub(super) const WARM_UP: usize = 2;
/// How many times more often shims are asked directly: one in a hundred is told apart then, and it
/// takes little time.
pub(super) const SHIM_ROUNDS: usize = 10;
/// Stands in a command line for the container's id.
const ID: &str = "@ID@";

const MS: Unit = Unit::Milliseconds;

pub(super) fn measure(ground: &Ground, extent: &Extent) -> Result<Vec<Figure>> {
    let plan = |subjects: Vec<Value>| {
        json!({ "rounds": extent.rounds, "warm_up": WARM_UP,
        "subjects": subjects })
    };
    let mut figures = Vec::new();
    figures.extend(progress::step("timed ctr run", || commands(ground, &plan))?);
    figures.extend(progress::step("timed tasks through one client", || {
        tasks(ground, &plan(ground.entries(Does::Hello)))
    })?);
    figures.extend(progress::step("timed tasks asked of their shims", || {
        shims(ground, extent)
    })?);
    figures.extend(progress::step("timed sandboxes of pods", || {
        pods(ground, &plan(ground.entries(Does::Idle)))
    })?);
    Ok(figures)
}

fn commands(ground: &Ground, plan: &impl Fn(Vec<Value>) -> Value) -> Result<Vec<Figure>> {
    let entry =
        |subject: &Subject| json!({ "name": subject.name, "command": ground.ctr_run(subject, ID) });
    let samples = ground.client.run(
        "commands",
        &plan(ground.subjects.iter().map(entry).collect()),
    )?;
    Ok(vec![
        samples
            .figure("run", "`ctr run --rm` of a hello", MS)
            .target(Target::Ratio(0.40)),
    ])
}

fn tasks(ground: &Ground, plan: &Value) -> Result<Vec<Figure>> {
    let samples = ground.client.run("tasks", plan)?;
    Ok(vec![
        samples
            .figure("to exit", "one client: Tasks.Create to the exit event", MS)
            .target(Target::Ratio(0.15)),
        samples.figure("create", "one client: Tasks.Create", MS),
        samples.figure("start", "one client: Tasks.Start", MS),
        samples.figure("delete", "one client: Tasks.Delete", MS),
    ])
}

fn shims(ground: &Ground, extent: &Extent) -> Result<Vec<Figure>> {
    let Some(samples) = asked(ground, extent)? else {
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

/// What shims take on a ground with cgroup v2.
pub(super) fn on_unified_cgroups(ground: &Ground, extent: &Extent) -> Result<Vec<Figure>> {
    let Some(samples) = progress::step("timed tasks on cgroup v2", || asked(ground, extent))?
    else {
        return Ok(Vec::new());
    };
    let who = "the shim itself, on cgroup v2";
    let [both, worst] = created_and_started(&samples, who);
    Ok(vec![both, worst, deleted(&samples, who)])
}

/// Samples of shims that are called without containerd; none if no subject's shim can be.
fn asked(ground: &Ground, extent: &Extent) -> Result<Option<Samples>> {
    let ours = ground
        .subjects
        .iter()
        .filter(|subject| subject.can_be_called_directly());
    let subjects: Vec<Value> = ours
        .map(|subject| Ground::entry(subject, Does::Hello, Net::Given))
        .collect();
    if subjects.is_empty() {
        return Ok(None);
    }
    let plan =
        json!({ "rounds": extent.rounds * SHIM_ROUNDS, "warm_up": WARM_UP, "subjects": subjects });
    ground.client.run("shim", &plan).map(Some)
}

fn created_and_started(samples: &Samples, who: &str) -> [Figure; 2] {
    let both = samples.sum("create", "start");
    let worst = both
        .iter()
        .filter_map(|(name, samples)| Some((name.clone(), vec![Summary::of(samples)?.worst])))
        .collect();
    [
        Figure::of(format!("{who}: Create + Start"), MS, &both).target(Target::Value(5.0)),
        Figure::of(
            format!("{who}: Create + Start, 99th percentile"),
            MS,
            &worst,
        )
        .target(Target::Value(20.0)),
    ]
}

fn deleted(samples: &Samples, who: &str) -> Figure {
    samples
        .figure("delete", &format!("{who}: Delete"), MS)
        .target(Target::Value(2.0))
}

fn pods(ground: &Ground, plan: &Value) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (network, name, target) in [
        ("pod", "with a bridge (CNI)", Some(Target::Ratio(0.30))),
        ("node", "with the machine's network", None),
    ] {
        let mut plan = plan.clone();
        plan["network"] = network.into();
        plan["cgroup"] = ground.pods().into();
        let samples = ground.client.run("pods", &plan)?;
        let run = samples.figure("run", &format!("RunPodSandbox {name}"), MS);
        figures.push(Figure { target, ..run });
        figures.push(samples.figure("stop", &format!("StopPodSandbox {name}"), MS));
        figures.push(samples.figure("remove", &format!("RemovePodSandbox {name}"), MS));
    }
    Ok(figures)
}
