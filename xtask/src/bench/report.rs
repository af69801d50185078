//! The figures of a run: as JSON, and as a table.
//!
//! * [`table`]: one bench's figures as Markdown.
//! * [`recorded`]: docs/benchmarks.json, the recorded runs.
//! * [`page`]: docs/benchmarks.md, made of all that was recorded.
//! * [`readme`]: the README's few figures, of the same.

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

/// What is measured.
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
    /// Its name, which its files bear.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Density => "density",
            Self::Burst => "burst",
            Self::Churn => "churn",
        }
    }
}

/// What a figure counts.
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
    /// As it stands behind a number.
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

/// What this runtime is to reach: its median, or the median of its ratios to runc.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    /// At most this.
    Value(f64),
    /// At most this part of runc's.
    Ratio(f64),
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// A subject that it compares was not measured.
    Unknown,
}

/// One thing that was measured of several subjects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figure {
    /// What it is.
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
    /// Round by round divided by runc's, where runc was measured too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to_runc: Option<Summary>,
    /// In the order of the rounds. Recorded runs have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<f64>,
}

impl Figure {
    /// The figure of these samples; subjects without any are left out.
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

    /// The same, with a target.
    pub(super) fn target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// Whether its target was reached; none if it has no target.
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
    /// What it is, version included.
    pub(super) what: String,
}

/// One bench's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) bench: Bench,
    /// The command that made it.
    pub(super) command: String,
    /// The day, in UTC.
    pub(super) date: String,
    /// The commit that was checked out.
    pub(super) commit: String,
    pub(super) machine: Machine,
    pub(super) parts: Vec<Part>,
    /// What a reader has to know of this run.
    pub(super) notes: Vec<String>,
    pub(super) figures: Vec<Figure>,
}

impl Report {
    /// Writes it as JSON into `folder`, under the bench's name, with all samples.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join(format!("{}.json", self.bench.name()));
        let mut text = serde_json::to_string_pretty(self).context("write a report")?;
        text.push('\n');
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }
}

/// Samples are kept to a thousandth: what lies behind is the clock's noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
