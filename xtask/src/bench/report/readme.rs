//! The README's table of a few figures, between two marks, for readers that see the project for the
//! first time.

use anyhow::{Context as _, Result};

use super::{Bench, Figure, Report, SubjectName, table};

/// The marks, which are comments of Markdown.
const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --record` -->";
const END: &str = "<!-- measured: end -->";

/// The shown figures: name, and label in the README.
pub(super) const SHOWN: [(Bench, &str, &str); 6] = [
    (
        Bench::Start,
        "one client: Tasks.Create to the exit event",
        "one container, from its creation to its end",
    ),
    (
        Bench::Start,
        "RunPodSandbox with a bridge (CNI)",
        "a pod's sandbox with its network",
    ),
    (
        Bench::Churn,
        "containers per second, 8 in flight",
        "containers per second, 8 in flight",
    ),
    (
        Bench::Burst,
        "until all 60 pods are ready",
        "60 pods on a kind worker, until all are ready",
    ),
    (
        Bench::Burst,
        "memory of the machine, per pod",
        "memory of the machine for each of them",
    ),
    (
        Bench::Burst,
        "processes per pod",
        "processes for each of them",
    ),
];

/// Returns `readme` with the table of `reports` between the marks.
///
/// # Errors
/// If a mark is missing.
pub(crate) fn with_figures(readme: &str, reports: &[Report]) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("README.md has no line {BEGIN:?}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("README.md has no line {END:?}"))?;
    Ok(format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        lines(reports).join("\n")
    ))
}

fn lines(reports: &[Report]) -> Vec<String> {
    let mut lines = vec![
        "| in the same minutes on the same machine | runc | this runtime |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    lines.extend(SHOWN.iter().filter_map(|(bench, name, called)| {
        let report = reports.iter().find(|report| report.bench == *bench)?;
        let figure = report.figures.iter().find(|figure| figure.name == *name)?;
        Some(format!(
            "| {called} | {} | {} |",
            median(figure, &SubjectName::Runc)?,
            median(figure, &SubjectName::Ours)?
        ))
    }));
    lines
}

fn median(figure: &Figure, name: &SubjectName) -> Option<String> {
    Some(format!(
        "{}{}",
        table::number(figure.series.get(name)?.summary.median),
        figure.unit.sign()
    ))
}
