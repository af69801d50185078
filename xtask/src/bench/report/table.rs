//! One benchmark's figures as a Markdown table.

use super::{Figure, Report, Series, SubjectName, Target, Unit, Verdict};
use crate::bench::statistics::Summary;

/// Returns the table's lines: a row for each figure, a column for each subject.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let names: Vec<&SubjectName> = report.parts.iter().map(|part| &part.name).collect();
    // The subjects that are compared with runc.
    let mut others = names.clone();
    others.retain(|name| **name != SubjectName::Runc && names.contains(&&SubjectName::Runc));
    let mut head = vec!["figure".to_owned()];
    head.extend(names.iter().map(ToString::to_string));
    head.extend(others.iter().map(|name| format!("{name} ÷ runc")));
    head.push("target".to_owned());
    let mut lines = vec![row(&head), row(&vec!["---".to_owned(); head.len()])];
    for figure in &report.figures {
        let mut cells = vec![figure.name.clone()];
        cells.extend(names.iter().map(|name| {
            figure
                .series
                .get(name)
                .map_or_else(|| "–".to_owned(), |series| value(series, figure.unit))
        }));
        cells.extend(others.iter().map(|name| ratio(figure.series.get(name))));
        cells.push(target(figure));
        lines.push(row(&cells));
    }
    lines
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// Formats the median, and in brackets the quartiles if there is more than one sample.
fn value(series: &Series, unit: Unit) -> String {
    let Summary {
        count,
        low,
        median,
        high,
        ..
    } = series.summary;
    let sign = unit.sign();
    if count == 1 {
        return format!("{}{sign}", number(median));
    }
    format!(
        "{}{sign} ({}–{})",
        number(median),
        number(low),
        number(high)
    )
}

fn ratio(series: Option<&Series>) -> String {
    let Some(Summary {
        count,
        low,
        median,
        high,
        ..
    }) = series.and_then(|series| series.to_runc)
    else {
        return "–".to_owned();
    };
    if count == 1 {
        format!("{median:.2}")
    } else {
        format!("{median:.2} ({low:.2}–{high:.2})")
    }
}

fn target(figure: &Figure) -> String {
    let limit = match figure.target {
        None => return String::new(),
        Some(Target::Value(limit)) => format!("≤ {}{}", number(limit), figure.unit.sign()),
        Some(Target::Ratio(limit)) => format!("÷ runc ≤ {limit:.2}"),
    };
    match figure.verdict() {
        Some(Verdict::Reached) => format!("{limit}: reached"),
        Some(Verdict::Missed) => format!("{limit}: missed"),
        Some(Verdict::Unknown) | None => limit,
    }
}

/// Formats a number with three significant digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
