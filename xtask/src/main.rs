//! The project's tasks, one file each; `cargo xtask --help` lists them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod setup;
mod bundle;
mod images;
mod demo;
mod kind;
mod pack;
mod test;
mod bench;
mod generate;
mod tidy;
mod ci;
mod clean;

#[derive(Debug, clap::Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's tasks",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    Setup(setup::Args),
    Bundle(bundle::Args),
    Images(images::Args),
    Demo(demo::Args),
    Kind(kind::Args),
    Pack(pack::Args),
    Test(test::Args),
    Bench(bench::Args),
    #[command(name = "gen")]
    Generate(generate::Args),
    Tidy(tidy::Args),
    Ci(ci::Args),
    Clean(clean::Args),
}

fn main() -> ExitCode {
    let task = || {
        // Before anything is opened: a cluster's servers inherit descriptors and outlive this
        // process.
        testbed::descriptors::close_inherited()?;
        run(Cli::parse().task)
    };
    task().unwrap_or_else(|error| {
        testbed::progress::print_line(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        // The exit status of these two is that of the guest or of the tests.
        Task::Demo(args) => return demo::run(&args),
        Task::Test(args) => return test::run(args),
        Task::Setup(args) => setup::run(args)?,
        Task::Bundle(args) => bundle::run(args)?,
        Task::Images(args) => images::run(args)?,
        Task::Kind(args) => kind::run(args)?,
        Task::Pack(args) => pack::run(args)?,
        Task::Bench(args) => bench::run(args)?,
        Task::Generate(args) => generate::run(args)?,
        Task::Tidy(args) => tidy::run(args)?,
        Task::Ci(args) => ci::run(args)?,
        Task::Clean(args) => clean::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
