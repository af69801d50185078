//! `cargo xtask kind up`.

use std::time::Instant;

use anyhow::{Result, bail};
use testbed::cache::Cache;
use testbed::cell::Lifetime;
use testbed::cluster::{Cluster, ClusterOptions, Runtime};
use testbed::progress;
use testbed::teardown::Run;

use super::{UpArgs, explain};

pub(super) fn run(args: &UpArgs) -> Result<()> {
    let started = Instant::now();
    let cache = Cache::open()?;
    let name = &args.which.name;
    if Run::kept(&args.which.run())?.map(Run::keep).transpose()?.is_some() {
        bail!("the cluster {name} is up already: see `cargo xtask kind status --name {name}`, or give another --name");
    }
    let run = Run::start(&args.which.run())?;
    let runtime = Runtime::Runc;
    let options = ClusterOptions { name: name.clone(), node_image: args.image(), runtime, lifetime: Lifetime::Kept };
    let cluster = Cluster::up(&cache, &run, &options)?;
    run.keep()?;
    progress::say(format_args!("the cluster {name} is up {}", progress::seconds(started.elapsed())));
    explain(&cluster);
    Ok(())
}
