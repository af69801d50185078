//! `cargo xtask setup`: puts what plain `cargo` needs into `.deps`: WasmEdge's headers and library.

use anyhow::Result;

/// Puts what plain `cargo` needs into `.deps`: WasmEdge's headers and library.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
