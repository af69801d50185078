//! `cargo xtask kind env`.

use anyhow::{Context as _, Result};
use testbed::helm::Helm;
use testbed::progress;
use testbed::tour::Shell;

use super::{Which, with_cluster};

pub(super) fn run(which: &Which) -> Result<()> {
    let exports = with_cluster(which, |cache, cluster| {
        Ok(Shell::of(cluster, &Helm::find(cache)?)?.exports())
    })?;
    progress::print_line(exports.with_context(|| {
        format!(
            "no cluster {0} is up: `cargo xtask kind create --name {0}`",
            which.name
        )
    })?);
    Ok(())
}
