//! The cluster class: one kind cluster of three nodes, the runtime on one worker, and pods as users
//! write them.
//!
//! `cargo xtask test --class cluster` prepares the artifacts and passes their paths; without that,
//! every test is reported as ignored, with the reason. One file for each theme: [`life`],
//! [`commands`], [`resources`], [`network`], [`images`], [`volumes`], [`sidecars`], [`placement`],
//! [`examples`]. Each test has a namespace of its own.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion};
use testbed::program;

#[path = "cluster/fixture.rs"]
mod fixture;
#[path = "cluster/manifest.rs"]
mod manifest;
#[path = "cluster/life.rs"]
mod life;
#[path = "cluster/commands.rs"]
mod commands;
#[path = "cluster/resources.rs"]
mod resources;
#[path = "cluster/network.rs"]
mod network;
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

use fixture::{Fixture, Test};

/// Number of tests that run at a time: most of a test's time is waiting for the cluster's own
/// loops.
const THREADS: usize = 3;

const THEMES: &[&[Test]] = &[
    life::TESTS,
    commands::TESTS,
    resources::TESTS,
    network::TESTS,
    images::TESTS,
    volumes::TESTS,
    sidecars::TESTS,
    placement::TESTS,
    examples::TESTS,
];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(THREADS);
    let all = tests().map(|test| test.name);
    program::run(&args, "cluster", all, |run, prepared| {
        let named = tests().map(|test| (test.name.to_owned(), test));
        program::on(
            &args,
            named,
            || Fixture::up(run, &prepared),
            |fixture: &Fixture, test: &Test| fixture.perform(test).map(|()| Completion::Completed),
        )
    })
}

fn tests() -> impl Iterator<Item = &'static Test> {
    THEMES.iter().copied().flatten()
}
