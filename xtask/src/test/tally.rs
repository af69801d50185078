//! What the output of test programs says: how many tests passed, failed and were skipped, which,
//! and why.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::progress;

use super::class::Class;

/// The tests of one class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// The names of what failed, or what else went wrong.
    pub(super) failures: Vec<String>,
    /// How the words of a failed test begin, by its name.
    pub(super) words: BTreeMap<String, Vec<String>>,
    /// Why tests were skipped, and how many for each reason.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) took: Duration,
}

impl Tally {
    /// A class that could not be run on this machine: it counts as one test that was skipped.
    pub(super) fn skipped(reason: &str) -> Self {
        Self {
            skipped: 1,
            reasons: BTreeMap::from([(reason.to_owned(), 1)]),
            ..Self::default()
        }
    }

    /// A class that should have run and could not: it counts as one test that failed.
    pub(super) fn broken(reason: &str) -> Self {
        progress::say(format_args!("error: {reason}"));
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
        self.words.extend(other.words);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// How many lines of a failed test's words the summary repeats, and how many characters of each:
/// what failed comes first, the evidence after it is long and stands above.
const LINES: usize = 8;
const CHARACTERS: usize = 400;

/// Reads the output of `cargo test`, line by line.
#[derive(Debug, Default)]
pub(super) struct Reader {
    tally: Tally,
    explained: u64,
    /// The failed test whose words are being read.
    speaker: Option<String>,
}

impl Reader {
    pub(super) fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.speaker = None;
            let count = |word: &str| {
                let parts = counts.split([';', '.']).map(str::trim);
                parts
                    .filter_map(|part| part.strip_suffix(word))
                    .find_map(|number| number.trim().parse().ok())
                    .unwrap_or(0)
            };
            self.tally.passed += count("passed");
            self.tally.failed += count("failed");
            self.tally.skipped += count("ignored");
            return;
        }
        if let Some(heading) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" ----"))
        {
            let name = heading.strip_suffix(" stdout").unwrap_or(heading);
            // A test that says something itself parts the line with its outcome; libtest-mimic
            // heads its words with its name.
            if name == heading
                && !name.contains(' ')
                && !self.tally.failures.iter().any(|known| known == name)
            {
                self.tally.failures.push(name.to_owned());
            }
            self.speaker = Some(name.to_owned());
            return;
        }
        if line == "failures:" {
            self.speaker = None;
        } else if let Some(name) = &self.speaker
            && !line.is_empty()
        {
            let words = self.tally.words.entry(name.clone()).or_default();
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
            self.tally.failures.push(name.trim().to_owned());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            // libtest writes `ignored, why`, libtest-mimic `ignored (why)`.
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
            *self.tally.reasons.entry(reason.to_owned()).or_default() += 1;
            self.explained += 1;
        }
    }

    /// The sum; a command that failed although no test did counts as one failure, described by
    /// `what`.
    pub(super) fn finish(self, success: bool, what: &str) -> Tally {
        let mut tally = self.tally;
        if !success && tally.failed == 0 {
            tally.add(Tally::broken(what));
        }
        if tally.skipped > self.explained {
            tally.reasons.insert(
                "no reason was printed".to_owned(),
                tally.skipped - self.explained,
            );
        }
        tally
    }
}

/// What is printed at the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) lines: Vec<String>,
    pub(super) failed: u64,
}

/// A line for each class, then what failed and what was skipped, then the sum for a machine to
/// read.
pub(super) fn summary(tallies: &[(Class, Tally)]) -> Summary {
    let mut lines = vec![
        String::new(),
        format!(
            "{:<10} {:>6} {:>7} {:>7} {:>8}",
            "class", "run", "passed", "failed", "skipped"
        ),
    ];
    let mut sum = Tally::default();
    for (class, tally) in tallies {
        let run = tally.passed + tally.failed;
        let Tally {
            passed,
            failed,
            skipped,
            took,
            ..
        } = tally;
        lines.push(format!(
            "{class:<10} {run:>6} {passed:>7} {failed:>7} {skipped:>8}  {}",
            progress::seconds(*took)
        ));
        sum.add(tally.clone());
    }
    for (class, tally) in tallies {
        for name in &tally.failures {
            lines.push(format!("failed: {class}: {name}"));
            lines.extend(
                tally
                    .words
                    .get(name)
                    .into_iter()
                    .flatten()
                    .map(|line| format!("    {line}")),
            );
        }
        lines.extend(
            tally
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

    fn read(output: &str, success: bool) -> Tally {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish(success, "cargo test: exit status: 101")
    }

    #[test]
    fn results_of_several_programs_add_up() {
        let tally = read(
            "test a ... ok\ntest result: ok. 17 passed; 0 failed; 1 ignored; 0 measured; 27 \
             filtered out; finished in 0.20s\n\
             test b::c ... FAILED\ntest d ... ignored, no Docker here\ntest e ... ignored (no \
             Docker here)\n\
             test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 1s\n",
            false,
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (20, 1, 3));
        assert_eq!(tally.failures, ["b::c"]);
        assert_eq!(tally.reasons["no Docker here"], 2);
        assert_eq!(tally.reasons["no reason was printed"], 1);
    }

    #[test]
    fn a_test_that_says_something_is_still_named_when_it_fails() {
        let tally = read(
            "test a ... \n$ helm test\nFAILED\nfailures:\n\n---- a ----\nwhy\n---- b stdout \
             ----\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored",
            false,
        );
        assert_eq!((tally.failed, tally.failures), (1, vec!["a".to_owned()]));
    }

    #[test]
    fn the_summary_repeats_how_the_words_of_a_failed_test_begin() {
        let evidence = "evidence\n".repeat(100);
        let tally = read(
            &format!(
                "failures:\n\n---- a ----\nwhy\n{evidence}\n---- b::c stdout \
                 ----\n\nassertion\n\nfailures:\n    a\n    b::c\n\ntest result: FAILED. 0 passed; \
                 2 failed"
            ),
            false,
        );
        let lines = summary(&[(
            Class::Node,
            Tally {
                failures: vec!["a".into(), "b::c".into()],
                ..tally
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
    fn a_program_that_does_not_compile_is_a_failure() {
        assert_eq!(read("", false).failed, 1);
        assert_eq!(read("", true).failed, 0);
    }

    #[test]
    fn the_last_line_is_the_sum_and_nothing_else() {
        let unit = Tally {
            passed: 2,
            ..Tally::default()
        };
        let lines = summary(&[
            (Class::Unit, unit),
            (Class::Node, Tally::skipped("not root")),
        ])
        .lines;
        assert_eq!(lines.last().unwrap(), "2 passed, 0 failed, 1 skipped");
        assert!(
            lines.contains(&"skipped: node: 1: not root".to_owned()),
            "{lines:?}"
        );
    }
}
