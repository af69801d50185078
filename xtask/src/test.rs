//! `cargo xtask test`: runs the test classes and sums them up.

use anyhow::Result;

/// Runs the test classes and sums them up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
