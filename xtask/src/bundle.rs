//! `cargo xtask bundle`: makes the relocatable runtime folder.

use anyhow::Result;

/// Makes the relocatable runtime folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
