//! `cargo xtask demo --kind`: README.md's tour in a cluster that is removed afterwards.

use std::time::Instant;

use anyhow::Result;
use testbed::cache::Cache;
use testbed::cluster::NodeImage;
use testbed::isolated_namespace::Lifetime;
use testbed::progress::{self, step};
use testbed::teardown::Run;
use testbed::tour::{self, Shell};

use super::create::Artifacts;

pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let made = Artifacts::of(&Cache::open()?)?;
    let run = Run::start("demo-kind")?;
    let cluster = made.cluster(&run, run.name(), NodeImage::Own, Lifetime::Process)?;
    tour::run(&cluster, &Shell::of(&cluster, &made.helm)?)?;
    step("removed the cluster and everything of it", || run.finish())?;
    progress::print_line(format_args!(
        "the tour works {}",
        progress::seconds(started.elapsed())
    ));
    Ok(())
}
