//! Passed, failed and skipped tests in the output of test programs, with names and reasons.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::progress;

use super::class::Class;

/// The tests of one class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TestCounts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// The names of failed tests, or other failures.
    pub(super) failures: Vec<String>,
    /// The beginning of a failed test's output, by its name.
    pub(super) output: BTreeMap<String, Vec<String>>,
    /// The reasons for skipping, and how many tests had each.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) took: Duration,
}

impl TestCounts {
    /// Counts a class that cannot run on this machine as one skipped test.
    pub(super) fn skipped(reason: &str) -> Self {
        Self {
            skipped: 1,
            reasons: BTreeMap::from([(reason.to_owned(), 1)]),
            ..Self::default()
        }
    }

    /// Counts a class that should have run and could not as one failed test.
    pub(super) fn broken(reason: &str) -> Self {
        progress::print_line(format_args!("error: {reason}"));
        Self {
            failed: 1,
            failures: vec![reason.to_owned()],
            ..Self::default()
        }
    }

    /// Adds another part of the same class.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.output.extend(other.output);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// How many lines of a failed test's output the summary repeats, and how many characters of each:
/// the failure comes first, the evidence after it is long and printed above.
const LINES: usize = 8;
const CHARACTERS: usize = 400;

/// Parses the output of `cargo test`, line by line.
#[derive(Debug, Default)]
pub(super) struct Reader {
    counts: TestCounts,
    explained: u64,
    /// The failed test with the output that is being read.
    failed_test: Option<String>,
}

impl Reader {
    pub(super) fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.failed_test = None;
            let count = |word: &str| {
                let parts = counts.split([';', '.']).map(str::trim);
                parts
                    .filter_map(|part| part.strip_suffix(word))
                    .find_map(|number| number.trim().parse().ok())
                    .unwrap_or(0)
            };
            self.counts.passed += count("passed");
            self.counts.failed += count("failed");
            self.counts.skipped += count("ignored");
            return;
        }
        if let Some(heading) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" ----"))
        {
            let name = heading.strip_suffix(" stdout").unwrap_or(heading);
            // A test's own output can separate its name from its outcome; libtest-mimic prints the
            // name above the output.
            if name == heading
                && !name.contains(' ')
                && !self.counts.failures.iter().any(|known| known == name)
            {
                self.counts.failures.push(name.to_owned());
            }
            self.failed_test = Some(name.to_owned());
            return;
        }
        if line == "failures:" {
            self.failed_test = None;
        } else if let Some(name) = &self.failed_test
            && !line.is_empty()
        {
            let words = self.counts.output.entry(name.clone()).or_default();
            if words.len() < LINES {
                words.push(line.chars().take(CHARACTERS).collect());
            }
        }
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        if outcome.starts_with("FAILED") {
            self.counts.failures.push(name.trim().to_owned());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            // libtest prints `ignored, why`, libtest-mimic `ignored (why)`.
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = reason
                .strip_prefix('(')
                .and_then(|inner| inner.strip_suffix(')'))
                .unwrap_or(reason);
            let reason = if reason.is_empty() {
                "marked as ignored in the source"
            } else {
                reason
            };
            *self.counts.reasons.entry(reason.to_owned()).or_default() += 1;
            self.explained += 1;
        }
    }

    /// Returns the counts; a command that failed without a failed test counts as one failure,
    /// described by `what`.
    pub(super) fn finish(self, success: bool, what: &str) -> TestCounts {
        let mut counts = self.counts;
        if !success && counts.failed == 0 {
            counts.add(TestCounts::broken(what));
        }
        if counts.skipped > self.explained {
            counts.reasons.insert(
                "no reason was printed".to_owned(),
                counts.skipped - self.explained,
            );
        }
        counts
    }
}

/// The lines printed at the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) lines: Vec<String>,
    pub(super) failed: u64,
}

