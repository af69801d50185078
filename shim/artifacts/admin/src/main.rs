//! `artifacts`, the administrator's command for the compiled guests of a node. It is static, and
//! needs nothing of the runtime but the store's folder.
//!
//! | module | content |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`list`], [`verify`], [`remove`], [`gc`] | a command each: what it does, and its report |
//! | [`report`] | reports as tables for people, as JSON for programs; exit codes |
//! | [`select`] | keys from their first digits |
//! | [`table`] | columns, sizes and ages |
//!
//! A new command is a module like those, and a variant of [`cli::Command`].
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use artifact_store::{Percent, Store, StoreOptions};
use clap::Parser as _;

mod cli;
mod list;
mod verify;
mod remove;
mod gc;
mod report;
mod select;
mod table;

use cli::{Arguments, Command};
use report::{Printed, printed};

fn main() -> ExitCode {
    // What the store could not do beside the work that was asked for.
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .without_time();
    log.init();
    match run(std::env::args_os()) {
        Ok(Printed { text, code }) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => code,
            // The reader has closed its end.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => {
                let _ = usage.print();
                ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(1))
            }
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "artifacts: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<Printed> {
    let arguments = Arguments::try_parse_from(arguments)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "the artifact store belongs to root: run the command as root"
    );
    let store = open(&arguments)?;
    let format = arguments.format();
    match &arguments.command {
        Command::List => printed(&list::list(&store, &arguments.store)?, format),
        Command::Verify { keys } => printed(&verify::verify(&store, keys)?, format),
        Command::Remove { keys } => printed(&remove::remove(&store, keys)?, format),
        Command::Gc(_) => printed(&gc::collect(&store)?, format),
    }
}

/// Opens the store, which must exist: no command but a host makes one.
fn open(arguments: &Arguments) -> Result<Store> {
    let folder = &arguments.store;
    let exists = folder
        .try_exists()
        .with_context(|| format!("look for the artifact store {}", folder.display()))?;
    ensure!(
        exists,
        "there is no artifact store at {}: it is made for the first guest that is compiled; name \
         another folder with --store",
        folder.display()
    );
    let limits = match &arguments.command {
        Command::Gc(limits) => *limits,
        Command::List | Command::Verify { .. } | Command::Remove { .. } => cli::Limits::default(),
    };
    let options = StoreOptions {
        folder: folder.clone(),
        max_bytes: limits.max_bytes(),
        max_disk_share: limits.max_disk_percent.unwrap_or(Percent::WHOLE),
    };
    Ok(Store::open(options)?)
}
