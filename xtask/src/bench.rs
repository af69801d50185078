//! `cargo xtask bench`: the cost of containers on this runtime, beside runc and other projects'
//! shims.
//!
//! - [`subject`]: the measured runtimes; [`programs`]: the programs that they run.
//! - [`environment`]: the containerd that they all use; [`client`]: the program that makes the
//!   timed calls.
//! - [`start`], [`density`], [`churn`]: on one containerd; [`burst`]: in a kind cluster.
//! - [`processes`], [`machine`]: data of the kernel.
//! - [`statistics`], [`report`]: evaluation of samples, and reports.
//!
//! No figure is a failure: times are reported, not judged.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use testbed::cache::Cache;
use testbed::command;
use testbed::containerd::Install;
use testbed::teardown::Run;
use testbed::{progress, requirements};

use crate::setup;

mod subject;
mod programs;
mod environment;
mod client;
mod start;
mod density;
mod churn;
mod burst;
mod processes;
mod machine;
mod statistics;
mod report;

use environment::{Cgroups, Environment};
use machine::Machine;
use report::{Bench, Figure, Report, page, readme, recorded, table};
use subject::peer::{self, Peer};
use subject::{BuiltIn, Field};

/// The folder of all samples, which git ignores; the file of the recorded runs, and the page that
/// is generated from it.
const SAMPLES: &str = "target/bench";
const RECORDED: &str = "docs/benchmarks.json";
const PAGE: &str = "docs/benchmarks.md";
const README: &str = "README.md";

/// Measures what containers cost: this runtime, runc and other projects' shims, side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: all]
    #[arg(value_enum)]
    bench: Vec<Bench>,
    /// Of runc and this runtime, only this one; may be given several times [default: both]
    #[arg(long, value_enum)]
    subject: Vec<BuiltIn>,
    /// Also measures the containerd shim of another project: a name for it, its executable, and the
    /// form in which it takes its program: `rootfs` (a Wasm module as the entrypoint), `layer` (a
    /// Wasm module in a layer of its own) or `native` (a Linux program) [default: rootfs]; may be
    /// given several times
    #[arg(long, value_name = peer::FORM, value_parser = Peer::parse)]
    peer: Vec<Peer>,
    /// Measures the runtime bundle in this folder as ours, in place of this checkout's
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Also writes the figures into docs/benchmarks.json and docs/benchmarks.md, and a few into the
    /// README
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    extent: Extent,
}

/// The amount of measurements.
#[derive(Debug, Clone, clap::Args)]
struct Extent {
    /// start: how many rounds count
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// density: how many containers there are in the end
    #[arg(long, default_value_t = 200)]
    containers: usize,
    /// density: how often
    #[arg(long, default_value_t = 3)]
    densities: usize,
    /// burst: how many pods
    #[arg(long, default_value_t = 60)]
    pods: usize,
    /// burst: how often
    #[arg(long, default_value_t = 3)]
    bursts: usize,
    /// churn: how long, for each subject
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    requirements::require_root_and_kernel("bench")?;
    let Args {
        bench,
        subject,
        peer,
        bundle,
        record,
        extent,
    } = args;
    // Before everything that takes long.
    let peers = subject::of_peers(&peer)?;
    let cache = Cache::open()?;
    setup::prepare(&cache)?;
    let install = Install::current(&cache)?;
    let built_in = chosen(subject, &[BuiltIn::Runc, BuiltIn::Ours]);
    let field = Field::assemble(&cache, &install, &built_in, peers, bundle.as_deref())?;
    let frame = Frame {
        command: command_line()?,
        date: machine::today()?,
        commit: commit()?,
        machine: Machine::here(&install.version)?,
        field,
    };
    let run = Run::start("bench")?;
    let mut environment = None;
    for bench in chosen(
        bench,
        &[Bench::Start, Bench::Density, Bench::Burst, Bench::Churn],
    ) {
        progress::print_line(format_args!("\n══ {} ══", bench.name()));
        let (figures, notes) = match bench {
            Bench::Burst => burst::measure(&cache, &run, &frame.field.subjects, &extent)?,
            Bench::Start | Bench::Density | Bench::Churn => {
                let environment: &Environment = match &mut environment {
                    Some(environment) => environment,
                    empty @ None => empty.insert(Environment::start(
                        &cache,
                        &run,
                        &install,
                        &frame.field.subjects,
                        Cgroups::Machine,
                    )?),
                };
                let (mut figures, notes) = measure_in(bench, environment, &extent)?;
                if bench == Bench::Start {
                    let environment = Environment::start(
                        &cache,
                        &run,
                        &install,
                        &frame.field.subjects,
                        Cgroups::Unified,
                    )?;
                    figures.extend(start::on_unified_cgroups(&environment, &extent)?);
                }
                (figures, notes)
            }
        };
        frame.publish(bench, figures, notes, record)?;
    }
    run.finish()
}

