//! `cargo xtask kind status`.

use anyhow::Result;
use testbed::cache::Cache;
use testbed::cluster::{Cluster, LABEL};
use testbed::progress;
use testbed::teardown::Run;

use super::{Which, explain};

pub(super) fn run(which: &Which) -> Result<()> {
    let cache = Cache::open()?;
    if let Some(run) = Run::kept(&which.run())? {
        // Whatever the cluster answers, asking must not end it.
        let shown = Cluster::kept(&cache, &run, &which.name).and_then(|cluster| show(&cluster));
        run.keep()?;
        return shown;
    }
    if let Some(cluster) = Cluster::in_users_docker(&cache, &which.name)? {
        return show(&cluster);
    }
    progress::say(format_args!("no cluster {0} is up: `cargo xtask kind up --name {0}` brings it up", which.name));
    Ok(())
}

fn show(cluster: &Cluster) -> Result<()> {
    let key = LABEL.split('=').next().unwrap_or(LABEL);
    progress::say(cluster.kubectl().args(["get", "nodes", "-o", "wide", "--label-columns", key]).text()?);
    progress::say(cluster.kubectl().args(["get", "pods", "--all-namespaces", "-o", "wide"]).text()?);
    explain(cluster);
    Ok(())
}
