//! `cargo xtask pack`: makes and pushes CNCF Wasm artifacts.

use anyhow::Result;

/// Makes and pushes CNCF Wasm artifacts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
