//! `cargo xtask kind down`.

use anyhow::{Result, bail};
use testbed::cache::Cache;
use testbed::cluster::Cluster;
use testbed::progress;
use testbed::teardown::Run;

use super::Which;

pub(super) fn run(which: &Which) -> Result<()> {
    if let Some(run) = Run::kept(&which.run())? {
        return progress::step(format_args!("removed the cluster {}", which.name), || {
            run.finish()
        });
    }
    if let Some(cluster) = Cluster::in_users_docker(&Cache::open()?, &which.name)? {
        return progress::step(
            format_args!("removed the cluster {} from your Docker", which.name),
            || cluster.delete_from_users_docker(),
        );
    }
    bail!(
        "no cluster {} is up, so there is nothing to remove",
        which.name
    );
}
