//! What the program inside the machine tells on its serial line: one line of JSON for each test,
//! and one at the end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// What became of the tests inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were run.
    pub outcomes: Vec<Outcome>,
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// How long it took, as the machine itself counts.
    pub took: Duration,
}

/// A line, as `vm-inside` writes it.
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
    /// Reads the whole report.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut outcomes = Vec::new();
        let mut end = None;
        // The line's driver may end lines with a carriage return, too.
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
    fn each_line_is_a_test() {
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
    fn a_report_that_was_cut_off_is_none() {
        for text in [TEST, "", "{\"end\":{\"tests\":1}}\n", "{\"test\":{\"na"] {
            Report::read(text).unwrap_err();
        }
    }
}
