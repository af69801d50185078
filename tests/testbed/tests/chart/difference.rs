//! A text as its difference from another one: the hunks of a unified diff without line numbers, so
//! that an edit of the other text changes only the hunks that it touches.
//!
//! ```text
//! @@ kind: Deployment
//!  a line of both
//! -a line of the other text
//! +a line of this text
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;

use crate::subject::Subject;
use crate::{Verdict, tests};

tests!(difference_that_was_made_is_applied_to_the_same_text);

/// Lines of context around a change: the first count with which the hunks are unambiguous.
const CONTEXT_LINES: [u32; 4] = [3, 8, 20, 60];

/// Returns the difference that leads from `base` to `text`; empty if they are equal.
pub(crate) fn make(base: &str, text: &str) -> Result<String> {
    let folder = tempfile::tempdir().context("make a folder for two texts")?;
    let write = |name: &str, text: &str| -> Result<_> {
        let path = folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    let (base_file, text_file) = (write("base", base)?, write("text", text)?);
    for lines in CONTEXT_LINES {
        let difference = without_line_numbers(&unified(&base_file, &text_file, lines)?);
        if apply(base, &difference).is_ok_and(|applied| applied == text) {
            return Ok(difference);
        }
    }
    anyhow::bail!("no number of context lines makes the difference unambiguous")
}

fn unified(base: &Path, text: &Path, context_lines: u32) -> Result<String> {
    let run = Run::new("diff")
        .arg(format!("--unified={context_lines}"))
        .args(["--minimal", "--show-function-line=^kind: "])
        .args([base, text]);
    let output = run.output()?;
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "diff failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("read what diff printed")
}

/// Removes the names of the files, the line numbers of each hunk, and the space of an empty line.
fn without_line_numbers(unified: &str) -> String {
    let mut difference = String::new();
    for line in unified.lines().skip(2) {
        let (start, end) = match line
            .strip_prefix("@@ ")
            .and_then(|rest| rest.split_once("@@"))
        {
            Some((_, object)) => ("@@", object),
            None if line == " " => ("", ""),
            None => ("", line),
        };
        difference.extend([start, end, "\n"]);
    }
    difference
}

/// Applies a difference: each hunk at the first place after the one before where its lines fit.
pub(crate) fn apply(base: &str, difference: &str) -> Result<String> {
    let base: Vec<&str> = base.lines().collect();
    let mut applied: Vec<&str> = Vec::new();
    let mut next = 0;
    for hunk in hunks(difference) {
        let lines = |sign: char| -> Vec<&str> {
            let of_text = |line: &&&str| line.starts_with([' ', sign]) || line.is_empty();
            let lines = hunk.iter().filter(of_text);
            lines
                .map(|line| line.get(1..).unwrap_or_default())
                .collect()
        };
        let (old, new) = (lines('-'), lines('+'));
        let place = (next..=base.len()).find(|&at| base[at..].starts_with(&old));
        let place = place.with_context(|| format!("no place for the hunk {hunk:#?}"))?;
        applied.extend(&base[next..place]);
        applied.extend(new);
        next = place + old.len();
    }
    applied.extend(&base[next..]);
    Ok(applied.iter().flat_map(|line| [*line, "\n"]).collect())
}

/// Returns the lines of each hunk, without its first one.
fn hunks(difference: &str) -> Vec<Vec<&str>> {
    let mut hunks: Vec<Vec<&str>> = Vec::new();
    for line in difference.lines() {
        if line.starts_with("@@") {
            hunks.push(Vec::new());
        } else if let Some(hunk) = hunks.last_mut() {
            hunk.push(line);
        }
    }
    hunks
}

fn difference_that_was_made_is_applied_to_the_same_text(_: &Subject) -> Result<Verdict> {
    let block = "kind: A\n  a\n  b\n\n  c\n";
    let base = block.repeat(4);
    for text in [
        base.clone(),
        // Of four equal places only the context shows the third.
        format!("{block}{block}kind: A\n  a\n  B\n\n  c\n{block}"),
        format!("first\n{base}last\n"),
        block.repeat(3),
        format!("{base}{block}"),
        String::new(),
    ] {
        let difference = make(&base, &text)?;
        ensure!(apply(&base, &difference)? == text, "{difference}");
        ensure!((base == text) == difference.is_empty(), "{difference}");
    }
    let difference = make("a\nb\nc\n", "a\nc\n")?;
    ensure!(difference == "@@\n a\n-b\n c\n", "{difference}");
    ensure!(apply("x\n", &difference).is_err());
    Ok(Verdict::Holds)
}
