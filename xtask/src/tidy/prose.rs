//! The style page, as far as a program can check it: words of comments, messages and documents,
//! module headers, and names of constants.
//!
//! Text in backticks or quotation marks is a quotation and passes, and so does a string of one
//! word.

use super::Finding;
use super::documents::parts;
use super::size::is_test_file;
use super::tree::Tree;

/// Words that no module header begins with.
const QUESTION_WORDS: &[&str] = &[
    "What", "Who", "Whose", "How", "Where", "Which", "Whether", "When", "Why",
];

/// Verbs of talk and words for nameless people, with the advice for each.
const WORDS: &[(&[&str], &str)] = &[
    (
        &[
            "tell", "tells", "told", "say", "says", "said", "hear", "hears", "heard",
        ],
        "use the field's verb, such as report, log, publish, return, read or contain",
    ),
    (
        &["whoever", "somebody", "nobody", "everybody"],
        "name the process, the user or the request",
    ),
];

/// Words that no constant's name begins or ends with. The name of a text passes: a test's image
/// can have the name `PAUSE`.
const VAGUE_PARTS: &[&str] = &[
    "PATIENCE", "PAUSE", "ROOM", "AGAIN", "LONGEST", "SHORTEST", "DEAF", "LIFE",
];

/// Words that are not a constant's name alone.
const VAGUE_NAMES: &[&str] = &["LIMIT", "FREE", "LAST"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        findings.extend(header(path, text));
        findings.extend(constants(path, text));
        if !is_test_file(path) {
            findings.extend(words(path, prose(without_inline_tests(text))));
        }
    }
    for (path, text) in tree.documents() {
        let lines = parts(text).prose.into_iter();
        let lines = lines.map(|(number, line)| (number, without_quotations(line)));
        findings.extend(words(path, lines.collect()));
    }
    findings
}

fn header(path: &str, text: &str) -> Option<Finding> {
    let header = text.lines().find_map(|line| line.strip_prefix("//! "))?;
    let first = header.split(|c: char| !c.is_alphabetic()).next()?;
    let what = format_args!("the header begins with {first:?}: begin with what the module is");
    QUESTION_WORDS
        .contains(&first)
        .then(|| Finding::new(path, what))
}

fn constants(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(name) = constant(line) else { continue };
        let ends = [name.split('_').next(), name.rsplit('_').next()];
        let is_vague = VAGUE_NAMES.contains(&name)
            || ends.iter().flatten().any(|end| VAGUE_PARTS.contains(end));
        if is_vague {
            let place = format_args!("{path}:{}", number + 1);
            let what = "name it for what it bounds, as _TIMEOUT, _INTERVAL or MAX_";
            findings.push(Finding::new(
                place,
                format_args!("the constant {name}: {what}"),
            ));
        }
    }
    findings
}

/// Returns the name of the constant that the line defines, unless it is a text.
fn constant(line: &str) -> Option<&str> {
    let (before, definition) = line.split_once("const ")?;
    let is_item = before.trim().is_empty() || before.trim_start().starts_with("pub");
    let (name, rest) = definition.split_once(':').filter(|_| is_item)?;
    let is_text = rest
        .split('=')
        .next()
        .is_some_and(|kind| kind.contains("str"));
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!is_text && name.chars().all(is_name)).then_some(name)
}

fn words(path: &str, lines: Vec<(usize, String)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in lines {
        for word in text.split(|c: char| !c.is_alphabetic()) {
            let word = word.to_lowercase();
            for (_, hint) in WORDS
                .iter()
                .filter(|(words, _)| words.contains(&word.as_str()))
            {
                let place = format_args!("{path}:{line}");
                findings.push(Finding::new(place, format_args!("{word:?}: {hint}")));
            }
        }
    }
    findings
}

/// Returns the text before the inline test module.
fn without_inline_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {")
        .map_or(text, |(code, _)| code)
}

/// Returns each line of comments and of string literals with its number, without quotations.
fn prose(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let token = Token::at_start_of(rest, before);
        for (index, text) in token.text.lines().enumerate() {
            let text = match token.kind {
                Kind::Code => continue,
                Kind::Comment => without_quotations(text),
                Kind::Literal if is_one_word(token.text) => continue,
                Kind::Literal => without_quotations(&text.replace("\\\"", "\"")),
            };
            found.push((line + index, text));
        }
        before = token.text.chars().last().unwrap_or(next);
        line += token.text.matches('\n').count();
        rest = &rest[token.text.len()..];
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// A comment, a literal, or one character of other code.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

impl<'a> Token<'a> {
    fn at_start_of(rest: &'a str, before: char) -> Self {
        let until = |kind, end: Option<usize>| Self {
            kind,
            text: &rest[..end.unwrap_or(rest.len())],
        };
        if rest.starts_with("//") {
            return until(Kind::Comment, rest.find('\n'));
        }
        if rest.starts_with("/*") {
            return until(Kind::Comment, rest.find("*/").map(|end| end + 2));
        }
        if rest.starts_with('"') {
            return until(Kind::Literal, end_of_string(rest));
        }
        let may_prefix = !before.is_alphanumeric() && before != '_' || matches!(before, 'b' | 'c');
        if let Some(raw) = rest.strip_prefix('r').filter(|_| may_prefix) {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                let close = format!("\"{}", "#".repeat(hashes));
                let start = 2 + hashes;
                let end = rest[start..].find(&close);
                return until(Kind::Literal, end.map(|end| start + end + close.len()));
            }
        }
        until(Kind::Code, end_of_character(rest))
    }
}

