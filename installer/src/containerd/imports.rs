//! The imports of a main file, and the one entry that we add.
//!
//! The entry is the same for all handlers: a pattern that only our files match. It is inserted as
//! text: after the last entry, or as a line of its own below the schema version with a comment that
//! marks it.

use toml_edit::{Array, Document, DocumentMut, Item, TableLike};

use installer_protocol::layout::parent;

use super::block::quoted;
use super::error::ConfigError;
use super::schema;
use super::version::Version;

/// The line above an `imports` of ours.
const COMMENT: &str =
    "# wasmedge-runtime: the node installer's handlers; goes with the last of them";

/// Returns the import patterns of the file at `path`, in order, as this containerd resolves them:
/// absolute, or relative to the file's folder. Patterns that are relative to containerd's working
/// folder are returned unchanged.
pub(super) fn of(path: &str, document: &dyn TableLike, containerd: Version) -> Vec<String> {
    let entries = document.get("imports").and_then(Item::as_array);
    let entries = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.as_str());
    let resolved = entries.map(|entry| match entry {
        _ if entry.starts_with('/') => clean(entry),
        _ if entry.contains('*') && !resolves_relative_patterns(containerd) => entry.to_owned(),
        _ => clean(&format!("{}/{entry}", parent(path))),
    });
    resolved.collect()
}

/// Returns whether relative patterns are resolved from the file's folder, as relative paths are
/// (containerd's pull request 9746). Seen in the sources of 1.6.28 and 1.6.30, 1.7.15 and 1.7.16.
fn resolves_relative_patterns(containerd: Version) -> bool {
    match (containerd.major, containerd.minor) {
        (1, 6) => containerd.patch >= 30,
        (1, 7) => containerd.patch >= 16,
        _ => true,
    }
}

/// Returns whether a pattern matches this path.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    match parts(pattern) {
        _ if !pattern.contains('*') => pattern == path,
        Some((folder, names)) => folder == parent(path) && matches(names, name(path)),
        None => false,
    }
}

/// Splits an absolute pattern into its folder and its pattern of names; none if the folder is a
/// pattern too.
pub(super) fn parts(pattern: &str) -> Option<(&str, &str)> {
    let (folder, names) = (parent(pattern), name(pattern));
    // Brackets and backslashes are special in patterns, and no known configuration uses them.
    (pattern.starts_with('/')
        && !folder.contains(['*', '?', '[', '\\'])
        && !names.contains(['[', '\\']))
    .then_some((folder, names))
}

/// Returns the last component of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Returns whether a name matches a pattern, in which `*` is any text and `?` any letter.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => name.is_empty(),
        Some('*') => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| matches(letters.as_str(), &name[at..])),
        Some(wanted) => {
            let mut rest = name.chars();
            rest.next()
                .is_some_and(|letter| wanted == '?' || wanted == letter)
                && matches(letters.as_str(), rest.as_str())
        }
    }
}

/// Removes `.`, `..` and repeated slashes from a path.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns `text`, the file at `path`, with `entry` among its imports.
pub(super) fn add(path: &str, text: &str, entry: &str) -> Result<String, ConfigError> {
    let document = schema::parse(path, text)?;
    if position(&document, entry).is_some() {
        return Ok(text.to_owned());
    }
    let mut edited = text.to_owned();
    match document.get("imports") {
        None => {
            let (at, line) = import_line(&document, text, entry);
            edited.insert_str(at, &line);
        }
        Some(item) => {
            let array = item.as_array().ok_or_else(|| not_a_list(path))?;
            let last = array
                .iter()
                .last()
                .and_then(toml_edit::Value::span)
                .map(|span| span.end);
            let (at, prefix) = match last {
                Some(end) => (end, ", "),
                // After the opening bracket.
                None => (array.span().ok_or_else(|| not_a_list(path))?.start + 1, ""),
            };
            edited.insert_str(at, &format!("{prefix}{}", quoted(entry)));
        }
    }
    Ok(edited)
}

/// Returns `text`, the file at `path`, without `entry` among its imports. Removes the whole list if
/// we added it and it has no other entry.
pub(super) fn take(path: &str, text: &str, entry: &str) -> Result<String, ConfigError> {
    for line in [below(entry), above(entry)] {
        if let Some(at) = text.find(&line) {
            let mut edited = text.to_owned();
            edited.replace_range(at..at + line.len(), "");
            return Ok(edited);
        }
    }
    let document = schema::parse(path, text)?;
    let Some((at, array)) = position(&document, entry) else {
        return Ok(text.to_owned());
    };
    let span = array
        .get(at)
        .and_then(toml_edit::Value::span)
        .ok_or_else(|| not_a_list(path))?;
    let mut edited = text.to_owned();
    if at > 0 && text[..span.start].ends_with(", ") {
        edited.replace_range(span.start - 2..span.end, "");
    } else if array.len() == 1 {
        edited.replace_range(span, "");
    } else {
        let mut document: DocumentMut = schema::parse(path, text)?.into_mut();
        let array = document
            .get_mut("imports")
            .and_then(Item::as_array_mut)
            .ok_or_else(|| not_a_list(path))?;
        array.remove(at);
        if let Some(first) = array.get_mut(0).filter(|_| at == 0) {
            first.decor_mut().set_prefix("");
        }
        edited = document.to_string();
    }
    // The list has other entries, so it is not ours any more.
    Ok(edited.replacen(&format!("{COMMENT}\n"), "", 1))
}

/// Returns whether `text`, the file at `path`, has `entry` among its imports.
pub(super) fn has(path: &str, text: &str, entry: &str) -> Result<bool, ConfigError> {
    Ok(position(&schema::parse(path, text)?, entry).is_some())
}

fn position<'a>(document: &'a Document<&str>, entry: &str) -> Option<(usize, &'a Array)> {
    let array = document.get("imports")?.as_array()?;
    Some((
        array
            .iter()
            .position(|value| value.as_str() == Some(entry))?,
        array,
    ))
}

/// Returns the position and the text of a new line with `imports`: below the schema version, or at
/// the beginning if there is none.
fn import_line(document: &Document<&str>, text: &str, entry: &str) -> (usize, String) {
    match document.get("version").and_then(Item::span) {
        None => (0, above(entry)),
        Some(span) => {
            let rest = &text[span.end..];
            let line = rest
                .split('\n')
                .next()
                .unwrap_or(rest)
                .trim_end_matches('\r');
            (span.end + line.len(), below(entry))
        }
    }
}

fn below(entry: &str) -> String {
    format!("\n{COMMENT}\nimports = [{}]", quoted(entry))
}

fn above(entry: &str) -> String {
    format!("{COMMENT}\nimports = [{}]\n", quoted(entry))
}

fn not_a_list(path: &str) -> ConfigError {
    ConfigError::Form {
        path: path.to_owned(),
        what: "`imports` is not a list",
    }
}

#[cfg(test)]
mod tests;
