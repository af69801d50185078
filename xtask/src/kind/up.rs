//! `cargo xtask kind up`.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::cache::Cache;
use testbed::cell::Lifetime;
use testbed::cluster::{Cluster, ClusterOptions, End, Runtime};
use testbed::teardown::Run;
use testbed::{examples, progress};

use super::{UpArgs, explain};
use crate::bundle;

/// Where the first pod runs.
const NAMESPACE: &str = "default";

pub(super) fn run(args: &UpArgs) -> Result<()> {
    let started = Instant::now();
    let cache = Cache::open()?;
    let name = &args.which.name;
    if Run::kept(&args.which.run())?.map(Run::keep).transpose()?.is_some() {
        bail!("the cluster {name} is up already: see `cargo xtask kind status --name {name}`, or give another --name");
    }
    let runtime = Runtime::Bundle(bundle::build(&cache)?.root);
    // Before the cluster comes up: what does not compile should be told soon.
    examples::ALL.iter().try_for_each(|example| example.guest(&cache).map(drop))?;
    let run = Run::start(&args.which.run())?;
    let options = ClusterOptions { name: name.clone(), node_image: args.image(), runtime, lifetime: Lifetime::Kept };
    let cluster = Cluster::up(&cache, &run, &options)?;
    progress::step("pushed the examples to the cluster's registry", || {
        examples::ALL.iter().try_for_each(|example| cluster.push(&example.image(&cache, cluster.registry())?))
    })?;
    let log = progress::step("ran examples/hello", || hello(&cluster));
    // A cluster on which the first pod fails is worth looking at.
    run.keep()?;
    progress::say(log?.trim_end());
    progress::say(format_args!("the cluster {name} is up {}", progress::seconds(started.elapsed())));
    explain(&cluster);
    progress::say(format_args!("remove it:   cargo xtask kind down --name {name}"));
    Ok(())
}

/// Applies the first example and returns its pod's log.
fn hello(cluster: &Cluster) -> Result<String> {
    let example = examples::ALL.first().context("there are no examples")?;
    cluster.wait_for(NAMESPACE, "serviceaccount/default", "to be there", |_| Ok(Some(())))?;
    cluster.kubectl().args(["--namespace", NAMESPACE, "apply", "--filename"]).arg(example.pod()).done()?;
    let end = cluster.end_of(NAMESPACE, example.name)?;
    let log = cluster.kubectl().args(["--namespace", NAMESPACE, "logs", example.name]).text()?;
    let expected = example.expected()?;
    ensure!(
        end == End::Succeeded && log == expected.trim_end(),
        "the pod {} ended otherwise than it should ({end:?}); expected {expected:?}, its log is {log:?}\n{}",
        example.name,
        cluster.evidence(Some(NAMESPACE))
    );
    Ok(log)
}
