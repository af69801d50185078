//! Benchmark of containers per second: created, run to completion and removed, several at once,
//! through one client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::containerd::{Containerd, Exits, Template};
use crate::plan::{Plan, Samples};
use crate::tasks;

pub(crate) async fn run(containerd: &Containerd, plan: &Plan) -> Result<Samples> {
    let exits = containerd.exits().await?;
    let templates = tasks::templates(containerd, plan).await?;
    let mut samples = Samples::default();
    for turn in plan.turns() {
        let name = turn.subject.name.as_str();
        let template = templates
            .get(name)
            .with_context(|| format!("{name} has no template"))?;
        let stream = Stream {
            containerd: containerd.clone(),
            exits: exits.clone(),
            template: template.clone(),
            prefix: turn.id(),
        };
        let throughput = throughput(
            Arc::new(stream),
            plan.in_flight,
            Duration::from_secs(plan.turn),
        )
        .await?;
        if turn.counts {
            samples.add(name, "rate", throughput.rate);
            samples.add(name, "failed", throughput.failed);
            for duration in throughput.durations {
                samples.time(name, "life", duration);
            }
        }
    }
    Ok(samples)
}

/// The source of one turn's containers.
struct Stream {
    containerd: Containerd,
    exits: Exits,
    template: Template,
    prefix: String,
}

/// The result of one turn.
struct Throughput {
    /// Containers per second, of the successful ones.
    rate: f64,
    /// Duration of each of them.
    durations: Vec<Duration>,
    /// Number of failed containers.
    failed: f64,
}

/// Keeps `in_flight` containers running for the duration of a turn.
async fn throughput(stream: Arc<Stream>, in_flight: usize, turn: Duration) -> Result<Throughput> {
    let begun = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..in_flight {
        let stream = Arc::clone(&stream);
        lanes.spawn(async move {
            let (mut durations, mut failed) = (Vec::new(), 0.0);
            for number in 0.. {
                if begun.elapsed() >= turn {
                    break;
                }
                let id = format!("{}-{lane}-{number}", stream.prefix);
                let from = Instant::now();
                let made = stream.containerd.make(&stream.template, &id).await?;
                let times = tasks::run_task(&stream.containerd, &stream.exits, &made).await?;
                stream.containerd.remove(&made).await?;
                match times.code {
                    0 => durations.push(from.elapsed()),
                    _ => failed += 1.0,
                }
            }
            anyhow::Ok((durations, failed))
        });
    }
    let mut throughput = Throughput {
        rate: 0.0,
        durations: Vec::new(),
        failed: 0.0,
    };
    while let Some(lane) = lanes.join_next().await {
        let (succeeded, failed) = lane.context("a lane of containers panicked")??;
        throughput.durations.extend(succeeded);
        throughput.failed += failed;
    }
    // Until the last one has ended: containers that were running at the end of the turn are
    // counted, with their time.
    let count =
        u32::try_from(throughput.durations.len()).context("more containers than can be counted")?;
    throughput.rate = f64::from(count) / begun.elapsed().as_secs_f64();
    Ok(throughput)
}
