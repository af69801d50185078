//! The figures of a run: as JSON, and as a table.
//!
//! - [`table`]: one benchmark's figures as Markdown.
//! - [`recorded`]: docs/benchmarks.json, the recorded runs.
//! - [`page`]: docs/benchmarks.md, generated from the recorded runs.
//! - [`readme`]: the README's few figures, from the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::statistics::{self, Summary};
use super::subject::name::SubjectName;

pub(super) mod page;
pub(super) mod readme;
pub(super) mod recorded;
pub(super) mod table;

/// A benchmark.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bench {
    /// One container, from its start to its end, and a pod's sandbox
    Start,
    /// Memory and processes of idle containers
    Density,
    /// Many pods of one Deployment on a kind worker
    Burst,
    /// Containers per second
    Churn,
}

impl Bench {
    /// Returns its name, which is part of file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Density => "density",
            Self::Burst => "burst",
            Self::Churn => "churn",
        }
    }
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "/s")]
    PerSecond,
    #[serde(rename = "")]
    Count,
}

impl Unit {
    /// Returns the sign behind a number.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Mebibytes => " MiB",
            Self::PerSecond => " /s",
            Self::Count => "",
        }
    }
}

/// A target for this runtime: its median, or the median of its ratios to runc.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    /// At most this value.
    Value(f64),
    /// At most this ratio to runc.
    Ratio(f64),
}

/// The result of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// A subject of the comparison was not measured.
    Unknown,
}

/// One measurement of several subjects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figure {
    /// The name of the measurement.
    pub(super) name: String,
    pub(super) unit: Unit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Target>,
    /// By subject.
    pub(super) series: BTreeMap<SubjectName, Series>,
}

/// One subject's part of a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Series {
    pub(super) summary: Summary,
    /// The ratios to runc round by round, if runc was measured too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to_runc: Option<Summary>,
    /// In the order of the rounds. Recorded runs have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<f64>,
}

impl Figure {
    /// Makes the figure of these samples; subjects without any are left out.
    pub(super) fn of(
        name: impl Into<String>,
        unit: Unit,
        samples: &BTreeMap<SubjectName, Vec<f64>>,
    ) -> Self {
        let runc = samples.get(&SubjectName::Runc).map(Vec::as_slice);
        let series = samples.iter().filter_map(|(name, samples)| {
            let against = runc.filter(|_| *name != SubjectName::Runc);
            let to_runc = against.and_then(|runc| Summary::of(&statistics::ratios(samples, runc)));
            Some((
                name.clone(),
                Series {
                    summary: Summary::of(samples)?,
                    to_runc,
                    samples: samples.iter().map(|value| rounded(*value)).collect(),
                },
            ))
        });
        Self {
            name: name.into(),
            unit,
            target: None,
            series: series.collect(),
        }
    }

    /// Sets the target.
    pub(super) fn target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// Returns whether its target was reached; `None` without a target.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let target = self.target?;
        let ours = self.series.get(&SubjectName::Ours);
        let (found, limit) = match target {
            Target::Value(limit) => (ours.map(|series| series.summary.median), limit),
            Target::Ratio(limit) => (
                ours.and_then(|series| series.to_runc)
                    .map(|summary| summary.median),
                limit,
            ),
        };
        Some(match found {
            None => Verdict::Unknown,
            Some(found) if found <= limit => Verdict::Reached,
            Some(_) => Verdict::Missed,
        })
    }
}

/// One subject of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: SubjectName,
    /// Its description, version included.
    pub(super) what: String,
}

/// One benchmark's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) bench: Bench,
    /// The command of the run.
    pub(super) command: String,
    /// The day, in UTC.
    pub(super) date: String,
    /// The commit that was checked out.
    pub(super) commit: String,
    pub(super) machine: Machine,
    pub(super) parts: Vec<Part>,
    /// Notes for readers of this run.
    pub(super) notes: Vec<String>,
    pub(super) figures: Vec<Figure>,
}

impl Report {
    /// Writes it as JSON into `folder`, under the benchmark's name, with all samples.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join(format!("{}.json", self.bench.name()));
        let mut text = serde_json::to_string_pretty(self).context("write a report")?;
        text.push('\n');
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }
}

/// Rounds to a thousandth: smaller digits are the clock's noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
