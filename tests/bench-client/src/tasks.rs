//! Benchmark of one task through containerd's API: no program is started, and the container exists
//! beforehand.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::containerd::{Containerd, Exits, Made, Template};
use crate::plan::{Plan, Samples};

pub(crate) async fn run(containerd: &Containerd, plan: &Plan) -> Result<Samples> {
    let exits = containerd.exits().await?;
    let templates = templates(containerd, plan).await?;
    let mut samples = Samples::default();
    for turn in plan.turns() {
        let name = turn.subject.name.as_str();
        let template = templates
            .get(name)
            .with_context(|| format!("{name} has no template"))?;
        let made = containerd.make(template, &turn.id()).await?;
        let life = run_task(containerd, &exits, &made).await?;
        containerd.remove(&made).await?;
        ensure!(
            life.code == 0,
            "{} ended with exit code {}",
            made.id,
            life.code
        );
        if turn.counts {
            let TaskTimes {
                create,
                start,
                to_exit,
                delete,
                code: _,
            } = life;
            for (what, time) in [
                ("create", create),
                ("start", start),
                ("to exit", to_exit),
                ("delete", delete),
            ] {
                samples.time(name, what, time);
            }
        }
    }
    Ok(samples)
}

/// Returns the template of each subject, by the subject's name.
pub(crate) async fn templates(
    containerd: &Containerd,
    plan: &Plan,
) -> Result<HashMap<String, Template>> {
    let mut templates = HashMap::new();
    for subject in &plan.subjects {
        templates.insert(
            subject.name.clone(),
            containerd.template(&subject.template).await?,
        );
    }
    Ok(templates)
}

/// Durations of the parts of a task's life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskTimes {
    /// Create, from request to reply.
    pub(crate) create: Duration,
    /// Start, from request to reply.
    pub(crate) start: Duration,
    /// From the Create request to the exit event.
    pub(crate) to_exit: Duration,
    /// Delete, from request to reply.
    pub(crate) delete: Duration,
    /// Its exit code.
    pub(crate) code: u32,
}

/// Runs the task of a container that exits by itself.
pub(crate) async fn run_task(
    containerd: &Containerd,
    exits: &Exits,
    made: &Made,
) -> Result<TaskTimes> {
    let exit = exits.of(&made.id);
    let begun = Instant::now();
    containerd.create(made).await?;
    let created = Instant::now();
    containerd.start(&made.id).await?;
    let started = Instant::now();
    let exited = exit.seen().await?;
    let asked = Instant::now();
    let code = containerd.delete(&made.id).await?;
    let delete = asked.elapsed();
    Ok(TaskTimes {
        create: created - begun,
        start: started - created,
        to_exit: exited.saturating_duration_since(begun),
        delete,
        code,
    })
}
