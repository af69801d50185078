//! The pages of `docs/reference`.
//!
//! * [`api`]: every field of both kinds, from the CRDs.
//! * [`configuration`]: every setting of guests, from their registry.
//! * [`commands`]: every option of both programs, from the programs' own definitions.
//! * [`keys`]: every name that the operator writes or reads, from the comments in its code.
//! * [`metrics`]: every metric, from the operator's own table.
//! * [`rights`]: every right, from the tables that the roles are generated from.
//! * [`source`]: comments of Rust code.

use std::fmt::Write as _;

use anyhow::Result;

use crate::Generated;

mod api;
mod configuration;
mod commands;
mod keys;
mod metrics;
mod rights;
mod source;

/// Returns all pages.
pub(crate) fn pages() -> Result<Vec<Generated>> {
    Ok(vec![
        api::page()?,
        keys::page()?,
        metrics::page(),
        rights::page(),
        configuration::page()?,
        commands::operator(),
        commands::installer(),
    ])
}

/// Returns a page with this title.
fn page(name: &str, title: &str, text: &str) -> Generated {
    Generated::markdown(
        format!("docs/reference/{name}.md"),
        &format!("# {title}\n\n{}\n", text.trim()),
    )
}

/// Formats text as a cell of a table: on one line, with escaped bars.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Formats rows as a table.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    text.extend(
        rows.into_iter()
            .map(|cells| line(&cells.iter().map(|text| cell(text)).collect::<Vec<_>>())),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_stays_on_its_line_and_in_its_column() {
        let text = table(&["a", "b"], [vec!["x\ny".to_owned(), "p|q".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---|\n| x y | p\\|q |\n");
    }
}
