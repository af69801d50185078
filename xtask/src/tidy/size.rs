//! Limits of a source file: its length, the length of its inline tests, and the width of its lines.

use super::Finding;
use super::tree::Tree;

/// Lines of a file, without its inline tests.
const MAX_CODE_LINES: usize = 550;
/// Lines of a file of tests.
const MAX_TEST_FILE_LINES: usize = 750;
/// Lines of inline tests.
const MAX_INLINE_TEST_LINES: usize = 190;
/// Characters of a line: `max_width` of rustfmt.toml, which does not wrap comments and strings.
pub(super) const MAX_COLUMNS: usize = 100;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources();
    sources
        .flat_map(|(path, text)| [too_long(path, text), too_wide(path, text)].concat())
        .collect()
}

fn too_long(path: &str, text: &str) -> Vec<Finding> {
    let Lines { code, tests } = count(text);
    let mut findings = Vec::new();
    let max = if is_test_file(path) {
        MAX_TEST_FILE_LINES
    } else {
        MAX_CODE_LINES
    };
    if code > max {
        let what = "lines without inline tests";
        let what = format_args!("{code} {what}, at most {max}: split it by what its parts are for");
        findings.push(Finding::new(path, what));
    }
    if tests > MAX_INLINE_TEST_LINES {
        let beside = path.strip_suffix(".rs").unwrap_or(path);
        let crate_root = beside
            .strip_suffix("/lib")
            .or_else(|| beside.strip_suffix("/main"));
        let beside = crate_root.unwrap_or(beside);
        let max = MAX_INLINE_TEST_LINES;
        let what = format_args!(
            "{tests} lines of inline tests, at most {max}: move them to {beside}/tests.rs"
        );
        findings.push(Finding::new(path, what));
    }
    findings
}

pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.split('/').any(|folder| folder == "tests")
}

/// Finds lines above the width, except those that cannot be broken: a table's row, a picture, a raw
/// string, one long word.
fn too_wide(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut raw_string_end: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let (begins_in_raw_string, rest) = match raw_string_end.take() {
            None => (false, line),
            Some(end) => {
                if let Some((_, rest)) = line.split_once(&end) {
                    (true, rest)
                } else {
                    raw_string_end = Some(end);
                    continue;
                }
            }
        };
        let opened = raw_string(rest);
        if let Some((end, inside)) = &opened
            && !inside.contains(end.as_str())
        {
            raw_string_end = Some(end.clone());
        }
        let is_raw = begins_in_raw_string || opened.is_some();
        if !is_raw && line.chars().count() > MAX_COLUMNS && can_be_broken(line) {
            let place = format_args!("{path}:{}", number + 1);
            let what = format_args!("more than {MAX_COLUMNS} columns: break the line");
            findings.push(Finding::new(place, what));
        }
    }
    findings
}

/// Returns the end of the raw string that begins in this line, and the text after its opening
/// quote.
fn raw_string(line: &str) -> Option<(String, &str)> {
    line.match_indices('r').find_map(|(at, _)| {
        let is_prefix =
            !line[..at].ends_with(|c: char| c.is_alphanumeric() && c != 'b' || c == '_');
        let rest = &line[at + 1..];
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let inside = rest[hashes..].strip_prefix('"').filter(|_| is_prefix)?;
        Some((format!("\"{}", "#".repeat(hashes)), inside))
    })
}

pub(super) fn can_be_broken(line: &str) -> bool {
    let text = line.trim_start();
    let comment = text
        .strip_prefix("//")
        .map(|text| text.trim_start_matches(['/', '!']).trim_start());
    let is_table_or_picture = comment
        .is_some_and(|text| text.starts_with('|') || text.contains(['│', '─', '►', '◄', '└', '├']));
    let spaces = line.chars().enumerate().filter(|(_, c)| *c == ' ');
    let breaks = spaces
        .map(|(column, _)| column)
        .any(|column| (MAX_COLUMNS / 2..=MAX_COLUMNS).contains(&column));
    !is_table_or_picture && breaks
}

#[derive(Debug, PartialEq, Eq)]
struct Lines {
    code: usize,
    tests: usize,
}

/// Counts by rustfmt's form of an inline module: it ends at the first brace in the first column.
fn count(text: &str) -> Lines {
    let lines: Vec<&str> = text.lines().collect();
    let opens = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let Some(start) = lines.windows(2).position(opens) else {
        return Lines {
            code: lines.len(),
            tests: 0,
        };
    };
    let tests = lines[start..]
        .iter()
        .position(|line| *line == "}")
        .map_or(lines.len() - start, |last| last + 1);
    Lines {
        code: lines.len() - tests,
        tests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_tests_are_counted_separately() {
        let text = "//! x\nfn f() {\n}\n\n#[cfg(test)]\nmod tests {\n    fn g() {\n    }\n}\nfn \
                    after() {}\n";
        assert_eq!(count(text), Lines { code: 5, tests: 5 });
        assert_eq!(
            count("fn f() {}\n#[cfg(test)]\nmod tests;\n"),
            Lines { code: 3, tests: 0 }
        );
    }

    #[test]
    fn long_files_and_long_inline_tests_are_found() {
        let long = "x\n".repeat(MAX_CODE_LINES + 1);
        let found = too_long("a/b.rs", &long);
        assert!(
            found.len() == 1 && found[0].what.contains("551 lines without"),
            "{found:?}"
        );
        assert_eq!(too_long("a/tests.rs", &long), []);
        let inline = "    x\n".repeat(MAX_INLINE_TEST_LINES);
        let found = too_long(
            "a/lib.rs",
            &format!("#[cfg(test)]\nmod tests {{\n{inline}}}\n"),
        );
        assert!(
            found.len() == 1 && found[0].what.contains("a/tests.rs"),
            "{found:?}"
        );
        assert_eq!(too_long("a.rs", &"x\n".repeat(MAX_CODE_LINES)), []);
    }

    #[test]
    fn wide_lines_are_found_unless_they_cannot_be_broken() {
        let wide = "word ".repeat(21);
        let places = |text: &str| -> Vec<String> {
            too_wide("a.rs", text)
                .into_iter()
                .map(|finding| finding.place)
                .collect()
        };
        assert_eq!(places(&format!("x\n/// {wide}\n")), ["a.rs:2"]);
        assert_eq!(places(&format!("let x = \"{wide}\";\n")), ["a.rs:1"]);
        for fine in [
            format!("//! | {wide} |"),
            format!("//! a ──► {wide}"),
            format!("let x = r\"{wide}\";"),
            format!("let x = r#\"\n{wide}\n{wide}\"#;\nx"),
            format!("{}{}", " ".repeat(20), "x".repeat(90)),
        ] {
            assert_eq!(places(&fine), [""; 0], "{fine}");
        }
        assert_eq!(
            places(&format!("let x = r#\"\n\"#;\n// {wide}")),
            ["a.rs:3"]
        );
    }
}
