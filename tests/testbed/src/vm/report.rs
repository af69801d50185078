//! The report of the program inside the machine on its serial line: one line of JSON for each test,
//! and one at the end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The results of the tests inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of execution.
    pub outcomes: Vec<Outcome>,
}

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The error, if it failed.
    pub failure: Option<String>,
    /// Its duration on the machine's own clock.
    pub took: Duration,
}

/// A line of the report, as `vm-inside` writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Line {
    Test {
        name: String,
        failure: Option<String>,
        milliseconds: u64,
    },
    End {
        tests: usize,
    },
}

impl Report {
    /// Parses the whole report.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut outcomes = Vec::new();
        let mut end = None;
        // The terminal driver may add a carriage return to lines.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match serde_json::from_str(line)
                .with_context(|| format!("read this line of the machine's report: {line}"))?
            {
                Line::Test {
                    name,
                    failure,
                    milliseconds,
                } => {
                    outcomes.push(Outcome {
                        name,
                        failure,
                        took: Duration::from_millis(milliseconds),
                    });
                }
                Line::End { tests } => end = Some(tests),
            }
        }
        if end != Some(outcomes.len()) {
            bail!(
                "the machine was off before all tests had been run: {} lines, and at the end \
                 {end:?}\n{text}",
                outcomes.len()
            );
        }
        Ok(Self { outcomes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "{\"test\":{\"name\":\"a\",\"failure\":null,\"milliseconds\":1200}}\r\n";

    #[test]
    fn each_report_line_is_a_test() {
        let report = Report::read(&format!("{TEST}{{\"end\":{{\"tests\":1}}}}\r\n")).unwrap();
        assert_eq!(
            report.outcomes,
            [Outcome {
                name: "a".to_owned(),
                failure: None,
                took: Duration::from_millis(1200)
            }]
        );
    }

    #[test]
    fn incomplete_report_is_an_error() {
        for text in [TEST, "", "{\"end\":{\"tests\":1}}\n", "{\"test\":{\"na"] {
            Report::read(text).unwrap_err();
        }
    }
}
