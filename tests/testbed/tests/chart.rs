//! The chart: what it renders, that each of its values does something, what its schema refuses, and
//! that a cluster which has the last release can take this one.
//!
//! Each file of the chart's `tests/cases` holds values; [`golden`] compares what comes of them with
//! `tests/golden`, and writes that anew where `UPDATE_GOLDEN=1` is set. [`behaviour`], [`schema`],
//! [`dependency`], [`accepted`] (on a real API server) and [`upgrade`] are the other themes.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "chart/subject.rs"]
mod subject;
#[path = "chart/golden.rs"]
mod golden;
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

/// A rule, and how to see that it holds.
#[derive(Debug, Clone, Copy)]
struct Test {
    name: &'static str,
    body: fn(&Subject) -> Result<Verdict>,
}

/// What came of a test that did not fail.
#[derive(Debug)]
enum Verdict {
    Holds,
    /// There is nothing to try it on; why.
    Ignored(String),
}

/// Makes a list of tests from functions, named as these are.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$(crate::Test { name: stringify!($name),
            body: $name }),+];
    };
}
use tests;

const THEMES: &[&[Test]] = &[
    golden::TESTS,
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
