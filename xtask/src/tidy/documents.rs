//! References in documents exist, and lines of text have a bounded width.
//!
//! A decision record describes the past, so only its links are checked. Everywhere else a path or
//! the name of a test in backticks must exist, and so must a source file that a drawing names.

use std::path::Path;

use super::Finding;
use super::decisions::DECISIONS;
use super::size::{MAX_COLUMNS, can_be_broken};
use super::tree::Tree;

/// Test names are rules of several words; shorter names are fields and settings.
const UNDERSCORES_IN_A_TEST: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.documents() {
        let Parts { prose, drawings } = parts(text);
        for (number, word) in drawings
            .iter()
            .flat_map(|(number, line)| sources(*number, line))
        {
            if !is_there(tree, word) {
                let what = format_args!("there is no {word} in the tree");
                findings.push(Finding::new(format_args!("{path}:{number}"), what));
            }
        }
        for (number, line) in &prose {
            let place = || format!("{path}:{number}");
            if is_too_wide(line) && !is_generated(text) {
                let what = format_args!("more than {MAX_COLUMNS} columns: break the line");
                findings.push(Finding::new(place(), what));
            }
            let text = without_code(line);
            let missing = links(&text)
                .into_iter()
                .filter(|link| !tree.has(&resolve(path, link)));
            findings.extend(
                missing.map(|link| {
                    Finding::new(place(), format_args!("the link {link} leads nowhere"))
                }),
            );
            if !path.starts_with(DECISIONS) {
                let unknown = code(line).filter(|word| !is_there(tree, word));
                findings.extend(unknown.map(|word| {
                    Finding::new(place(), format_args!("there is no `{word}` in the tree"))
                }));
            }
        }
    }
    findings
}

/// The lines of a document with their numbers, without indented blocks of code.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// Lines of text.
    pub(super) prose: Vec<(usize, &'a str)>,
    /// Lines between fences.
    drawings: Vec<(usize, &'a str)>,
}

pub(super) fn parts(text: &str) -> Parts<'_> {
    let mut fenced = false;
    let mut parts = Parts::default();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            parts.drawings.push((index + 1, line));
        } else if !line.starts_with("    ") {
            parts.prose.push((index + 1, line));
        }
    }
    parts
}

/// Returns the paths of Rust files in a line of a drawing, each with the line's number.
fn sources(number: usize, line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split([' ', ','])
        .filter(|word| {
            Path::new(word)
                .extension()
                .is_some_and(|extension| extension == "rs")
        })
        .map(move |word| (number, word))
}

/// Whether a line of text, which is not a row of a table, is too wide.
fn is_too_wide(line: &str) -> bool {
    let is_row = line.trim_start().starts_with('|');
    !is_row && line.chars().count() > MAX_COLUMNS && can_be_broken(line)
}

/// Whether the first line marks the document as generated.
fn is_generated(text: &str) -> bool {
    text.starts_with("<!-- Generated")
}

/// Returns the targets of links that lead to files of the tree.
fn links(line: &str) -> Vec<&str> {
    let targets = line
        .match_indices("](")
        .filter_map(|(at, open)| line[at + open.len()..].split_once(')'));
    let targets =
        targets.map(|(target, _)| target.split_once('#').map_or(target, |(file, _)| file));
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Removes text in backticks: a regular expression can look like a link.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Resolves `link` in the document `path`, from the root of the repository.
fn resolve(path: &str, link: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the texts in backticks.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns whether a word in backticks exists, if it is a path of the tree or the name of a test.
fn is_there(tree: &Tree, word: &str) -> bool {
    let only = |extra: &str| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    if only("_")
        && word.matches('_').count() >= UNDERSCORES_IN_A_TEST
        && !word.contains(char::is_uppercase)
    {
        // A program without a harness has the names of its tests in a table.
        let (function, in_table) = (format!("fn {word}("), format!("\"{word}\""));
        return tree
            .sources()
            .any(|(_, text)| text.contains(&function) || text.contains(&in_table));
    }
    match word.split_once('/') {
        Some((top, _)) if !top.is_empty() && only("_-./") && tree.has(top) => tree.has(word),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn broken_link_is_found() {
        let files = [
            (
                "docs/a.md",
                "[x](../README.md#y) [y](b.md) [z](https://example.org)\n    \
                 [w](nowhere.md)\n`[a](b)` [`b`](a.md)\n",
            ),
            ("README.md", ""),
        ];
        assert_eq!(found(&files), ["docs/a.md:1: the link b.md leads nowhere"]);
    }

    #[test]
    fn missing_source_in_a_drawing_is_found() {
        let text = "```text\n ─► shim/src/lib.rs, shim/gone.rs a/b.rs x.rs\n```\n";
        let files = [("shim/src/lib.rs", ""), ("docs/a.md", text)];
        assert_eq!(
            found(&files),
            ["docs/a.md:2: there is no shim/gone.rs in the tree"]
        );
    }

    #[test]
    fn wide_line_is_found_outside_of_tables_code_and_generated_pages() {
        let wide = "word ".repeat(21);
        let text = format!("{wide}\n| {wide} |\n\n    {wide}\n```\n{wide}\n```\n");
        let generated = format!("<!-- Generated by x. -->\n{wide}\n");
        let files = [("a.md", text.as_str()), ("b.md", &generated)];
        assert_eq!(
            found(&files),
            ["a.md:1: more than 100 columns: break the line"]
        );
    }

    #[test]
    fn missing_paths_and_tests_in_backticks_are_found() {
        let files = [
            ("shim/src/lib.rs", "fn a_rule_that_holds() {}\n"),
            (
                "README.md",
                "`shim/src` `shim/src/lib.rs` `shim/gone.rs` `a_rule_that_holds`\n\
                 `a_rule_that_went` `process.cwd` `a_b` `/etc/x`\n",
            ),
            ("docs/decisions/0001-x.md", "# 0001: x\n`shim/gone.rs`\n"),
        ];
        assert_eq!(
            found(&files),
            [
                "README.md:1: there is no `shim/gone.rs` in the tree",
                "README.md:2: there is no `a_rule_that_went` in the tree"
            ]
        );
    }
}
