//! `cargo xtask ci`: every check that a change must pass beside its tests. All checks run even
//! after one fails, and the findings of failed checks are printed last. A check without its tool is
//! reported as skipped.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};
use testbed::cache::Cache;
use testbed::command::{Run, last_lines};
use testbed::progress;

use crate::{generate, setup, tidy};

/// Everything that a change must pass beside its tests.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {}

/// The maximum number of printed lines of a failed check.
const MAX_LINES: usize = 300;

/// A check and its name.
#[derive(Debug, Clone, Copy)]
struct Check {
    name: &'static str,
    perform: fn() -> Result<Verdict>,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// With the check's findings.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

const CHECKS: &[Check] = &[
    Check {
        name: "format",
        perform: format,
    },
    Check {
        name: "tidy",
        perform: tidy,
    },
    Check {
        name: "clippy",
        perform: clippy,
    },
    Check {
        name: "documentation",
        perform: documentation,
    },
    Check {
        name: "generated files",
        perform: generated_files,
    },
    Check {
        name: "dependencies",
        perform: dependencies,
    },
];

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    setup::prepare(&Cache::open()?)?;
    let mut sum = Sum::default();
    for check in CHECKS {
        progress::print_line(format_args!("… {}", check.name));
        let started = Instant::now();
        let verdict =
            (check.perform)().unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")));
        progress::print_line(line(check.name, &verdict, started));
        sum.add(check.name, verdict);
    }
    for (name, findings) in &sum.failed {
        progress::print_line(format_args!(
            "\n✗ {name}\n{}",
            last_lines(findings, MAX_LINES)
        ));
    }
    progress::print_line(&sum);
    if !sum.failed.is_empty() {
        bail!("these checks failed: {}", sum.names_of_failed());
    }
    Ok(())
}

/// Formats the line that ends a check. Findings are printed after the last check.
fn line(name: &str, verdict: &Verdict, started: Instant) -> String {
    let took = progress::seconds(started.elapsed());
    match verdict {
        Verdict::Passed => format!("✓ {name} {took}"),
        Verdict::Failed(_) => format!("✗ {name} {took}: its findings are printed at the end"),
        Verdict::Skipped(reason) => format!("– {name} skipped: {reason}"),
    }
}

/// The results of all checks.
#[derive(Debug, Default)]
struct Sum {
    passed: usize,
    skipped: usize,
    /// Names of failed checks with their findings.
    failed: Vec<(&'static str, String)>,
}

impl Sum {
    fn add(&mut self, name: &'static str, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
            Verdict::Failed(findings) => self.failed.push((name, findings)),
        }
    }

    fn names_of_failed(&self) -> String {
        self.failed
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "checks: {} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped
        )
    }
}

fn format() -> Result<Verdict> {
    with_tool(
        "fmt",
        "rustfmt is not installed (`rustup component add rustfmt`)",
        || passes(setup::cargo().args(["fmt", "--all", "--check"])),
    )
}

fn tidy() -> Result<Verdict> {
    let findings: Vec<String> = tidy::check()?.iter().map(ToString::to_string).collect();
    Ok(if findings.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Failed(findings.join("\n"))
    })
}

fn clippy() -> Result<Verdict> {
    with_tool(
        "clippy",
        "clippy is not installed (`rustup component add clippy`)",
        || {
            passes(setup::cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]))
        },
    )
}

/// Private items are included: a module's header is the map of its parts, and its links lead to
/// them.
fn documentation() -> Result<Verdict> {
    let rustdoc = setup::cargo().args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    passes(rustdoc.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private-intra-doc-links",
    ))
}

/// Checks that generated files in the tree are what the code would write.
fn generated_files() -> Result<Verdict> {
    passes(generate::checking()?)
}

fn dependencies() -> Result<Verdict> {
    with_tool("deny", "cargo-deny is not installed", || {
        passes(setup::cargo().args(["deny", "--all-features", "check"]))
    })
}

/// Runs `check` if cargo has this subcommand.
fn with_tool(
    subcommand: &str,
    missing: &str,
    check: impl FnOnce() -> Result<Verdict>,
) -> Result<Verdict> {
    let answers = setup::cargo()
        .args([subcommand, "--version"])
        .output()?
        .status
        .success();
    if answers {
        check()
    } else {
        Ok(Verdict::Skipped(missing.to_owned()))
    }
}

/// Returns whether the command exits with status 0; otherwise with all its output, without cargo's
/// progress lines.
fn passes(command: Run) -> Result<Verdict> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(Verdict::Passed);
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(Verdict::Failed(
        said.lines()
            .filter(|line| !is_progress(line))
            .collect::<Vec<_>>()
            .join("\n"),
    ))
}

/// Returns whether a line is progress: cargo right-aligns its verbs in the first twelve columns.
fn is_progress(line: &str) -> bool {
    let verb = line.trim_start().split(' ').next().unwrap_or_default();
    matches!(
        verb,
        "Blocking" | "Checking" | "Compiling" | "Documenting" | "Downloaded" | "Finished"
    ) && line.find(verb) == Some(12 - verb.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_passes_fails_with_its_output_or_is_skipped() {
        assert_eq!(passes(Run::new("true")).unwrap(), Verdict::Passed);
        let failed =
            passes(Run::new("sh").args(["-c", "echo out; echo reason >&2; exit 1"])).unwrap();
        assert_eq!(failed, Verdict::Failed("reason\nout".to_owned()));
        let skipped = with_tool("no-such-subcommand", "it is not there", || {
            Ok(Verdict::Passed)
        })
        .unwrap();
        assert_eq!(skipped, Verdict::Skipped("it is not there".to_owned()));
    }

    #[test]
    fn progress_lines_are_recognized() {
        for (line, progress) in [
            ("    Checking x v0.1.0", true),
            ("   Compiling y v1.0.0", true),
            ("    |     Checking", false),
            ("Checking", false),
        ] {
            assert_eq!(is_progress(line), progress, "{line}");
        }
    }

    #[test]
    fn skipped_check_is_not_counted_as_passed() {
        let mut sum = Sum::default();
        for verdict in [
            Verdict::Passed,
            Verdict::Failed(String::new()),
            Verdict::Skipped(String::new()),
        ] {
            sum.add("check", verdict);
        }
        assert_eq!(sum.to_string(), "checks: 1 passed, 1 failed, 1 skipped");
        assert_eq!(sum.names_of_failed(), "check");
    }
}
