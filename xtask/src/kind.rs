//! `cargo xtask kind`: kind clusters that have the runtime on one worker.

use anyhow::Result;

/// Kind clusters that have the runtime on one worker.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
