//! Benchmark of empty pod sandboxes.

use std::time::Instant;

use anyhow::Result;

use crate::cri::{self, Cri};
use crate::plan::{Plan, Samples};

pub(crate) async fn run(cri: &Cri, plan: &Plan) -> Result<Samples> {
    let mut samples = Samples::default();
    for turn in plan.turns() {
        let config = cri::pod(&turn.id(), plan.network, &plan.cgroup);
        let begun = Instant::now();
        let id = cri.run_sandbox(&config, &turn.subject.handler).await?;
        let ran = Instant::now();
        cri.stop_sandbox(&id).await?;
        let stopped = Instant::now();
        cri.remove_sandbox(&id).await?;
        let removed = Instant::now();
        if turn.counts {
            for (what, time) in [
                ("run", ran - begun),
                ("stop", stopped - ran),
                ("remove", removed - stopped),
            ] {
                samples.time(&turn.subject.name, what, time);
            }
        }
    }
    Ok(samples)
}
