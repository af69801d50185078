//! One bench's figures as a Markdown table.

use super::{Figure, Report, Series, Target, Unit, Verdict, Who};
use crate::bench::statistics::Summary;

/// The table's lines: a row for each figure, a column for each subject.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let whos: Vec<Who> = report.parts.iter().map(|part| part.who).collect();
    let others: Vec<Who> = whos.iter().copied().filter(|who| *who != Who::Runc && whos.contains(&Who::Runc)).collect();
    let mut head = vec!["figure".to_owned()];
    head.extend(whos.iter().map(|who| who.name().to_owned()));
    head.extend(others.iter().map(|who| format!("{} ÷ runc", who.name())));
    head.push("target".to_owned());
    let mut lines = vec![row(&head), row(&vec!["---".to_owned(); head.len()])];
    for figure in &report.figures {
        let mut cells = vec![figure.name.clone()];
        cells.extend(whos.iter().map(|who| figure.series.get(who).map_or_else(|| "–".to_owned(), |series| value(series, figure.unit))));
        cells.extend(others.iter().map(|who| ratio(figure.series.get(who))));
        cells.push(target(figure));
        lines.push(row(&cells));
    }
    lines
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The median, and in brackets the quartiles where there is more than one sample.
fn value(series: &Series, unit: Unit) -> String {
    let Summary { count, low, median, high, .. } = series.summary;
    let sign = unit.sign();
    if count == 1 {
        return format!("{}{sign}", number(median));
    }
    format!("{}{sign} ({}–{})", number(median), number(low), number(high))
}

fn ratio(series: Option<&Series>) -> String {
    let Some(Summary { count, low, median, high, .. }) = series.and_then(|series| series.to_runc) else { return "–".to_owned() };
    if count == 1 { format!("{median:.2}") } else { format!("{median:.2} ({low:.2}–{high:.2})") }
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

/// Three digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
