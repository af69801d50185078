//! docs/benchmarks.json: the recorded runs, with medians and quartiles in place of samples.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Report;

/// The depth to which nested values have lines of their own: runs, their fields, and figures. Each
/// figure is one line.
const DEPTH: usize = 3;

/// Reads the recorded runs, in the order of the benchmarks; none if there is no file.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn read(file: &Path) -> Result<Vec<Report>> {
    match fs::read(file) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// Writes the recorded runs.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(file: &Path, runs: &[Report]) -> Result<()> {
    let value = serde_json::to_value(runs).context("convert the recorded runs to JSON")?;
    fs::write(file, text(&value, DEPTH, "") + "\n")
        .with_context(|| format!("write {}", file.display()))
}

/// Returns `runs` with `run` in place of the earlier run of its benchmark.
pub(crate) fn with(mut runs: Vec<Report>, run: &Report) -> Vec<Report> {
    runs.retain(|earlier| earlier.bench != run.bench);
    runs.push(without_samples(run.clone()));
    runs.sort_by_key(|run| run.bench);
    runs
}

fn without_samples(mut run: Report) -> Report {
    for series in run
        .figures
        .iter_mut()
        .flat_map(|figure| figure.series.values_mut())
    {
        series.samples.clear();
    }
    run
}

/// Returns `value` as JSON, with separate lines for the content of `depth` nested arrays and
/// objects.
fn text(value: &Value, depth: usize, indent: &str) -> String {
    let inner = format!("{indent}  ");
    let within = |items: Vec<String>| {
        items
            .iter()
            .map(|item| format!("\n{inner}{item}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    match value {
        Value::Array(items) if depth > 0 && !items.is_empty() => {
            let items = items
                .iter()
                .map(|item| text(item, depth - 1, &inner))
                .collect();
            format!("[{}\n{indent}]", within(items))
        }
        Value::Object(fields) if depth > 0 && !fields.is_empty() => {
            let field = |(name, value)| {
                format!(
                    "{}: {}",
                    Value::from(String::clone(name)),
                    text(value, depth - 1, &inner)
                )
            };
            format!(
                "{{{}\n{indent}}}",
                within(fields.iter().map(field).collect())
            )
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn recorded_json_has_a_line_for_each_value_down_to_the_depth() {
        let value = json!([{ "a": [{ "b": [1, 2] }, "c"], "d": [] }]);
        let expected = "[\n  \
                        {\n    \"a\": [\n      {\"b\":[1,2]},\n      \"c\"\n    ],\n    \
                        \"d\": []\n  }\n]";
        assert_eq!(text(&value, DEPTH, ""), expected);
        assert_eq!(serde_json::from_str::<Value>(expected).unwrap(), value);
    }
}
