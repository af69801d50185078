//! One long-lived client of containerd, its CRI and its shims that times its requests, run by
//! `cargo xtask bench`.
//!
//! The plan (subjects, number of rounds) is read as JSON from standard input, and the samples are
//! written as JSON to standard output: for each subject and each measurement the values in the
//! order of the rounds. Subjects take turns within each round, and each round begins with another
//! subject, so that disturbances of the machine affect all alike.
//!
//! * [`plan`]: the input and the output.
//! * [`containerd`]: containers, tasks and events of containerd; [`cri`]: pods.
//! * [`output`]: output of tasks.
//! * [`commands`]: a command line, from its start to its end.
//! * [`tasks`]: one task through containerd's API; [`shim`]: the same, directly through the shim.
//! * [`pods`]: sandboxes of pods.
//! * [`churn`]: containers per second.
//! * [`idle`]: idle containers, for measurements by the caller.
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

mod plan;
mod containerd;
mod cri;
mod output;
mod commands;
mod tasks;
mod shim;
mod pods;
mod churn;
mod idle;

use containerd::Containerd;
use cri::Cri;
use plan::{Plan, Samples};

/// Times requests to containerd; the plan is read from standard input.
#[derive(Debug, clap::Parser)]
struct Args {
    /// containerd's socket
    #[arg(long)]
    address: PathBuf,
    /// containerd's namespace
    #[arg(long)]
    namespace: String,
    /// What to time
    #[command(subcommand)]
    what: Benchmark,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Benchmark {
    /// Command lines, from start to end
    Commands,
    /// Tasks through containerd: create, start, exit event, delete
    Tasks,
    /// Tasks without containerd: its shims are started and asked directly
    Shim,
    /// Sandboxes of pods: run, stop and remove
    Pods,
    /// Containers per second
    Churn,
    /// Starts idle containers that stay
    Idle,
    /// Removes them
    Clear,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The caller shows standard error.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let Args {
        address,
        namespace,
        what,
    } = args;
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("read the plan from standard input")?;
    let plan: Plan = serde_json::from_str(&text).context("read the plan")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime for the clients")?;
    let samples = runtime.block_on(async {
        let containerd = || Containerd::connect(&address, &namespace);
        anyhow::Ok(match what {
            Benchmark::Commands => commands::run(&plan).await?,
            Benchmark::Tasks => tasks::run(&containerd().await?, &plan).await?,
            Benchmark::Shim => shim::run(&containerd().await?, &plan).await?,
            Benchmark::Pods => pods::run(&Cri::connect(&address).await?, &plan).await?,
            Benchmark::Churn => churn::run(&containerd().await?, &plan).await?,
            Benchmark::Idle => {
                idle::start(&containerd().await?, &Cri::connect(&address).await?, &plan)
                    .await
                    .map(|()| Samples::default())?
            }
            Benchmark::Clear => idle::clear(&containerd().await?, &Cri::connect(&address).await?)
                .await
                .map(|()| Samples::default())?,
        })
    })?;
    serde_json::to_writer(std::io::stdout().lock(), &samples).context("write the samples")
}
