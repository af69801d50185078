//! `cargo xtask ci`: everything that a change must pass.

use anyhow::Result;

/// Everything that a change must pass.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
