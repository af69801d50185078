//! `cargo xtask kind status`.

use anyhow::Result;
use testbed::cluster::{Cluster, operator};
use testbed::progress;

use super::explain::explain;
use super::{Which, with_cluster};

pub(super) fn run(which: &Which) -> Result<()> {
    let shown = with_cluster(which, |_, cluster| show(&which.name, cluster))?;
    if shown.is_none() {
        progress::print_line(format_args!(
            "no cluster {0} is up: `cargo xtask kind up --name {0}` brings it up",
            which.name
        ));
    }
    Ok(())
}

fn show(name: &str, cluster: &Cluster) -> Result<()> {
    progress::print_line(
        cluster
            .kubectl()
            .args([
                "get",
                "nodes",
                "-o",
                "wide",
                "--label-columns",
                operator::READY_LABEL,
            ])
            .text()?,
    );
    progress::print_line(
        cluster
            .kubectl()
            .args(["get", "pods", "--all-namespaces", "-o", "wide"])
            .text()?,
    );
    // A cluster on which the chart was never installed has no such objects.
    let runtimes = cluster
        .kubectl()
        .args(["get", "wasmruntimes,wasmruntimenodes"])
        .output()?;
    if runtimes.status.success() {
        progress::print_line(String::from_utf8_lossy(&runtimes.stdout).trim_end());
    }
    explain(name, cluster);
    Ok(())
}
