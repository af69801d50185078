//! `cargo xtask test`: every class of tests, each with what it needs, and a summary whose last line
//! a machine can read.
//!
//! * [`class`]: which classes there are, and the `cargo` commands that run them.
//! * [`prepare`]: what the node and cluster classes need, made once and written down for them.
//! * [`execute`]: one command, its output shown as it comes.
//! * [`tally`]: what its output says of passed, failed and skipped tests.

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
mod tally;

use class::Class;
use prepare::Means;
use tally::Tally;

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
    let mut means = Means::new(&cache, run.folder());
    let mut tallies = Vec::new();
    for class in classes {
        let started = Instant::now();
        progress::say(format_args!("\n══ {class} ══"));
        let mut tally = match means.prepare_for(class) {
            Ok(prepare::Readiness::Ready) => {
                execute_class(&run, class, filter.as_deref(), means.file())
            }
            Ok(prepare::Readiness::Impossible(reason)) => Tally::skipped(&reason),
            // One class that cannot even start must not keep the others from running.
            Err(error) => Tally::broken(&format!("{error:#}")),
        };
        tally.took = started.elapsed();
        tallies.push((class, tally));
    }
    run.finish()?;
    let sum = tally::summary(&tallies);
    for line in sum.lines {
        progress::say(line);
    }
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn execute_class(run: &Run, class: Class, filter: Option<&str>, prepared: Option<&Path>) -> Tally {
    let commands = match class
        .commands(filter)
        .with_context(|| format!("find the tests of class {class}"))
    {
        Ok(commands) => commands,
        Err(error) => return Tally::broken(&format!("{error:#}")),
    };
    let mut sum = Tally::default();
    for words in commands {
        sum.add(
            execute::cargo(run, &words, prepared)
                .unwrap_or_else(|error| Tally::broken(&format!("{error:#}"))),
        );
    }
    sum
}
