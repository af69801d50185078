//! The command line, signals, and the report, which is written whatever happens.

use std::ffi::OsString;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use installer_protocol::report::{ContainerdFacts, Restart};
use installer_protocol::{Outcome, Reason, Report, Request, Stage, Verb};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::guard::GuardEnd;
use crate::installation::{Cancellation, Installation, TargetNode};
use crate::node_root::{self, NodeRoot};
use crate::services::Services;
use crate::{guard, guard_unit, install, uninstall};

/// Puts the WasmEdge runtime on this node, or takes it away.
#[derive(Debug, Parser)]
#[command(
    name = "node-installer",
    version,
    about,
    subcommand_negates_reqs = true
)]
struct Arguments {
    /// The request of the operator
    #[arg(long, value_name = "JSON", required = true)]
    request: Option<String>,
    /// Folder at which the node's root is mounted
    #[arg(long, value_name = "FOLDER", default_value = "/host")]
    host_root: PathBuf,
    /// File for the report
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    termination_log: PathBuf,
    /// Log each change before it is made; given twice, also each call
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<HiddenCommand>,
}

/// The commands that the installer runs itself with.
#[derive(Debug, Subcommand)]
enum HiddenCommand {
    /// Executes a program inside the node's root
    #[command(name = node_root::IN_ROOT, hide = true)]
    InRoot {
        /// The node's root
        root: PathBuf,
        /// The program, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Rolls back an installation that is not finished
    #[command(name = guard_unit::COMMAND, hide = true)]
    Guard {
        /// The attempt to watch
        #[arg(long)]
        attempt: String,
        /// The request of that attempt
        #[arg(long, value_name = "JSON")]
        request: String,
    },
}

/// Returns the command line, for the reference pages.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the program with these arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Arguments {
        request,
        host_root,
        termination_log,
        verbose,
        command,
    } = match Arguments::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Also for --help and --version; a failure to print does not matter.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    if let Some(HiddenCommand::InRoot { root, command }) = command {
        return in_root(&root, &command);
    }
    log(verbose);
    if let Some(HiddenCommand::Guard { attempt, request }) = command {
        return exit_code(watch(&host_root, &attempt, &request));
    }
    let report = run_request(&host_root, &request.unwrap_or_default());
    tracing::info!(outcome = ?report.outcome, stage = ?report.stage,
        reason = report.reason.as_str(), message = report.message, "report");
    let written = fs::write(&termination_log, report.to_message())
        .with_context(|| format!("write the report to {}", termination_log.display()));
    exit_code(written.map(|()| report.outcome))
}

fn exit_code(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Installed | Outcome::Removed) => ExitCode::SUCCESS,
        Ok(Outcome::Refused | Outcome::RolledBack | Outcome::Broken) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the installer failed");
            ExitCode::FAILURE
        }
    }
}

/// Performs `request`. A panic becomes a report too.
fn run_request(host_root: &Path, request: &str) -> Report {
    let done = panic::catch_unwind(AssertUnwindSafe(|| perform_json(host_root, request)));
    let (reason, message) = match done {
        Ok(Ok(report)) => return report,
        Ok(Err(error)) => (Reason::InvalidRequest, format!("{error:#}")),
        // The record has the change of containerd's configuration, and the next installer
        // continues from there.
        Err(panic) => (
            Reason::Interrupted,
            format!(
                "the installer panicked, which is a bug: {}",
                text_of(&*panic)
            ),
        ),
    };
    report(Outcome::Refused, reason, message)
}

fn perform_json(host_root: &Path, request: &str) -> Result<Report> {
    let request: Request = serde_json::from_str(request)
        .context("read --request: is the installer as old as the operator?")?;
    let root = NodeRoot::new(host_root);
    let services = Services::new(root.clone())?;
    let cancellation = Arc::new(Cancellation::default());
    cancel_on_signals(&services, &cancellation)?;
    let node = TargetNode {
        root: &root,
        machine: &services,
        cancellation: &cancellation,
    };
    tracing::info!(runtime = request.runtime, verb = ?request.verb,
        distribution = ?request.distribution, mode = ?request.mode, "started");
    Ok(perform(node, &request))
}

/// Performs a request under the node's lock.
pub fn perform(node: TargetNode<'_>, request: &Request) -> Report {
    let held = Installation::new(node, request)
        .and_then(|installation| installation.lock().map(|lock| (installation, lock)));
    match held {
        Ok((installation, _lock)) => match request.verb {
            Verb::Install => install::run(&installation),
            Verb::Uninstall => uninstall::run(&installation),
        },
        Err(failure) => report(Outcome::Refused, failure.reason, failure.message()),
    }
}

/// Runs the guard of an attempt, as a unit on the node.
fn watch(host_root: &Path, attempt: &str, request: &str) -> Result<Outcome> {
    let request: Request = serde_json::from_str(request).context("read --request")?;
    let root = NodeRoot::new(host_root);
    let services = Services::new(root.clone())?;
    let cancellation = Cancellation::default();
    let installation = Installation::new(
        TargetNode {
            root: &root,
            machine: &services,
            cancellation: &cancellation,
        },
        &request,
    )
    .map_err(|failure| failure.error)?;
    let ended = guard::watch(&installation, attempt);
    tracing::info!(?ended, "the guard ended");
    Ok(if ended == GuardEnd::TimedOut {
        Outcome::Broken
    } else {
        Outcome::Removed
    })
}

/// Handles SIGTERM and SIGINT: no new change begins after them.
fn cancel_on_signals(services: &Services, cancellation: &Arc<Cancellation>) -> Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let _entered = services.runtime().enter();
        let mut signals = signal(kind).context("listen for signals")?;
        let cancellation = Arc::clone(cancellation);
        services.runtime().spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!("stop requested: a change that has begun is finished or undone");
                cancellation.cancel();
            }
        });
    }
    Ok(())
}

fn in_root(root: &Path, command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(2);
    };
    let error = node_root::become_program(root, program, arguments);
    // The standard error belongs to the program that was to run.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!(
            "run {} inside {}: {error}\n",
            program.display(),
            root.display()
        )
        .as_bytes(),
    );
    ExitCode::from(127)
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "info,node_installer=debug",
        _ => "debug",
    };
    tracing_subscriber::fmt()
        .compact()
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(EnvFilter::new(level))
        .init();
}

fn report(outcome: Outcome, reason: Reason, message: String) -> Report {
    Report {
        outcome,
        stage: Stage::Check,
        reason,
        message,
        containerd: ContainerdFacts::default(),
        installed: None,
        restart: Restart::NotNeeded,
    }
}

/// Returns the text of a panic.
fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
