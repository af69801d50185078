//! The command line, signals, and the report: whatever happens in between, a report is written.

use std::ffi::OsString;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use installer_protocol::report::{HostFacts, Restart};
use installer_protocol::{Outcome, Reason, Report, Request, Stage, Verb};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::guard::Ended;
use crate::host::{self, HostRoot};
use crate::services::Services;
use crate::stage::{Job, Node, Stop};
use crate::{guard, install, uninstall};

/// Puts the WasmEdge runtime on this node, or takes it away.
#[derive(Debug, Parser)]
#[command(
    name = "node-installer",
    version,
    about,
    subcommand_negates_reqs = true
)]
struct Cli {
    /// What is to be done, as the operator writes it
    #[arg(long, value_name = "JSON", required = true)]
    request: Option<String>,
    /// Where the host's root is mounted
    #[arg(long, value_name = "FOLDER", default_value = "/host")]
    host_root: PathBuf,
    /// Where the report is written to
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    termination_log: PathBuf,
    /// Log every change before it is made; twice: and every call
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
enum Command {
    /// Becomes a program inside the host's root
    #[command(name = host::IN_ROOT, hide = true)]
    InRoot {
        /// The host's root
        root: PathBuf,
        /// The program, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Goes back if an installation is not finished
    #[command(name = guard::COMMAND, hide = true)]
    Guard {
        /// Which attempt is watched
        #[arg(long)]
        attempt: String,
        /// What that attempt was to do
        #[arg(long, value_name = "JSON")]
        request: String,
    },
}

/// The command line, for the reference.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Cli {
        request,
        host_root,
        termination_log,
        verbose,
        command,
    } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; whether they can be printed changes nothing.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    if let Some(Command::InRoot { root, command }) = command {
        return in_root(&root, &command);
    }
    log(verbose);
    if let Some(Command::Guard { attempt, request }) = command {
        return end_of(watch(&host_root, &attempt, &request));
    }
    let report = reported(&host_root, &request.unwrap_or_default());
    tracing::info!(outcome = ?report.outcome, stage = ?report.stage,
        reason = report.reason.as_str(), text = report.message, "report");
    let written = fs::write(&termination_log, report.to_message())
        .with_context(|| format!("write the report to {}", termination_log.display()));
    end_of(written.map(|()| report.outcome))
}

/// 0 when all went well.
fn end_of(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Installed | Outcome::Removed) => ExitCode::SUCCESS,
        Ok(Outcome::Refused | Outcome::RolledBack | Outcome::Broken) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

/// Does what `request` says. A panic becomes a report, too.
fn reported(host_root: &Path, request: &str) -> Report {
    let done = panic::catch_unwind(AssertUnwindSafe(|| done(host_root, request)));
    let (reason, message) = match done {
        Ok(Ok(report)) => return report,
        Ok(Err(error)) => (Reason::InvalidRequest, format!("{error:#}")),
        // Whether containerd's configuration was changed is in the record: the next installer goes
        // on from there.
        Err(panic) => (
            Reason::Interrupted,
            format!(
                "the installer broke off, which is a mistake in it: {}",
                text_of(&*panic)
            ),
        ),
    };
    report(Outcome::Refused, reason, message)
}

fn done(host_root: &Path, request: &str) -> Result<Report> {
    let request: Request = serde_json::from_str(request)
        .context("read --request: is the installer as old as the operator?")?;
    let root = HostRoot::new(host_root);
    let services = Services::new(root.clone())?;
    let stop = Arc::new(Stop::default());
    end_on_signals(&services, &stop)?;
    let node = Node {
        root: &root,
        machine: &services,
        stop: &stop,
    };
    tracing::info!(runtime = request.runtime, verb = ?request.verb,
        distribution = ?request.distribution, mode = ?request.mode, "started");
    Ok(perform(node, &request))
}

/// Does what a request says, under the node's lock.
pub fn perform(node: Node<'_>, request: &Request) -> Report {
    let held = Job::new(node, request).and_then(|job| job.lock().map(|lock| (job, lock)));
    match held {
        Ok((job, _lock)) => match request.verb {
            Verb::Install => install::run(&job),
            Verb::Uninstall => uninstall::run(&job),
        },
        Err(failure) => report(Outcome::Refused, failure.reason, failure.message()),
    }
}

/// Watches an attempt, as a unit on the host.
fn watch(host_root: &Path, attempt: &str, request: &str) -> Result<Outcome> {
    let request: Request = serde_json::from_str(request).context("read --request")?;
    let root = HostRoot::new(host_root);
    let services = Services::new(root.clone())?;
    let stop = Stop::default();
    let job = Job::new(
        Node {
            root: &root,
            machine: &services,
            stop: &stop,
        },
        &request,
    )
    .map_err(|failure| failure.error)?;
    let ended = guard::watch(&job, attempt);
    tracing::info!(?ended, "the guard ended");
    Ok(if ended == Ended::TooOld {
        Outcome::Broken
    } else {
        Outcome::Removed
    })
}

/// SIGTERM is the end of the pod's time: nothing new is begun then.
fn end_on_signals(services: &Services, stop: &Arc<Stop>) -> Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let _entered = services.runtime().enter();
        let mut signals = signal(kind).context("listen to signals")?;
        let stop = Arc::clone(stop);
        services.runtime().spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!("asked to end: what is begun is finished or taken back");
                stop.ask();
            }
        });
    }
    Ok(())
}

fn in_root(root: &Path, command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(2);
    };
    let error = host::become_program(root, program, arguments);
    // To whoever started this: it is his program's standard error.
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
        host: HostFacts::default(),
        installed: None,
        restart: Restart::NotNeeded,
    }
}

/// What a panic says.
fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned())
}
