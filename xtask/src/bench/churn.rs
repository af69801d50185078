//! `churn`: containers per second through containerd, created, run to their end and removed by one
//! client.

use anyhow::Result;
use serde_json::json;
use testbed::progress;

use super::Extent;
use super::environment::Environment;
use super::programs::Does;
use super::report::{Figure, Unit};

/// The number of concurrent containers.
pub(super) const IN_FLIGHT: usize = 8;
/// The number of turns of each subject: its time is split into turns that alternate with those of
/// other subjects.
const TURNS: usize = 6;

pub(super) fn measure(environment: &Environment, extent: &Extent) -> Result<Vec<Figure>> {
    let turn = (extent.seconds / TURNS as u64).max(1);
    let plan = json!({
        "rounds": TURNS,
        "warm_up": 1,
        "subjects": environment.entries(Does::Hello),
        "in_flight": IN_FLIGHT,
        "turn": turn,
    });
    let samples = progress::step("counted containers per second", || {
        environment.client.run("churn", &plan)
    })?;
    Ok(vec![
        samples.figure(
            "rate",
            &format!("containers per second, {IN_FLIGHT} in flight"),
            Unit::PerSecond,
        ),
        samples.figure(
            "failed",
            "containers of a turn that did not end with success",
            Unit::Count,
        ),
        samples.figure("life", "one container's life, of those", Unit::Milliseconds),
    ])
}
