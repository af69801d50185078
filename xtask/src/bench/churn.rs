//! `churn`: containers per second through containerd, made, run to their end and removed by one
//! client.

use anyhow::Result;
use serde_json::json;
use testbed::progress;

use super::Extent;
use super::ground::Ground;
use super::programs::Does;
use super::report::{Figure, Unit};

/// How many containers are under way at once.
pub(super) const IN_FLIGHT: usize = 8;
/// How many turns each subject has: its time is cut into as many pieces, between which the others
/// have theirs.
const TURNS: usize = 6;

pub(super) fn measure(ground: &Ground, extent: &Extent) -> Result<Vec<Figure>> {
    let turn = (extent.seconds / TURNS as u64).max(1);
    let plan = json!({
        "rounds": TURNS,
        "warm_up": 1,
        "subjects": ground.entries(Does::Hello),
        "in_flight": IN_FLIGHT,
        "turn": turn,
    });
    let samples = progress::step("counted containers per second", || {
        ground.client.run("churn", &plan)
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
