//! `cargo xtask kind up`.

use std::time::Instant;

use anyhow::Result;
use testbed::cache::Cache;
use testbed::helm::Helm;
use testbed::progress;
use testbed::tour::{self, Shell};

use super::explain::explain;
use super::{UpArgs, create};

pub(super) fn run(args: &UpArgs) -> Result<()> {
    let started = Instant::now();
    let (run, cluster) = create::kept(args)?;
    let shell = Shell::of(&cluster, &Helm::find(&Cache::open()?)?)?;
    let toured = tour::run(&cluster, &shell);
    // A cluster on which the first pod fails is kept for inspection.
    run.keep()?;
    explain(&args.which.name, &cluster);
    toured?;
    progress::print_line(format_args!(
        "the cluster {} is up {}",
        args.which.name,
        progress::seconds(started.elapsed())
    ));
    Ok(())
}
