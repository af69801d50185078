//! Main functions of test programs that need the artifacts of `cargo xtask test`.
//!
//! Without them every test is reported as ignored, with the reason. A shared fixture is made only
//! if a test that needs it is selected: a listing, or a filter that matches no test, must not start
//! a containerd or a cluster.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::prepared::{Preparation, Prepared};
use crate::teardown::Run;

/// Runs the trials that `make` builds from the prepared artifacts, in a run of this name. Without
/// artifacts, tests of these names are ignored.
///
/// # Errors
/// Fails if the artifacts cannot be read, the trials cannot be made, or the run's clean-up fails.
pub fn run<'a>(
    args: &Arguments,
    name: &str,
    tests: impl IntoIterator<Item = &'a str>,
    make: impl FnOnce(&Run, Prepared) -> Result<Vec<Trial>>,
) -> Result<ExitCode> {
    let prepared = match Preparation::from_environment()? {
        Preparation::Missing(reason) => {
            let trials = tests
                .into_iter()
                .map(|test| ignored(test, &reason))
                .collect();
            return Ok(libtest_mimic::run(args, trials).exit_code());
        }
        Preparation::Done(prepared) => *prepared,
    };
    let run = Run::start(name)?;
    let trials = make(&run, prepared)?;
    let conclusion = libtest_mimic::run(args, trials);
    run.finish()?;
    Ok(conclusion.exit_code())
}

/// Builds the trials of tests that share one fixture, which is made only if one of them is
/// selected.
///
/// # Errors
/// Fails if the fixture cannot be made.
pub fn on<S, T>(
    args: &Arguments,
    tests: impl IntoIterator<Item = (String, T)>,
    make: impl FnOnce() -> Result<S>,
    perform: fn(&S, T) -> Result<Completion, Failed>,
) -> Result<Vec<Trial>>
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let tests: Vec<(String, T)> = tests.into_iter().collect();
    if !tests.iter().any(|(name, _)| is_wanted(args, name)) {
        return Ok(tests
            .into_iter()
            .map(|(name, _)| Trial::test(name, || Ok(())))
            .collect());
    }
    let subject = Arc::new(make()?);
    let trial = |(name, test)| {
        let subject = Arc::clone(&subject);
        Trial::ignorable_test(name, move || perform(&subject, test))
    };
    Ok(tests.into_iter().map(trial).collect())
}

/// Returns an ignored test with the reason.
fn ignored(name: &str, reason: &str) -> Trial {
    let reason = reason.to_owned();
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}

fn is_wanted(args: &Arguments, name: &str) -> bool {
    !args.list && !args.is_filtered_out(&Trial::test(name, || Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &Arguments, make: impl FnOnce() -> Result<u8>) -> Result<Vec<Trial>> {
        let tests = [("a::one".to_owned(), 1), ("a::two".to_owned(), 2)];
        on(args, tests, make, |subject, test| {
            if *subject == test {
                Ok(Completion::Completed)
            } else {
                Err("another".into())
            }
        })
    }

    #[test]
    fn fixture_without_selected_tests_is_not_made() {
        for args in [
            Arguments {
                list: true,
                ..Arguments::default()
            },
            Arguments {
                filter: Some("three".to_owned()),
                ..Arguments::default()
            },
            Arguments {
                skip: vec!["a::".to_owned()],
                ..Arguments::default()
            },
        ] {
            let trials = of(&args, || panic!("made without a selected test")).unwrap();
            assert_eq!(trials.len(), 2, "{args:?}");
        }
    }

    #[test]
    fn fixture_of_selected_tests_is_made_once() {
        let args = Arguments {
            filter: Some("one".to_owned()),
            ..Arguments::default()
        };
        let mut made = 0;
        let trials = of(&args, || {
            made += 1;
            Ok(1)
        });
        assert_eq!((trials.unwrap().len(), made), (2, 1));
    }

    #[test]
    fn fixture_that_cannot_be_made_fails_the_program() {
        assert!(of(&Arguments::default(), || anyhow::bail!("no root")).is_err());
    }
}
