//! `cargo xtask gen`: writes what is generated from the code, or checks that it was. The package
//! `generate` does it, so that this one need not link the operator.

use anyhow::Result;
use testbed::command::Run;
use testbed::progress;

use crate::setup;

/// Writes what is generated from the code: the chart's CRDs, roles and README, and the pages of
/// docs/reference.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Write nothing, and fail if something is not what it would be
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args { check } = args;
    let said = if check { checking()? } else { program()? }.text()?;
    progress::say(if said.is_empty() {
        "everything was up to date"
    } else {
        &said
    });
    Ok(())
}

/// The command that fails, and names what is stale, if something is.
pub(crate) fn checking() -> Result<Run> {
    Ok(program()?.arg("--check"))
}

fn program() -> Result<Run> {
    Ok(Run::new(setup::executable("generate")?).current_dir(setup::repository()))
}
