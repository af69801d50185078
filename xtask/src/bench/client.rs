//! The program bench-client, which makes the timed calls, and its samples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde_json::Value;
use testbed::containerd::Containerd;

use super::report::{Figure, Unit};
use super::subject::name::SubjectName;
use crate::setup;

/// The program, built into this program's folder.
const PROGRAM: &str = "bench-client";
/// How long one run may take: the longest create hundreds of containers.
const RUN_TIMEOUT: Duration = Duration::from_mins(10);

/// The program, with the address of containerd.
#[derive(Debug)]
pub(super) struct Client {
    containerd: Containerd,
    program: PathBuf,
    path: String,
}

impl Client {
    /// Builds the program. Shims that it starts have containerd's `PATH`.
    pub(super) fn build(containerd: &Containerd) -> Result<Self> {
        let program = setup::executable(PROGRAM)?;
        let install = containerd.install();
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
        let path = std::env::join_paths(
            [install.bin.as_path(), install.runc.as_path()]
                .into_iter()
                .chain(system),
        );
        let path = path
            .context("a folder with a colon in its name cannot be part of PATH")?
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            containerd: containerd.clone(),
            program,
            path,
        })
    }

    /// Runs it with `plan`, in containerd's `namespace`.
    pub(super) fn run(&self, what: &str, plan: &Value) -> Result<Samples> {
        let run = self
            .containerd
            .isolated()
            .run("env")
            .arg(format!("PATH={}", self.path))
            .arg(&self.program);
        let run = run.arg("--address").arg(self.containerd.address()).args([
            "--namespace",
            self.containerd.namespace(),
            what,
        ]);
        let text = run.input(plan.to_string()).deadline(RUN_TIMEOUT).text();
        // The error comes last, below the log that explains it.
        let text = text.map_err(|error| anyhow!("{}\n{error:#}", self.containerd.evidence()))?;
        serde_json::from_str(&text).with_context(|| format!("read the samples of {what}"))
    }
}

/// Values by subject, then by measurement, in the order of the rounds.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Samples {
    all: BTreeMap<SubjectName, BTreeMap<String, Vec<f64>>>,
}

impl Samples {
    /// Returns all subjects' samples of `what`.
    pub(super) fn of(&self, what: &str) -> BTreeMap<SubjectName, Vec<f64>> {
        self.all
            .iter()
            .filter_map(|(name, timed)| Some((name.clone(), timed.get(what)?.clone())))
            .collect()
    }

    /// Returns all subjects' sums of two measurements, round by round.
    pub(super) fn sum(&self, one: &str, other: &str) -> BTreeMap<SubjectName, Vec<f64>> {
        let mut others = self.of(other);
        let sums = self.of(one).into_iter().filter_map(|(name, ones)| {
            let others = others.remove(&name)?;
            Some((
                name,
                ones.iter()
                    .zip(&others)
                    .map(|(one, other)| one + other)
                    .collect(),
            ))
        });
        sums.collect()
    }

    /// Returns the figure of `what`.
    pub(super) fn figure(&self, what: &str, name: &str, unit: Unit) -> Figure {
        Figure::of(name, unit, &self.of(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_the_program_is_parsed_by_subject() {
        let samples: Samples = serde_json::from_str(
            r#"{"runc":{"create":[1.5,2.0],"start":[1.0,1.0]},"ours":{"create":[0.5]}}"#,
        )
        .unwrap();
        assert_eq!(samples.of("create")[&SubjectName::Ours], [0.5]);
        assert_eq!(
            samples.sum("create", "start"),
            BTreeMap::from([(SubjectName::Runc, vec![2.5, 3.0])])
        );
        assert!(samples.of("delete").is_empty());
    }
}
