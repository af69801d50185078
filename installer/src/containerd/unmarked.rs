//! Handlers of ours without the marks of a block. A program that writes containerd's merged
//! configuration back as its main file, as GPU toolkits do, keeps our tables and drops comments.
//!
//! A handler is ours if it has our handler's name and leads to a program in our folder, in whatever
//! form its options are. One that has the name and leads elsewhere is not ours; errors give its
//! lines.

use std::ops::Range;
use std::path::Path;

use toml_edit::{DocumentMut, Item};

use super::error::{ConfigError, Lines};
use super::schema::{self, CRI_PLUGINS};

/// The keys of a handler that name its program.
const PROGRAM_KEYS: [&str; 2] = ["runtime_path", "runtime_type"];

/// Returns whether `text`, the file at `path`, has the handler `name` and it leads to a program
/// below `base`.
pub(super) fn has(path: &str, text: &str, name: &str, base: &str) -> Result<bool, ConfigError> {
    let document = schema::parse(path, text)?;
    Ok(CRI_PLUGINS.iter().any(|plugin| {
        schema::under(document.as_table(), &table(plugin, name))
            .is_some_and(|handler| is_ours(handler, base))
    }))
}

/// Returns `text` without the handler `name` if it leads to a program below `base`. Everything else
/// stays, comments included.
pub(super) fn take(path: &str, text: &str, name: &str, base: &str) -> Result<String, ConfigError> {
    if !has(path, text, name, base)? {
        return Ok(text.to_owned());
    }
    without(path, text, name, |handler| is_ours(handler, base))
}

/// Returns `text` without the tables of the handler `name` that are `wanted`. Comments above them
/// are moved to the end.
pub(super) fn without(
    path: &str,
    text: &str,
    name: &str,
    wanted: impl Fn(&Item) -> bool,
) -> Result<String, ConfigError> {
    let mut document: DocumentMut = schema::parse(path, text)?.into_mut();
    let mut comments = String::new();
    for plugin in CRI_PLUGINS {
        let runtimes = schema::under_mut(
            document.as_table_mut(),
            &["plugins", plugin, "containerd", "runtimes"],
        );
        let Some(runtimes) = runtimes.and_then(Item::as_table_like_mut) else {
            continue;
        };
        if !runtimes.get(name).is_some_and(&wanted) {
            continue;
        }
        if let Some(removed) = runtimes
            .remove(name)
            .and_then(|item| item.into_table().ok())
        {
            comments.push_str(
                removed
                    .decor()
                    .prefix()
                    .and_then(|prefix| prefix.as_str())
                    .unwrap_or_default(),
            );
        }
    }
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing(format!("{}{trailing}", comments.trim_start_matches('\n')));
    Ok(document.to_string())
}

/// Returns the lines of the handler `name` in `text`, the file at `path`.
pub(super) fn lines(path: &str, text: &str, name: &str) -> Result<Option<Lines>, ConfigError> {
    let document = schema::parse(path, text)?;
    let handlers = CRI_PLUGINS
        .iter()
        .filter_map(|plugin| schema::under(document.as_table(), &table(plugin, name)));
    let Some(span) = handlers.filter_map(span_of).reduce(joined) else {
        return Ok(None);
    };
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    Ok(Some(Lines {
        first: line(span.start),
        last: line(span.end.saturating_sub(1)),
    }))
}

fn table<'a>(plugin: &'a str, name: &'a str) -> [&'a str; 5] {
    ["plugins", plugin, "containerd", "runtimes", name]
}

fn is_ours(handler: &Item, base: &str) -> bool {
    let program = |key: &&str| handler.as_table_like()?.get(key)?.as_str();
    PROGRAM_KEYS
        .iter()
        .filter_map(program)
        .any(|program| Path::new(program).starts_with(base))
}

/// Returns the span of an item with all that it contains.
fn span_of(item: &Item) -> Option<Range<usize>> {
    let inner = item
        .as_table_like()
        .into_iter()
        .flat_map(toml_edit::TableLike::iter)
        .filter_map(|(_, inner)| span_of(inner));
    inner.chain(item.span()).reduce(joined)
}

fn joined(one: Range<usize>, other: Range<usize>) -> Range<usize> {
    one.start.min(other.start)..one.end.max(other.end)
}

#[cfg(test)]
mod tests;
