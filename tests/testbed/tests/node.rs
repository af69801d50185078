//! The node class: real containerds, the bundle's shim, real guests. Each test runs on each containerd.
//!
//! `cargo xtask test --class node` prepares what is needed and says where; without that, every test is reported as
//! ignored, with the reason. Themes, one file each: [`run`], [`files`], [`images`], [`refusals`], [`life`], [`pod`],
//! [`shim`], and [`ground`] for what the tests themselves stand on.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Trial};
use testbed::prepared::{Preparation, Prepared};
use testbed::teardown::Run;

#[path = "node/node.rs"]
mod node;
#[path = "node/ground.rs"]
mod ground;
#[path = "node/run.rs"]
mod run;
#[path = "node/files.rs"]
mod files;
#[path = "node/images.rs"]
mod images;
#[path = "node/refusals.rs"]
mod refusals;
#[path = "node/life.rs"]
mod life;
#[path = "node/pod.rs"]
mod pod;
#[path = "node/shim.rs"]
mod shim;

use node::{Node, Test};

/// How many tests run at a time on one containerd: enough that they meet each other, on two cores.
const THREADS: usize = 4;

const THEMES: &[&[Test]] = &[ground::TESTS, run::TESTS, files::TESTS, images::TESTS, refusals::TESTS, life::TESTS, pod::TESTS, shim::TESTS];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(THREADS);
    match Preparation::from_environment()? {
        Preparation::Missing(reason) => Ok(libtest_mimic::run(&args, without(&reason)).exit_code()),
        Preparation::Done(prepared) => on_each_containerd(&args, *prepared),
    }
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

fn on_each_containerd(args: &Arguments, prepared: Prepared) -> Result<ExitCode> {
    let prepared = Arc::new(prepared);
    // Listing, and a filter that no test of a containerd passes, must not start it.
    let is_wanted = |name: &str| !args.list && !args.is_filtered_out(&Trial::test(name.to_owned(), || Ok(())));
    let run = Run::start("node")?;
    let mut trials = Vec::new();
    for install in &prepared.containerds {
        let named: Vec<(String, &'static Test)> = tests().map(|test| (format!("{}::{}", install.name, test.name), test)).collect();
        if !named.iter().any(|(name, _)| is_wanted(name)) {
            trials.extend(named.into_iter().map(|(name, _)| Trial::test(name, || Ok(()))));
            continue;
        }
        let node = Arc::new(Node::start(&run, install, Arc::clone(&prepared))?);
        for (name, test) in named {
            let node = Arc::clone(&node);
            trials.push(Trial::ignorable_test(name, move || node.perform(test)));
        }
    }
    let conclusion = libtest_mimic::run(args, trials);
    run.finish()?;
    Ok(conclusion.exit_code())
}
