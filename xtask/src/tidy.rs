//! `cargo xtask tidy`: house rules that no lint can see.

use anyhow::Result;

/// House rules that no lint can see.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
