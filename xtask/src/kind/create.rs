//! `cargo xtask kind create`: a cluster without the runtime, and a registry with everything for it.

use std::time::Instant;

use anyhow::{Result, bail};
use testbed::cache::Cache;
use testbed::cluster::{Cluster, ClusterOptions, NodeImage};
use testbed::helm::Helm;
use testbed::isolated_namespace::Lifetime;
use testbed::teardown::Run;
use testbed::{examples, progress};

use super::UpArgs;
use super::explain::explain;
use crate::images;

pub(super) fn run(args: &UpArgs) -> Result<()> {
    let started = Instant::now();
    let (run, cluster) = kept(args)?;
    run.keep()?;
    progress::print_line(format_args!(
        "the cluster {} is up {}",
        args.which.name,
        progress::seconds(started.elapsed())
    ));
    explain(&args.which.name, &cluster);
    Ok(())
}

/// Creates a cluster that outlives this command, unless its creation fails.
pub(super) fn kept(args: &UpArgs) -> Result<(Run, Cluster)> {
    let name = &args.which.name;
    if Run::kept(&args.which.run())?
        .map(Run::keep)
        .transpose()?
        .is_some()
    {
        bail!(
            "the cluster {name} is up already: see `cargo xtask kind status --name {name}`, or \
             give another --name"
        );
    }
    let made = Artifacts::of(&Cache::open()?)?;
    let run = Run::start(&args.which.run())?;
    let cluster = made.cluster(&run, name, args.image(), Lifetime::Kept)?;
    Ok((run, cluster))
}

/// Artifacts that are built before a cluster comes up, so that compile errors are reported early.
#[derive(Debug)]
pub(super) struct Artifacts {
    cache: Cache,
    images: testbed::prepared::Images,
    pub(super) helm: Helm,
}

impl Artifacts {
    pub(super) fn of(cache: &Cache) -> Result<Self> {
        examples::ALL
            .iter()
            .try_for_each(|example| example.guest(cache).map(drop))?;
        Ok(Self {
            cache: cache.clone(),
            images: images::prepare(cache)?,
            helm: Helm::find(cache)?,
        })
    }

    /// Creates a cluster that belongs to `run`, with the project's images and the examples in its
    /// registry.
    pub(super) fn cluster(
        &self,
        run: &Run,
        name: &str,
        node_image: NodeImage,
        lifetime: Lifetime,
    ) -> Result<Cluster> {
        let options = ClusterOptions {
            name: name.to_owned(),
            node_image,
            lifetime,
        };
        let cluster = Cluster::up(&self.cache, run, &options)?;
        progress::step(
            "pushed images and examples to the cluster's registry",
            || {
                cluster.push_images(&self.images)?;
                examples::ALL.iter().try_for_each(|example| {
                    cluster.push(&example.image(&self.cache, cluster.registry())?)
                })
            },
        )?;
        Ok(cluster)
    }
}
