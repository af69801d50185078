//! The operator on a real cluster: changes of nodes, and their state afterwards.
//!
//! `cargo xtask test --class cluster` runs it on a separate cluster, one test after the other: each
//! changes nodes. Each test creates and removes its own runtimes. After each, every node must be
//! byte for byte what it was before, with all earlier pods still running. Themes: [`release`] and
//! [`ways_out`], which begin without the operator, [`install`], [`upgrade`], [`options`],
//! [`failures`], [`disturbances`], [`removal`], [`rights`].

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion};
use testbed::program;

#[path = "operator/fixture.rs"]
mod fixture;
#[path = "operator/nodes.rs"]
mod nodes;
#[path = "operator/runtimes.rs"]
mod runtimes;
#[path = "operator/watch.rs"]
mod watch;
#[path = "operator/release.rs"]
mod release;
#[path = "operator/ways_out.rs"]
mod ways_out;
#[path = "operator/install.rs"]
mod install;
#[path = "operator/upgrade.rs"]
mod upgrade;
#[path = "operator/options.rs"]
mod options;
#[path = "operator/failures.rs"]
mod failures;
#[path = "operator/disturbances.rs"]
mod disturbances;
#[path = "operator/removal.rs"]
mod removal;
#[path = "operator/rights.rs"]
mod rights;

use fixture::{Fixture, Test};

/// The releases come first: the duration until the first pod is measured on a cluster that has
/// never had the runtime.
const THEMES: &[&[Test]] = &[
    release::TESTS,
    ways_out::TESTS,
    install::TESTS,
    upgrade::TESTS,
    options::TESTS,
    failures::TESTS,
    disturbances::TESTS,
    rights::TESTS,
    removal::TESTS,
];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    // Each test changes nodes that the others need.
    args.test_threads = Some(1);
    let all = tests().map(|test| test.name);
    program::run(&args, "operator", all, |run, prepared| {
        let named = tests().map(|test| (test.name.to_owned(), test));
        let up = || Fixture::up(run, &prepared);
        program::on(&args, named, up, |fixture: &Fixture, test: &Test| {
            fixture.perform(test).map(|()| Completion::Completed)
        })
    })
}

fn tests() -> impl Iterator<Item = &'static Test> {
    THEMES.iter().copied().flatten()
}
