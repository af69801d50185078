//! `cargo xtask demo`: runs an OCI-packaged Wasm image on a containerd of its own.

use anyhow::Result;

/// Runs an OCI-packaged Wasm image on a containerd of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    anyhow::bail!("not written yet")
}
