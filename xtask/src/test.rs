//! `cargo xtask test`: runs every class of tests with its prerequisites, and prints a summary with
//! a machine-readable last line.
//!
//! - [`class`]: the classes, and the `cargo` commands that run them.
//! - [`prepare`]: prerequisites of the node and cluster classes, made once and recorded in a file.
//! - [`execute`]: one command, its output shown as it arrives.
//! - [`counts`]: passed, failed and skipped tests in the output.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use testbed::cache::Cache;
use testbed::progress;
use testbed::teardown::Run;

use crate::setup;

mod class;
mod execute;
mod prepare;
mod counts;

use class::Class;
use counts::TestCounts;
use prepare::Prerequisites;

/// Runs the tests and sums them up; the last line reads `N passed, N failed, N skipped`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this class; may be given several times [default: all]
    #[arg(long, value_enum)]
    class: Vec<Class>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args {
        class: mut classes,
        filter,
    } = args;
    classes.sort();
    classes.dedup();
    if classes.is_empty() {
        classes = Class::ALL.to_vec();
    }
    let cache = Cache::open()?;
    setup::prepare(&cache)?;
    let run = Run::start("test")?;
    let mut prerequisites = Prerequisites::new(&cache, run.folder());
    let mut results = Vec::new();
    for class in classes {
        let started = Instant::now();
        progress::print_line(format_args!("\n══ {class} ══"));
        let mut counts = match prerequisites.prepare_for(class) {
            Ok(prepare::Readiness::Ready) => {
                execute_class(&run, class, filter.as_deref(), prerequisites.file())
            }
            Ok(prepare::Readiness::Impossible(reason)) => TestCounts::skipped(&reason),
            // A class that cannot even start must not keep the others from running.
            Err(error) => TestCounts::broken(&format!("{error:#}")),
        };
        counts.took = started.elapsed();
        results.push((class, counts));
    }
    run.finish()?;
    let sum = counts::summary(&results);
    for line in sum.lines {
        progress::print_line(line);
    }
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn execute_class(
    run: &Run,
    class: Class,
    filter: Option<&str>,
    prepared: Option<&Path>,
) -> TestCounts {
    let commands = match class
        .commands(filter)
        .with_context(|| format!("find the tests of class {class}"))
    {
        Ok(commands) => commands,
        Err(error) => return TestCounts::broken(&format!("{error:#}")),
    };
    let mut sum = TestCounts::default();
    for words in commands {
        sum.add(
            execute::cargo(run, &words, prepared)
                .unwrap_or_else(|error| TestCounts::broken(&format!("{error:#}"))),
        );
    }
    sum
}
