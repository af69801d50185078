//! Files stay short: a reader should hold one in mind, and tests that crowd out the code move beside it.

use super::Finding;
use super::tree::Tree;

/// Lines of a file, its inline tests left out.
const FILE: usize = 400;
/// Lines of inline tests.
const TESTS: usize = 100;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources().flat_map(|(path, text)| too_long(path, text)).collect()
}

fn too_long(path: &str, text: &str) -> Vec<Finding> {
    let Lines { code, tests } = count(text);
    let mut findings = Vec::new();
    if code > FILE {
        findings.push(Finding::new(path, format_args!("{code} lines without tests, at most {FILE}: split it by what its parts are for")));
    }
    if tests > TESTS {
        let beside = path.strip_suffix(".rs").unwrap_or(path);
        let beside = beside.strip_suffix("/lib").or_else(|| beside.strip_suffix("/main")).unwrap_or(beside);
        findings.push(Finding::new(path, format_args!("{tests} lines of inline tests, at most {TESTS}: move them to {beside}/tests.rs")));
    }
    findings
}

#[derive(Debug, PartialEq, Eq)]
struct Lines {
    code: usize,
    tests: usize,
}

/// Counts by the form that rustfmt gives an inline module: it ends at the first brace in the first column.
fn count(text: &str) -> Lines {
    let lines: Vec<&str> = text.lines().collect();
    let opens = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    let Some(start) = lines.windows(2).position(opens) else {
        return Lines { code: lines.len(), tests: 0 };
    };
    let tests = lines[start..].iter().position(|line| *line == "}").map_or(lines.len() - start, |last| last + 1);
    Lines { code: lines.len() - tests, tests }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_tests_are_counted_apart() {
        let text = "//! x\nfn f() {\n}\n\n#[cfg(test)]\nmod tests {\n    fn g() {\n    }\n}\nfn after() {}\n";
        assert_eq!(count(text), Lines { code: 5, tests: 5 });
        assert_eq!(count("fn f() {}\n#[cfg(test)]\nmod tests;\n"), Lines { code: 3, tests: 0 });
    }

    #[test]
    fn a_long_file_and_long_tests_are_told_apart() {
        let long = "x\n".repeat(FILE + 1);
        let found = too_long("a/b.rs", &long);
        assert!(found.len() == 1 && found[0].what.contains("401 lines without tests"), "{found:?}");
        let crowded = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    x\n".repeat(TESTS));
        let found = too_long("a/lib.rs", &crowded);
        assert!(found.len() == 1 && found[0].what.contains("a/tests.rs"), "{found:?}");
        assert_eq!(too_long("a.rs", &"x\n".repeat(FILE)), []);
    }
}
