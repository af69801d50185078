//! The chart's README: its text, and a table of every value made of `values.yaml`.
//!
//! The table takes a value's meaning from the comment above it, so `values.yaml` keeps to a form:
//! two spaces for each level, comments above their key, every value on its key's line (lists and
//! small maps in brackets).

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::{Generated, NOTICE, repository};

const CHART: &str = "charts/wasmedge-operator";
/// The line of `README.in` that the table stands for.
const MARK: &str = "@values@\n";

/// The chart's README.
pub(crate) fn readme() -> Result<Generated> {
    let read = |name: &str| {
        let path = repository().join(CHART).join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let text = read("README.in")?;
    ensure!(
        text.matches(MARK).count() == 1,
        "README.in has not exactly one line {MARK:?}"
    );
    let text = text.replace(MARK, &values_table(&read("values.yaml")?));
    Ok(Generated {
        path: format!("{CHART}/README.md"),
        text: format!("<!-- {NOTICE} Its text lies in README.in. -->\n\n{text}"),
    })
}

/// A table of every value: its path, its default and what it means.
pub(crate) fn values_table(values_yaml: &str) -> String {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for row in rows(values_yaml) {
        let default = if row.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", row.default)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} |",
            row.path,
            cell(&default),
            cell(&row.meaning)
        );
    }
    table
}

/// A value, or a group of values that has a comment of its own; a group has no default.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    path: String,
    default: String,
    meaning: String,
}

fn rows(values_yaml: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut parents: Vec<String> = Vec::new();
    let mut comment = Vec::new();
    for line in values_yaml.lines() {
        let text = line.trim();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim().to_owned());
            continue;
        }
        let Some((key, default)) = text.split_once(':').filter(|_| !text.is_empty()) else {
            // A comment that an empty line parts from what follows is about the file.
            comment.clear();
            continue;
        };
        parents.truncate((line.len() - line.trim_start().len()) / 2);
        parents.push(if key.contains('.') {
            format!("\"{key}\"")
        } else {
            key.to_owned()
        });
        let default = default.trim();
        let meaning = std::mem::take(&mut comment).join(" ");
        if !default.is_empty() || !meaning.is_empty() {
            rows.push(Row {
                path: parents.join("."),
                default: default.to_owned(),
                meaning,
            });
        }
    }
    rows
}

/// Text within a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: &str = "# The file.\n\n# A group\n# of two.\ngroup:\n  # One | two.\n  first: \
                          \"\"\n  inner:\n    # A list.\n    \
                          list: [{a: 1}]\n# A key with dots.\nflat:\n  # Its value.\n  a.b/c: \
                          x:y\n";

    #[test]
    fn a_value_has_the_comment_above_it_and_a_group_has_no_default() {
        let expected = [
            ("group", "", "A group of two."),
            ("group.first", "\"\"", "One | two."),
            ("group.inner.list", "[{a: 1}]", "A list."),
            ("flat", "", "A key with dots."),
            ("flat.\"a.b/c\"", "x:y", "Its value."),
        ];
        let row = |(path, default, meaning): (&str, &str, &str)| Row {
            path: path.to_owned(),
            default: default.to_owned(),
            meaning: meaning.to_owned(),
        };
        assert_eq!(rows(VALUES), expected.map(row));
    }

    #[test]
    fn a_bar_does_not_end_a_cell() {
        assert!(
            values_table(VALUES).contains("| `group.first` | `\"\"` | One \\| two. |\n"),
            "{}",
            values_table(VALUES)
        );
    }

    #[test]
    fn every_value_of_the_chart_says_what_it_means() {
        let values = fs::read_to_string(repository().join(CHART).join("values.yaml")).unwrap();
        let rows = rows(&values);
        assert!(rows.len() > 50, "{}", rows.len());
        for row in rows {
            assert!(!row.meaning.is_empty(), "{} has no comment", row.path);
        }
    }

    #[test]
    fn the_readme_holds_the_table_in_place_of_the_mark() {
        let readme = readme().unwrap();
        assert!(
            readme.text.contains("| `replicas` | `2` |") && !readme.text.contains(MARK.trim()),
            "{}",
            readme.text
        );
    }
}
