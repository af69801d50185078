//! Every folder of `examples` is complete: a program, its pod, its expected output, and a README
//! with its build.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::Tree;

/// The files of every example beside the source.
const FILES: &[&str] = &["README.md", "expected.txt", "pod.yaml"];
/// The extensions of guests' sources.
const SOURCES: &[&str] = &[".wat", ".c", ".rs"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut examples: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in &tree.files {
        if let Some((name, rest)) = file
            .path
            .strip_prefix("examples/")
            .and_then(|path| path.split_once('/'))
        {
            examples.entry(name).or_default().insert(rest);
        }
    }
    let table = tree
        .texts()
        .find(|(path, _)| *path == "examples/README.md")
        .map_or("", |(_, text)| text);
    let mut findings = Vec::new();
    for (name, files) in examples {
        let place = format!("examples/{name}");
        findings.extend(
            FILES
                .iter()
                .filter(|file| !files.contains(**file))
                .map(|file| Finding::new(&place, format_args!("has no {file}"))),
        );
        if !files
            .iter()
            .any(|file| SOURCES.iter().any(|ending| file.ends_with(ending)))
        {
            findings.push(Finding::new(
                &place,
                format_args!("has no source (a file that ends in one of {SOURCES:?})"),
            ));
        }
        if !table.contains(&format!("]({name}/)")) {
            findings.push(Finding::new(
                &place,
                "is not in the table of examples/README.md",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_of_an_example_are_named() {
        let complete = [
            ("README.md", ""),
            ("expected.txt", ""),
            ("pod.yaml", ""),
            ("src/main.rs", ""),
        ];
        let paths: Vec<String> = complete
            .iter()
            .map(|(file, _)| format!("examples/a/{file}"))
            .collect();
        let mut files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "")).collect();
        files.push(("examples/README.md", "| [a](a/) | … |"));
        assert_eq!(check(&Tree::of(&files)), []);
        files.push(("examples/b/README.md", ""));
        let found: Vec<String> = check(&Tree::of(&files))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found
                .iter()
                .all(|finding| finding.starts_with("examples/b: ")),
            "{found:?}"
        );
    }
}
