//! `cargo xtask clean`: removes what earlier runs cached.

use anyhow::Result;

/// Removes what earlier runs cached.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
