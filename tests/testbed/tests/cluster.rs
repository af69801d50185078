//! The cluster class: one kind cluster of three nodes, the runtime on one worker, pods as a user would write them.
//!
//! `cargo xtask test --class cluster` prepares what is needed and says where; without that, every test is reported as
//! ignored, with the reason. Themes, one file each: [`life`], [`images`], [`volumes`], [`sidecars`], [`placement`],
//! [`examples`]. Each test has a namespace of its own.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Trial};
use testbed::prepared::Preparation;
use testbed::teardown::Run;

#[path = "cluster/bed.rs"]
mod bed;
#[path = "cluster/manifest.rs"]
mod manifest;
#[path = "cluster/life.rs"]
mod life;
#[path = "cluster/images.rs"]
mod images;
#[path = "cluster/volumes.rs"]
mod volumes;
#[path = "cluster/sidecars.rs"]
mod sidecars;
#[path = "cluster/placement.rs"]
mod placement;
#[path = "cluster/examples.rs"]
mod examples;

use bed::{Bed, Test};

/// How many tests run at a time: most of a test's time is waiting for the cluster's own loops.
const THREADS: usize = 3;

const THEMES: &[&[Test]] = &[life::TESTS, images::TESTS, volumes::TESTS, sidecars::TESTS, placement::TESTS, examples::TESTS];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(THREADS);
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
    let run = Run::start("cluster")?;
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
