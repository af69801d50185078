//! The chart's README: its text, and a table of all values from `values.yaml`.
//!
//! The meaning of a value is the comment above it, so `values.yaml` has a fixed form: two spaces
//! for each level, comments above their key, every value on its key's line (lists and small maps
//! in brackets).

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::{Generated, NOTICE, repository};

const CHART: &str = "charts/wasmedge-operator";
/// Line of `README.in` that the table replaces.
const MARK: &str = "@values@\n";

/// Returns the chart's README.
pub(crate) fn readme() -> Result<Generated> {
    let read = |name: &str| {
        let path = repository().join(CHART).join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let text = read("README.in")?;
    ensure!(
        text.matches(MARK).count() == 1,
        "README.in must have exactly one line {MARK:?}"
    );
    let text = text.replace(MARK, &values_table(&read("values.yaml")?));
    Ok(Generated {
        path: format!("{CHART}/README.md"),
        text: format!("<!-- {NOTICE} Edit README.in and values.yaml instead. -->\n\n{text}"),
    })
}

/// Returns a table of all values: path, default and meaning.
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

/// A value, or a group of values with a comment; a group has no default.
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
            // A comment before an empty line belongs to the file.
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

/// Escapes text for a cell.
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
    fn row_has_the_comment_above_its_value_and_group_has_no_default() {
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
    fn bar_does_not_end_a_cell() {
        assert!(
            values_table(VALUES).contains("| `group.first` | `\"\"` | One \\| two. |\n"),
            "{}",
            values_table(VALUES)
        );
    }

    #[test]
    fn every_value_of_the_chart_has_a_comment() {
        let values = fs::read_to_string(repository().join(CHART).join("values.yaml")).unwrap();
        let rows = rows(&values);
        assert!(rows.len() > 50, "{}", rows.len());
        for row in rows {
            assert!(!row.meaning.is_empty(), "{} has no comment", row.path);
        }
    }

    #[test]
    fn readme_has_the_table_in_place_of_the_mark() {
        let readme = readme().unwrap();
        assert!(
            readme.text.contains("| `replicas` | `2` |") && !readme.text.contains(MARK.trim()),
            "{}",
            readme.text
        );
    }
}
