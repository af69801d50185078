//! The chart, its cases, and Helm to render them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testbed::cache::Cache;
use testbed::helm::{self, Helm};

/// The chart under test.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) helm: Helm,
    pub(crate) chart: PathBuf,
}

/// A set of values for the chart.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

impl Subject {
    pub(crate) fn find() -> Result<Self> {
        Ok(Self {
            helm: Helm::find(&Cache::open()?)?,
            chart: helm::chart(),
        })
    }

    /// Returns every case, in the order of their names.
    pub(crate) fn cases(&self) -> Result<Vec<Case>> {
        cases_in(&self.chart)
    }

    /// Renders the chart with these values.
    pub(crate) fn render(&self, values: &Path) -> Result<String> {
        self.helm.render(&self.chart, Some(values))
    }

    /// Reads a YAML file with Helm itself: its parser is the relevant one.
    pub(crate) fn read(&self, file: &Path) -> Result<Value> {
        let folder =
            tempfile::tempdir().context("make a folder for a chart that shows its values")?;
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).with_context(|| format!("write {name}"))
        };
        write(
            "Chart.yaml",
            "apiVersion: v2\nname: mirror\nversion: 0.0.0\n",
        )?;
        fs::create_dir(folder.path().join("templates")).context("make the folder templates")?;
        write(
            "templates/values.yaml",
            "values: {{ toJson .Values | quote }}\n",
        )?;
        let text = self.helm.render(folder.path(), Some(file))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("values: "))
            .context("Helm printed no values")?;
        let json: String = serde_json::from_str(line).context("read the text that Helm quoted")?;
        serde_json::from_str(&json).with_context(|| format!("read {} as JSON", file.display()))
    }
}

/// Returns the cases of a chart.
pub(crate) fn cases_in(chart: &Path) -> Result<Vec<Case>> {
    let folder = chart.join("tests/cases");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut cases = Vec::new();
    for entry in entries {
        let file = entry
            .with_context(|| format!("list {}", folder.display()))?
            .path();
        let Some(name) = file.file_stem().and_then(|name| name.to_str()) else {
            bail!("{} has no name", file.display())
        };
        cases.push(Case {
            name: name.to_owned(),
            file: file.clone(),
        });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}
