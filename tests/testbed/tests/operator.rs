//! The operator on a real cluster: what nodes go through, and what they are like afterwards.
//!
//! `cargo xtask test --class cluster` runs it, on a cluster of its own, one test after the other: each changes nodes. Each
//! test makes its own runtimes and takes them away again, and after each every node has to be byte for byte what it was
//! before, with every pod that ran there before still running. Themes: [`install`], [`upgrade`], [`failures`],
//! [`disturbances`], [`removal`], [`rights`].

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Trial};
use testbed::prepared::Preparation;
use testbed::teardown::Run;

#[path = "operator/bed.rs"]
mod bed;
#[path = "operator/nodes.rs"]
mod nodes;
#[path = "operator/runtimes.rs"]
mod runtimes;
#[path = "operator/install.rs"]
mod install;
#[path = "operator/upgrade.rs"]
mod upgrade;
#[path = "operator/failures.rs"]
mod failures;
#[path = "operator/disturbances.rs"]
mod disturbances;
#[path = "operator/removal.rs"]
mod removal;
#[path = "operator/rights.rs"]
mod rights;

use bed::{Bed, Test};

const THEMES: &[&[Test]] = &[install::TESTS, upgrade::TESTS, failures::TESTS, disturbances::TESTS, rights::TESTS, removal::TESTS];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    // Each test changes nodes that the others need.
    args.test_threads = Some(1);
    let prepared = match Preparation::from_environment()? {
        Preparation::Missing(reason) => return Ok(libtest_mimic::run(&args, without(&reason)).exit_code()),
        Preparation::Done(prepared) => prepared,
    };
    // Listing, and a filter that no test passes, must not bring up a cluster.
    let wanted = |test: &Test| !args.list && !args.is_filtered_out(&Trial::test(test.name, || Ok(())));
    if !tests().any(wanted) {
        let trials = tests().map(|test| Trial::test(test.name, || Ok(()))).collect();
        return Ok(libtest_mimic::run(&args, trials).exit_code());
    }
    let run = Run::start("operator")?;
    let bed = Arc::new(Bed::up(&run, &prepared)?);
    let trials = tests().map(|test| {
        let bed = Arc::clone(&bed);
        Trial::test(test.name, move || bed.perform(test))
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    run.finish()?;
    Ok(conclusion.exit_code())
}

fn tests() -> impl Iterator<Item = &'static Test> {
    THEMES.iter().copied().flatten()
}

/// Every test, ignored for this reason.
fn without(reason: &str) -> Vec<Trial> {
    let ignored = |test: &Test| {
        let reason = reason.to_owned();
        Trial::ignorable_test(test.name, move || Ok(Completion::ignored_with(reason)))
    };
    tests().map(ignored).collect()
}
