//! `cargo xtask gen`: writes the files that are generated from the code, or checks them. It runs
//! the package `generate`, so that xtask does not link the operator.

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
    progress::print_line(if said.is_empty() {
        "everything was up to date"
    } else {
        &said
    });
    Ok(())
}

/// Returns the command that fails, and names stale files, if there are any.
pub(crate) fn checking() -> Result<Run> {
    Ok(program()?.arg("--check"))
}

fn program() -> Result<Run> {
    Ok(Run::new(setup::executable("generate")?).current_dir(setup::repository()))
}
