//! The node class: real containerds, the bundle's shim, real guests. Each test runs on each
//! containerd.
//!
//! `cargo xtask test --class node` prepares the artifacts and passes their paths; without that,
//! every test is reported as ignored, with the reason. One file for each theme: [`run`],
//! [`artifacts`], [`files`], [`spec`], [`spec_limits`], [`images`], [`same_config`], [`refusals`],
//! [`settings`], [`lookups`], [`life`], [`pod`], [`shim`]; the Task service in [`exec`],
//! [`exec_attacks`], [`verbs`], [`races`], [`signals`], [`terminal`]; [`processes`], and their loss
//! or lack of resources in [`faults`], [`descriptors`] and [`launcher`]; pods of CRI in [`pods`],
//! with [`volumes`], after the loss of a part in [`pod_faults`], with user namespaces in
//! [`pod_users`], debugged in [`debug`], with guests that exceed memory in [`memory`], with
//! separate hosts in [`grouping`]; restarts of more containerds in [`versions`]; many containers in
//! [`endurance`]; and the test environment itself in [`isolation`].
//!
//! Tests use `ctr`, and containerd's services ([`grpc`]: [`tasks`], [`cri`]) for requests that
//! `ctr` cannot send or replies that it does not show. They inspect processes, mounts and cgroups
//! from outside ([`machine`]).

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Arguments;
use testbed::program;

#[path = "node/node.rs"]
mod node;
#[path = "node/isolation.rs"]
mod isolation;
#[path = "node/machine.rs"]
mod machine;
#[path = "node/grpc.rs"]
mod grpc;
#[path = "node/tasks.rs"]
mod tasks;
#[path = "node/metrics.rs"]
mod metrics;
#[path = "node/events.rs"]
mod events;
#[path = "node/pods_fixture.rs"]
mod pods_fixture;
#[path = "node/run.rs"]
mod run;
#[path = "node/artifacts.rs"]
mod artifacts;
#[path = "node/files.rs"]
mod files;
#[path = "node/spec.rs"]
mod spec;
#[path = "node/spec_limits.rs"]
mod spec_limits;
#[path = "node/images.rs"]
mod images;
#[path = "node/same_config.rs"]
mod same_config;
#[path = "node/refusals.rs"]
mod refusals;
#[path = "node/stalled_fs.rs"]
mod stalled_fs;
#[path = "node/settings.rs"]
mod settings;
#[path = "node/lookups.rs"]
mod lookups;
#[path = "node/life.rs"]
mod life;
#[path = "node/pod.rs"]
mod pod;
#[path = "node/shim.rs"]
mod shim;
#[path = "node/exec.rs"]
mod exec;
#[path = "node/exec_attacks.rs"]
mod exec_attacks;
#[path = "node/verbs.rs"]
mod verbs;
#[path = "node/races.rs"]
mod races;
#[path = "node/signals.rs"]
mod signals;
#[path = "node/terminal.rs"]
mod terminal;
#[path = "node/processes.rs"]
mod processes;
#[path = "node/faults.rs"]
mod faults;
#[path = "node/descriptors.rs"]
mod descriptors;
#[path = "node/pods.rs"]
mod pods;
#[path = "node/volumes.rs"]
mod volumes;
#[path = "node/pod_faults.rs"]
mod pod_faults;
#[path = "node/pod_users.rs"]
mod pod_users;
#[path = "containerd_config/machine_files.rs"]
mod machine_files;
#[path = "node/installed.rs"]
mod installed;
#[path = "node/debug.rs"]
mod debug;
#[path = "node/memory.rs"]
mod memory;
#[path = "node/grouping.rs"]
mod grouping;
#[path = "node/launcher.rs"]
mod launcher;
#[path = "node/versions.rs"]
mod versions;
#[path = "node/endurance.rs"]
mod endurance;

use node::{Node, Test};

/// Number of tests that run at a time on one containerd: enough to interact, on two cores.
const THREADS: usize = 4;

const THEMES: &[&[Test]] = &[
    isolation::TESTS,
    run::TESTS,
    artifacts::TESTS,
    files::TESTS,
    spec::TESTS,
    spec_limits::TESTS,
    images::TESTS,
    same_config::TESTS,
    refusals::TESTS,
    settings::TESTS,
    lookups::TESTS,
    life::TESTS,
    pod::TESTS,
    shim::TESTS,
    exec::TESTS,
    exec_attacks::TESTS,
    verbs::TESTS,
    races::TESTS,
    signals::TESTS,
    terminal::TESTS,
    processes::TESTS,
    faults::TESTS,
    descriptors::TESTS,
    pods::TESTS,
    volumes::TESTS,
    pod_faults::TESTS,
    pod_users::TESTS,
    installed::TESTS,
    debug::TESTS,
    memory::TESTS,
    grouping::TESTS,
    launcher::TESTS,
    versions::TESTS,
    endurance::TESTS,
];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(THREADS);
    let all = tests().map(|test| test.name);
    program::run(&args, "node", all, |run, prepared| {
        let prepared = Arc::new(prepared);
        let mut trials = Vec::new();
        for install in &prepared.containerds {
            let named = tests().map(|test| (format!("{}::{}", install.name, test.name), test));
            let start = || Node::start(run, install, Arc::clone(&prepared));
            trials.extend(program::on(
                &args,
                named,
                start,
                |node: &Node, test: &Test| node.perform(test),
            )?);
        }
        Ok(trials)
    })
}

fn tests() -> impl Iterator<Item = &'static Test> {
    THEMES.iter().copied().flatten()
}
