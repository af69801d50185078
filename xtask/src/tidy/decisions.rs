//! Decision records: numbered without gaps, each with its title and its status.

use super::Finding;
use super::tree::Tree;

/// The folder of the records.
pub(super) const DECISIONS: &str = "docs/decisions/";

/// The status in the third line of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Accepted,
    /// By the record of this number.
    SupersededBy(u32),
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let records: Vec<(&str, &str)> = tree
        .documents()
        .filter(|(path, _)| path.starts_with(DECISIONS))
        .collect();
    let numbers: Vec<u32> = records
        .iter()
        .filter_map(|(path, _)| number(path))
        .collect();
    let mut findings = Vec::new();
    let mut expected = 1;
    for (path, text) in records {
        let number = number(path);
        if number != Some(expected) {
            let message =
                format_args!("the next decision's file begins with {expected:04}-: number it so");
            findings.push(Finding::new(path, message));
        }
        let number = number.unwrap_or(expected);
        if !text.starts_with(&format!("# {number:04}: ")) {
            findings.push(Finding::new(
                path,
                format_args!("does not begin with `# {number:04}: ` and its title"),
            ));
        }
        match text.lines().nth(2).and_then(status) {
            None => {
                let message =
                    "the third line is not `Status: accepted` or `Status: superseded by NNNN`";
                findings.push(Finding::new(path, format_args!("{message}")));
            }
            Some(Status::SupersededBy(later)) if later == number || !numbers.contains(&later) => {
                findings.push(Finding::new(
                    path,
                    format_args!("is superseded by {later:04}, which is not another record"),
                ));
            }
            Some(Status::Accepted | Status::SupersededBy(_)) => {}
        }
        expected = number + 1;
    }
    findings
}

/// Parses the number in a record's file name, `NNNN-title.md`.
fn number(path: &str) -> Option<u32> {
    let (number, _) = path.strip_prefix(DECISIONS)?.split_once('-')?;
    (number.len() == 4).then(|| number.parse().ok())?
}

fn status(line: &str) -> Option<Status> {
    let status = line.strip_prefix("Status: ")?;
    match status.strip_prefix("superseded by ") {
        Some(later) => later.parse().ok().map(Status::SupersededBy),
        None => (status == "accepted").then_some(Status::Accepted),
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

    const FIRST: (&str, &str) = (
        "docs/decisions/0001-x.md",
        "# 0001: x\n\nStatus: accepted\n",
    );

    #[test]
    fn decisions_are_numbered_without_gaps_or_duplicates() {
        let accepted = |number: &str| format!("# {number}: x\n\nStatus: accepted\n");
        let (second, fourth) = (accepted("0002"), accepted("0004"));
        assert_eq!(
            found(&[FIRST, ("docs/decisions/0002-x.md", &second)]),
            [""; 0]
        );
        assert_eq!(
            found(&[
                FIRST,
                ("docs/decisions/0002-x.md", &second),
                ("docs/decisions/0002-y.md", &second)
            ])
            .len(),
            1
        );
        assert_eq!(
            found(&[FIRST, ("docs/decisions/0004-x.md", &fourth)]).len(),
            1
        );
        assert_eq!(
            found(&[(
                "docs/decisions/0001-x.md",
                "# A title\n\nStatus: accepted\n"
            )])
            .len(),
            1
        );
    }

    #[test]
    fn status_of_a_decision_names_another_record() {
        for (status, findings) in [
            ("Status: accepted", 0),
            ("Status: superseded by 0002", 0),
            ("Status: superseded by 0001", 1),
            ("Status: superseded by 0009", 1),
            ("Status: perhaps", 1),
            ("", 1),
        ] {
            let text = format!("# 0001: x\n\n{status}\n");
            let files = [
                ("docs/decisions/0001-x.md", text.as_str()),
                (
                    "docs/decisions/0002-y.md",
                    "# 0002: y\n\nStatus: accepted\n",
                ),
            ];
            assert_eq!(found(&files).len(), findings, "{status}");
        }
    }
}
