//! The tests inside the emulated machine: the core of the node class on cgroup v2, with both cgroup
//! drivers. The machine's unit `inside.service` starts the program; it reports on a serial line,
//! with one line of JSON for each test (`testbed::vm::report` parses them).
//!
//! * [`checks`]: the tests.
//! * [`fixture`]: containers of one driver, and checks of their clean-up.
//! * [`containerd`], [`cri`]: containerd's API.
//! * [`machine`]: processes, cgroups, systemd's units and the journal.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

mod wait;
mod machine;
mod containerd;
mod cri;
mod fixture;
mod checks;

use fixture::{Driver, Fixture};

/// The serial line of the report.
const REPORT: &str = "/dev/ttyS1";
/// The file with the names of the selected tests, one on a line.
const WANTED: &str = "/parts/wanted";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["names"] => {
            let mut out = std::io::stdout().lock();
            for (name, _) in all() {
                writeln!(out, "{name}").context("print a name")?;
            }
        }
        ["run"] => run(Path::new(WANTED), Path::new(REPORT))?,
        _ => bail!("usage: vm-inside names|run"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns every test with its name, for each driver.
fn all() -> impl Iterator<Item = (String, impl Fn(&Fixture) -> Result<()>)> {
    [Driver::Cgroupfs, Driver::Systemd]
        .into_iter()
        .flat_map(|driver| {
            let of_driver = move |check: &'static checks::Check| {
                (
                    format!("{}::{}", driver.name(), check.name),
                    move |fixture: &Fixture| (check.body)(fixture, driver),
                )
            };
            checks::themes().map(of_driver)
        })
}

/// Runs the selected tests, and reports the result of each.
fn run(wanted: &Path, report: &Path) -> Result<()> {
    let wanted =
        fs::read_to_string(wanted).with_context(|| format!("read {}", wanted.display()))?;
    let mut line = File::options()
        .write(true)
        .open(report)
        .with_context(|| format!("open {}", report.display()))?;
    let mut tell = |value: serde_json::Value| {
        writeln!(line, "{value}").with_context(|| format!("write to {}", report.display()))
    };
    let fixture = Fixture::prepare();
    let mut count = 0;
    for (name, body) in all().filter(|(name, _)| wanted.lines().any(|line| line == name)) {
        let started = Instant::now();
        let outcome = match &fixture {
            Ok(fixture) => {
                body(fixture).map_err(|error| format!("{error:#}\n{}", machine::containerd_log()))
            }
            Err(error) => Err(format!(
                "the fixture could not be prepared: {error:#}\n{}",
                machine::containerd_log()
            )),
        };
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tell(json!({ "test": { "name": name, "failure": outcome.err(),
                "milliseconds": milliseconds } }))?;
        count += 1;
    }
    tell(json!({ "end": { "tests": count } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_are_unique() {
        let mut names: Vec<String> = all().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
