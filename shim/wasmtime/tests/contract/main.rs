//! The contract of guests, with real processes: each test is a zygote, warmed as in use, and its
//! guests are forks of it. They are under the runtime's own filter of system calls; as root they
//! are also in a root of their own, without `/proc`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use guest::World;

mod artifacts;
mod ends;
mod files;
mod guest;
mod processes;
mod streams;

/// First argument of a process that runs one test.
const ACT: &str = "act-as-host";

type Test = fn(&World) -> Result<()>;

const TESTS: &[&[(&str, Test)]] = &[
    artifacts::TESTS,
    ends::TESTS,
    files::TESTS,
    processes::TESTS,
    streams::TESTS,
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(ACT) {
        return act(arguments.next().as_deref());
    }
    let arguments = Arguments::from_args();
    let trials = TESTS.concat().into_iter().map(|(name, _)| {
        Trial::test(name, move || {
            let program = std::env::current_exe()?;
            let output = Command::new(program).args([ACT, name]).output()?;
            if output.status.success() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&output.stderr);
            Err(Failed::from(format!("{}: {text}", output.status)))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

#[expect(
    clippy::print_stderr,
    reason = "a process that runs one test reports its error to the test's"
)]
fn act(name: Option<&str>) -> ExitCode {
    let tests = TESTS.concat();
    let test = tests.iter().find(|(each, _)| Some(*each) == name);
    let done = test
        .context("no such test")
        .and_then(|(_, test)| test(&World::new()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