/// Formats a line for each class, then failed and skipped tests, then the machine-readable sum.
pub(super) fn summary(results: &[(Class, TestCounts)]) -> Summary {
    let mut lines = vec![
        String::new(),
        format!(
            "{:<10} {:>6} {:>7} {:>7} {:>8}",
            "class", "run", "passed", "failed", "skipped"
        ),
    ];
    let mut sum = TestCounts::default();
    for (class, counts) in results {
        let run = counts.passed + counts.failed;
        let TestCounts {
            passed,
            failed,
            skipped,
            took,
            ..
        } = counts;
        lines.push(format!(
            "{class:<10} {run:>6} {passed:>7} {failed:>7} {skipped:>8}  {}",
            progress::seconds(*took)
        ));
        sum.add(counts.clone());
    }
    for (class, counts) in results {
        for name in &counts.failures {
            lines.push(format!("failed: {class}: {name}"));
            lines.extend(
                counts
                    .output
                    .get(name)
                    .into_iter()
                    .flatten()
                    .map(|line| format!("    {line}")),
            );
        }
        lines.extend(
            counts
                .reasons
                .iter()
                .map(|(reason, count)| format!("skipped: {class}: {count}: {reason}")),
        );
    }
    lines.push(format!(
        "{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    ));
    Summary {
        lines,
        failed: sum.failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str, success: bool) -> TestCounts {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish(success, "cargo test: exit status: 101")
    }

    #[test]
    fn results_of_several_programs_are_added() {
        let counts = read(
            "test a ... ok\ntest result: ok. 17 passed; 0 failed; 1 ignored; 0 measured; 27 \
             filtered out; finished in 0.20s\n\
             test b::c ... FAILED\ntest d ... ignored, no Docker here\ntest e ... ignored (no \
             Docker here)\n\
             test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 1s\n",
            false,
        );
        assert_eq!((counts.passed, counts.failed, counts.skipped), (20, 1, 3));
        assert_eq!(counts.failures, ["b::c"]);
        assert_eq!(counts.reasons["no Docker here"], 2);
        assert_eq!(counts.reasons["no reason was printed"], 1);
    }

    #[test]
    fn failed_test_with_output_is_named() {
        let counts = read(
            "test a ... \n$ helm test\nFAILED\nfailures:\n\n---- a ----\nwhy\n---- b stdout \
             ----\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored",
            false,
        );
        assert_eq!((counts.failed, counts.failures), (1, vec!["a".to_owned()]));
    }

    #[test]
    fn summary_has_the_beginning_of_a_failed_tests_output() {
        let evidence = "evidence\n".repeat(100);
        let counts = read(
            &format!(
                "failures:\n\n---- a ----\nwhy\n{evidence}\n---- b::c stdout \
                 ----\n\nassertion\n\nfailures:\n    a\n    b::c\n\ntest result: FAILED. 0 passed; \
                 2 failed"
            ),
            false,
        );
        let lines = summary(&[(
            Class::Node,
            TestCounts {
                failures: vec!["a".into(), "b::c".into()],
                ..counts
            },
        )])
        .lines;
        let first = lines
            .iter()
            .position(|line| line == "failed: node: a")
            .unwrap();
        assert_eq!(lines[first + 1..][..2], ["    why", "    evidence"]);
        assert_eq!(
            lines[first + LINES + 1..][..2],
            ["failed: node: b::c", "    assertion"]
        );
        assert_eq!(lines.len(), first + LINES + 4, "{lines:#?}");
    }

    #[test]
    fn program_that_does_not_compile_is_a_failure() {
        assert_eq!(read("", false).failed, 1);
        assert_eq!(read("", true).failed, 0);
    }

    #[test]
    fn last_line_is_the_sum() {
        let unit = TestCounts {
            passed: 2,
            ..TestCounts::default()
        };
        let lines = summary(&[
            (Class::Unit, unit),
            (Class::Node, TestCounts::skipped("not root")),
        ])
        .lines;
        assert_eq!(lines.last().unwrap(), "2 passed, 0 failed, 1 skipped");
        assert!(
            lines.contains(&"skipped: node: 1: not root".to_owned()),
            "{lines:?}"
        );
    }
}
