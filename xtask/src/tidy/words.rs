//! File names, headers, and texts that no file may contain.

use super::Finding;
use super::tree::{Content, Tree};

/// File names without meaning.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Marks of unfinished work. Split here and below, so that this file passes its own rules.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
];

/// Texts that readers elsewhere cannot follow, and the reason.
const FOREIGN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("sha", "red/"), "a path of one machine"),
    (
        concat!("ses", "sion"),
        "how the tree came to be is not the reader's business",
    ),
    (concat!("pypi.", "org"), HOST),
    (concat!("python", "hosted.org"), HOST),
    (concat!("crates", ".io"), HOST),
    (concat!("proxy.", "golang.org"), HOST),
    (concat!("sum.", "golang.org"), HOST),
    (concat!("deb.", "debian.org"), HOST),
    (concat!("npmjs", ".org"), HOST),
];

const HOST: &str =
    "a package registry's host: which one a machine uses is the machine's own setting";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let binary = tree
        .files
        .iter()
        .filter(|file| matches!(file.content, Content::Binary));
    let mut findings: Vec<Finding> = binary
        .map(|file| {
            Finding::new(
                &file.path,
                "a binary file: keep its source, and build it when it is needed",
            )
        })
        .collect();
    findings.extend(tree.files.iter().filter_map(|file| named(&file.path)));
    findings.extend(tree.sources().filter_map(|(path, text)| begun(path, text)));
    // The lock file names the registry in each of its entries, and is cargo's.
    findings.extend(
        tree.texts()
            .filter(|(path, _)| !path.ends_with("Cargo.lock"))
            .flat_map(|(path, text)| mentioned(path, text)),
    );
    findings
}

fn named(path: &str) -> Option<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name).to_lowercase();
    EMPTY_NAMES.contains(&stem.as_str()).then(|| {
        Finding::new(
            path,
            "the name has no meaning: name the file for its content",
        )
    })
}

fn begun(path: &str, text: &str) -> Option<Finding> {
    let begins = text
        .lines()
        .find(|line| !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//! "));
    (!begins).then(|| {
        Finding::new(
            path,
            "does not begin with a `//!` header with a description of the file",
        )
    })
}

fn mentioned(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{path}:{}", number + 1);
        for mark in MARKS.iter().filter(|mark| is_word_in(line, mark)) {
            if !has_issue(line, mark) {
                findings.push(Finding::new(
                    place(),
                    format_args!("{mark} without an issue: write {mark}(#number), or do it now"),
                ));
            }
        }
        let lower = line.to_lowercase();
        for (word, why) in FOREIGN.iter().filter(|(word, _)| lower.contains(word)) {
            findings.push(Finding::new(
                place(),
                format_args!("mentions {word:?}: {why}"),
            ));
        }
    }
    findings
}

fn is_word_in(line: &str, word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(letter) && !line[at + word.len()..].starts_with(letter)
    })
}

/// Returns whether every mark in the line is followed by `(#number)`.
fn has_issue(line: &str, mark: &str) -> bool {
    line.match_indices(mark).all(|(at, _)| {
        let issue = line[at + mark.len()..]
            .strip_prefix("(#")
            .and_then(|rest| rest.split_once(')'));
        issue.is_some_and(|(number, _)| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .into_iter()
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn source_begins_with_a_header() {
        assert_eq!(
            places(&[
                ("a.rs", "//! What a is.\n"),
                ("b.rs", "#!/usr/bin/env x\n//! What b is.\n")
            ]),
            [""; 0]
        );
        assert_eq!(
            places(&[("a.rs", "use x;\n"), ("b.rs", "")]),
            ["a.rs", "b.rs"]
        );
    }

    #[test]
    fn unfinished_work_names_an_issue() {
        let mark = MARKS[0];
        for (line, fine) in [
            (format!("{mark}(#12): x"), true),
            (format!("{mark}: x"), false),
            (format!("{mark}(#): x"), false),
        ] {
            assert_eq!(mentioned("a.md", &line).is_empty(), fine, "{line}");
        }
        assert_eq!(mentioned("a.md", &format!("{mark}S and A{mark}")), []);
    }

    #[test]
    fn machine_specific_text_is_found_with_its_line() {
        for (word, _) in FOREIGN {
            assert_eq!(
                places(&[("docs/a.md", &format!("x\nsee {word}x\n"))]),
                ["docs/a.md:2"],
                "{word}"
            );
            assert_eq!(places(&[("Cargo.lock", word)]), [""; 0]);
        }
    }

    #[test]
    fn names_without_meaning_and_binaries_are_found() {
        assert_eq!(
            places(&[
                ("x/utils.sh", ""),
                ("x/commonly.sh", ""),
                ("x/guest.wasm", "\0asm")
            ]),
            ["x/guest.wasm", "x/utils.sh"]
        );
    }
}