/// The parts that all reports of one run share.
#[derive(Debug)]
struct Frame {
    command: String,
    date: String,
    commit: String,
    machine: Machine,
    field: Field,
}

impl Frame {
    /// Prints and writes the results.
    fn publish(
        &self,
        bench: Bench,
        figures: Vec<Figure>,
        notes: Vec<String>,
        record: bool,
    ) -> Result<()> {
        let Self {
            command,
            date,
            commit,
            machine,
            field,
        } = self;
        let report = Report {
            bench,
            command: command.clone(),
            date: date.clone(),
            commit: commit.clone(),
            machine: machine.clone(),
            parts: field.parts.clone(),
            notes,
            figures,
        };
        table::lines(&report).iter().for_each(progress::print_line);
        let folder = setup::repository().join(SAMPLES);
        report.write(&folder)?;
        progress::print_line(format_args!(
            "wrote {}",
            folder.join(format!("{}.json", bench.name())).display()
        ));
        if record {
            let recorded = setup::repository().join(RECORDED);
            let reports = recorded::with(recorded::read(&recorded)?, &report);
            recorded::write(&recorded, &reports)?;
            let page = setup::repository().join(PAGE);
            std::fs::write(&page, page::text(&reports))
                .with_context(|| format!("write {}", page.display()))?;
            let readme = setup::repository().join(README);
            let text = std::fs::read_to_string(&readme)
                .with_context(|| format!("read {}", readme.display()))?;
            std::fs::write(&readme, readme::with_figures(&text, &reports)?)
                .with_context(|| format!("write {}", readme.display()))?;
        }
        Ok(())
    }
}

fn measure_in(
    bench: Bench,
    environment: &Environment,
    extent: &Extent,
) -> Result<(Vec<Figure>, Vec<String>)> {
    Ok(match bench {
        Bench::Start => {
            let notes = vec![
                format!("{} rounds, after {} warm-up rounds.", extent.rounds, start::WARM_UP),
                "\"one client\" is a client with an open connection and a prepared container: only \
                 the shim starts programs."
                    .to_owned(),
                format!(
                    "\"the shim itself\" is called over ttrpc without containerd, so the cost of \
                     containerd is excluded, for containers without a new network namespace, as \
                     those of a pod; {} times as many rounds. Only this project's shims can be \
                     called like that.",
                    start::SHIM_ROUNDS
                ),
                "\"on cgroup v2\" is the unified hierarchy; on a machine with cgroup v1 it has no \
                 controllers, so no limits are written."
                    .to_owned(),
            ];
            (start::measure(environment, extent)?, notes)
        }
        Bench::Density => {
            let what = "All processes that containerd and its shims started are counted, without \
                        containerd itself. \
                        Marginal figures are the slope from the first number of containers to the \
                        last.";
            (
                density::measure(environment, extent)?,
                vec![what.to_owned()],
            )
        }
        Bench::Churn => {
            let turns = format!(
                "{} s for each subject, in turns; a container's life is from the creation of its \
                 root to its removal.",
                extent.seconds
            );
            (churn::measure(environment, extent)?, vec![turns])
        }
        Bench::Burst => anyhow::bail!("a burst needs a cluster"),
    })
}

/// Returns the named values in order and without duplicates; all of them if none was named.
fn chosen<T: Copy + Ord>(named: Vec<T>, all: &[T]) -> Vec<T> {
    let mut chosen = if named.is_empty() {
        all.to_vec()
    } else {
        named
    };
    chosen.sort();
    chosen.dedup();
    chosen
}

/// Returns the command line in the form in which it is typed.
fn command_line() -> Result<String> {
    let program = if setup::as_built()?.is_empty() {
        "cargo xtask"
    } else {
        "cargo run --release --package xtask --"
    };
    Ok(std::iter::once(program.to_owned())
        .chain(peer::without_paths(std::env::args().skip(1)))
        .collect::<Vec<_>>()
        .join(" "))
}

/// Returns the commit that is checked out, with `-dirty` if files differ from it.
fn commit() -> Result<String> {
    let describe = ["describe", "--always", "--dirty", "--exclude=*"];
    let output = command::Run::new("git")
        .args(describe)
        .current_dir(setup::repository())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(if output.status.success() && !text.is_empty() {
        text
    } else {
        "unknown".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_measured_by_default_and_nothing_twice() {
        assert_eq!(
            chosen(Vec::new(), &[BuiltIn::Runc, BuiltIn::Ours]),
            [BuiltIn::Runc, BuiltIn::Ours]
        );
        assert_eq!(
            chosen(vec![BuiltIn::Ours, BuiltIn::Runc, BuiltIn::Ours], &[]),
            [BuiltIn::Runc, BuiltIn::Ours]
        );
    }
}