fn end_of_string(rest: &str) -> Option<usize> {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|&(_, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.map(|(at, _)| at + 1)
}

/// Returns the end of a character literal, or of one character of other code.
fn end_of_character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices();
    let (_, first) = chars.next()?;
    let (second_at, second) = chars.next()?;
    if first == '\'' && second == '\\' {
        return rest[second_at + 2..]
            .find('\'')
            .map(|end| second_at + 3 + end);
    }
    match chars.next() {
        Some((third_at, '\'')) if first == '\'' => Some(third_at + 1),
        _ => Some(second_at),
    }
}

fn is_one_word(literal: &str) -> bool {
    !literal.contains(char::is_whitespace)
}

/// Removes text in backticks and in quotation marks.
fn without_quotations(line: &str) -> String {
    let outside =
        |line: &str, mark: char| line.split(mark).step_by(2).collect::<Vec<_>>().join(" ");
    let line = line.trim_matches('"');
    outside(&outside(line, '`'), '"')
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

    fn places(text: &str) -> Vec<String> {
        words("a.rs", prose(text))
            .into_iter()
            .map(|finding| finding.place)
            .collect()
    }

    #[test]
    fn header_that_begins_with_a_question_word_is_found() {
        for (text, count) in [
            ("//! What a node gets.\n", 1),
            ("#![x]\n//! How far it is.\n", 1),
            ("//! Whatever is left.\n", 0),
            ("//! The answer to what a node gets.\n", 0),
        ] {
            assert_eq!(found(&[("tests/a.rs", text)]).len(), count, "{text}");
        }
    }

    #[test]
    fn constant_with_a_vague_name_is_found() {
        for (line, count) in [
            ("const PATIENCE: u32 = 1;", 1),
            ("    pub(crate) const LONGEST_WAIT: u32 = 1;", 1),
            ("pub const LOCK_PAUSE: u32 = 1;", 1),
            ("const LIMIT: u32 = 1;", 1),
            ("const PAUSE: &str = \"x\";", 0),
            ("const RLIMIT_AS: u32 = 1;", 0),
            ("const FREE_SLOTS: u32 = 1;", 0),
            ("const fn pause(LIMIT: u32) {}", 0),
        ] {
            assert_eq!(constants("a.rs", line).len(), count, "{line}");
        }
    }

    #[test]
    fn word_of_talk_is_found_in_comments_and_messages() {
        let text = "//! x\n/// It tells the host.\nfn f() {\n    // Nobody\n    info!(\"x\", \"it \
                    was told\");\n    let s = \"a\n b says\";\n}\n";
        assert_eq!(places(text), ["a.rs:2", "a.rs:4", "a.rs:5", "a.rs:7"]);
    }

    #[test]
    fn quotations_single_words_code_and_tests_pass() {
        for text in [
            "/// The user `nobody` and the log line \"it told us\".",
            "let told = \"told\";",
            "let says = r#\"a `told` b\"#;",
            "let c = ('\"', '\\'', 'a'); told(x);",
            "fn f<'a>(told: &'a str) {}",
            "#[cfg(test)]\nmod tests {\n// told\n}\n",
        ] {
            assert_eq!(places(without_inline_tests(text)), [""; 0], "{text}");
        }
        assert_eq!(found(&[("a/tests/b.rs", "//! x\n// told\n")]), [""; 0]);
    }

    #[test]
    fn word_of_talk_is_found_in_documents_outside_of_code_blocks() {
        let text = "# x\n\nIt says `told`.\n\n    told\n";
        let found = found(&[("a.md", text)]);
        assert!(
            found.len() == 1 && found[0].starts_with("a.md:3: \"says\""),
            "{found:?}"
        );
    }

    #[test]
    fn line_numbers_count_all_lines_of_literals() {
        let text = "let a = r\"x\n y\";\nlet b = \"\\\"\n x\";\n// told\n";
        assert_eq!(places(text), ["a.rs:5"]);
    }
}
