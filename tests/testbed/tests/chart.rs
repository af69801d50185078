//! The chart: its rendered objects, the effect of each value, the refusals of its schema, and the
//! upgrade from the last release.
//!
//! Each file of the chart's `tests/cases` holds values. [`golden`] compares the rendered objects
//! with `tests/golden`, or writes these files if `UPDATE_GOLDEN=1` is set: the default case whole,
//! every other case as its [`difference`] from that. [`behaviour`], [`schema`], [`dependency`],
//! [`accepted`] (on a real API server) and [`upgrade`] are the other themes.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "chart/subject.rs"]
mod subject;
#[path = "chart/golden.rs"]
mod golden;
#[path = "chart/difference.rs"]
mod difference;
#[path = "chart/behaviour.rs"]
mod behaviour;
#[path = "chart/schema.rs"]
mod schema;
#[path = "chart/dependency.rs"]
mod dependency;
#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/upgrade.rs"]
mod upgrade;

use subject::Subject;

/// A rule with its test.
#[derive(Debug, Clone, Copy)]
struct Test {
    name: &'static str,
    body: fn(&Subject) -> Result<Verdict>,
}

/// Result of a test that did not fail.
#[derive(Debug)]
enum Verdict {
    Holds,
    /// The test cannot run here, for this reason.
    Ignored(String),
}

/// Makes a list of tests from functions; each test has the name of its function.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$(crate::Test { name: stringify!($name),
            body: $name }),+];
    };
}
use tests;

const THEMES: &[&[Test]] = &[
    golden::TESTS,
    difference::TESTS,
    behaviour::TESTS,
    schema::TESTS,
    dependency::TESTS,
    accepted::TESTS,
    upgrade::TESTS,
];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let trials = THEMES.iter().copied().flatten().map(|test| {
        Trial::ignorable_test(test.name, move || {
            match Subject::find().and_then(|subject| (test.body)(&subject)) {
                Ok(Verdict::Holds) => Ok(Completion::Completed),
                Ok(Verdict::Ignored(reason)) => Ok(Completion::ignored_with(reason)),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            }
        })
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}
