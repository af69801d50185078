//! References in documents exist.
//!
//! A decision record describes the past, so only its links are checked. Everywhere else a path or
//! the name of a test in backticks must exist.

use super::Finding;
use super::decisions::DECISIONS;
use super::tree::Tree;

/// Test names are rules of several words; shorter names are fields and settings.
const UNDERSCORES_IN_A_TEST: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.documents() {
        let prose = prose(text);
        for (number, line) in &prose {
            let place = || format!("{path}:{number}");
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

/// Returns the lines outside of code blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            lines.push((index + 1, line));
        }
    }
    lines
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
        return tree
            .sources()
            .any(|(_, text)| text.contains(&format!("fn {word}(")));
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
    fn missing_paths_and_tests_in_backticks_are_found() {
        let files = [
            ("shim/src/lib.rs", "fn a_rule_that_holds() {}\n"),
            (
                "README.md",
                "`shim/src` `shim/src/lib.rs` `shim/gone.rs` `a_rule_that_holds` \
                 `a_rule_that_went` `process.cwd` `a_b` `/etc/x`\n",
            ),
            ("docs/decisions/0001-x.md", "# 0001: x\n`shim/gone.rs`\n"),
        ];
        assert_eq!(
            found(&files),
            [
                "README.md:1: there is no `shim/gone.rs` in the tree",
                "README.md:1: there is no `a_rule_that_went` in the tree"
            ]
        );
    }
}
