//! The differences between two dumps of a configuration. Only our handler and the list of imported
//! files may differ.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Item, TableLike, Value};

use super::error::ConfigError;
use super::version::Version;
use super::{ANNOTATIONS, Handler, block, schema};

/// Maximum number of differences in a message.
const MAX_NAMED: usize = 5;

/// The expected difference of the second dump.
#[derive(Debug, Clone, Copy)]
pub(super) enum ExpectedDiff<'a> {
    /// This handler.
    With(&'a Handler),
    /// No handler of this name.
    Without(&'a str),
}

impl<'a> ExpectedDiff<'a> {
    /// Returns the handler's name.
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::With(handler) => &handler.name,
            Self::Without(name) => name,
        }
    }
}

/// Compares two dumps, and fails if they differ in anything but the expected handler.
pub(super) fn check(
    before: &str,
    after: &str,
    expected: ExpectedDiff<'_>,
    containerd: Version,
) -> Result<(), ConfigError> {
    let name = expected.name();
    let before = DumpLeaves::read("the dump of the present configuration", before)?;
    let after = DumpLeaves::read("the dump of the edited configuration", after)?;
    let mut differences = after.handler_differences(expected, containerd);
    differences.extend(before.differences(&after, name));
    // A template names its default by a variable, before the edit too.
    let former = before.without_default();
    differences.extend(
        after
            .without_default()
            .into_iter()
            .filter(|missing| !former.contains(missing)),
    );
    let count = differences.len();
    if count == 0 {
        return Ok(());
    }
    differences.truncate(MAX_NAMED);
    if count > MAX_NAMED {
        differences.push(format!("and {} more", count - MAX_NAMED));
    }
    Err(ConfigError::Changes { differences })
}

/// A configuration as its leaves: each value, in one notation, by the keys that lead to it.
struct DumpLeaves {
    leaves: BTreeMap<Vec<String>, String>,
}

impl DumpLeaves {
    fn read(what: &str, text: &str) -> Result<Self, ConfigError> {
        let document = schema::parse(what, text)?;
        let mut leaves = BTreeMap::new();
        collect(document.as_table(), &mut Vec::new(), &mut leaves);
        // The list of imported files is not part of their content.
        leaves.remove(&vec!["imports".to_owned()]);
        Ok(Self { leaves })
    }

    fn runtimes(&self) -> BTreeSet<&str> {
        self.leaves
            .keys()
            .filter_map(|path| runtime_of(path))
            .collect()
    }

    /// Returns the differences outside of the handler `name`.
    fn differences(&self, after: &Self, name: &str) -> Vec<String> {
        let lost = self
            .runtimes()
            .into_iter()
            .filter(|other| *other != name && !after.runtimes().contains(other));
        let lost: BTreeSet<&str> = lost.collect();
        let mut found: Vec<String> = lost
            .iter()
            .map(|other| format!("no handler {other} any more"))
            .collect();
        let paths: BTreeSet<&Vec<String>> = self.leaves.keys().chain(after.leaves.keys()).collect();
        for path in paths {
            // A lost handler is named once. An empty table of handlers does not matter.
            if runtime_of(path).is_some_and(|other| other == name || lost.contains(other))
                || is_runtimes(path)
            {
                continue;
            }
            let (old, new) = (self.leaves.get(path), after.leaves.get(path));
            if old != new {
                let show = |value: Option<&String>| {
                    value.map_or("nothing".to_owned(), |value| shortened(value))
                };
                found.push(format!(
                    "{} in {} instead of {}",
                    show(new),
                    path.join("."),
                    show(old)
                ));
            }
        }
        found
    }

    fn handler_differences(&self, expected: ExpectedDiff<'_>, containerd: Version) -> Vec<String> {
        let name = expected.name();
        let handler = match expected {
            ExpectedDiff::Without(_) if self.runtimes().contains(name) => {
                return vec![format!("the handler {name} still")];
            }
            ExpectedDiff::Without(_) => return Vec::new(),
            ExpectedDiff::With(_) if !self.runtimes().contains(name) => {
                return vec![format!("no handler {name}")];
            }
            ExpectedDiff::With(handler) => handler,
        };
        let text = |text: &str| normal(&Value::from(text));
        let annotations = format!("[{}]", text(ANNOTATIONS));
        let mut wanted = vec![
            (
                vec!["runtime_type"],
                text(block::runtime_type(handler, containerd)),
            ),
            (vec!["runtime_path"], text(&handler.launcher)),
            (vec!["pod_annotations"], annotations.clone()),
            (vec!["container_annotations"], annotations),
        ];
        let own = block::sandboxer_keys(handler.settings.sandboxer).iter();
        wanted.extend(own.map(|&(key, value)| (vec![key], value.to_owned())));
        let options = handler.options_table();
        wanted.extend(
            options
                .iter()
                .flatten()
                .map(|(key, value)| (vec!["options", *key], value.clone())),
        );
        let of_handler = |keys: &[&str]| {
            let mut leaves = self
                .leaves
                .iter()
                .filter(|(path, _)| runtime_of(path) == Some(name));
            leaves
                .find(|(path, _)| path[5..].iter().eq(keys.iter()))
                .map(|(_, value)| value.as_str())
        };
        let wrong = wanted
            .iter()
            .filter(|(keys, value)| of_handler(keys) != Some(value));
        let wrong = wrong.map(|(keys, value)| {
            format!(
                "{} in {}.{} instead of {value}",
                of_handler(keys).map_or("nothing".to_owned(), shortened),
                name,
                keys.join(".")
            )
        });
        let second = if options.is_none() {
            self.options_of(name)
        } else {
            Vec::new()
        };
        wrong.chain(second).collect()
    }

    /// Returns options of the handler `name` that another file sets: the runtime would refuse to
    /// start with these beside its options file.
    fn options_of(&self, name: &str) -> Vec<String> {
        let leaves = self.leaves.iter().filter(|(path, _)| {
            runtime_of(path) == Some(name) && path.len() > 6 && path[5] == "options"
        });
        leaves
            .map(|(path, value)| {
                format!(
                    "{} in {name}.{} instead of nothing",
                    shortened(value),
                    path[5..].join(".")
                )
            })
            .collect()
    }

    /// Returns the default handlers that are not defined: containerd starts with one, but its CRI
    /// plugin does not.
    fn without_default(&self) -> Vec<String> {
        let runtimes = self.runtimes();
        let defaults = self.leaves.iter().filter(|(path, _)| {
            is_cri(path) && path[2..].iter().eq(&["containerd", "default_runtime_name"])
        });
        let missing = defaults.filter(|(_, value)| !runtimes.contains(value.trim_matches('"')));
        missing
            .map(|(_, value)| format!("{value} as default handler, and no handler of that name"))
            .collect()
    }
}

fn is_cri(path: &[String]) -> bool {
    path.len() > 2 && path[0] == "plugins" && schema::CRI_PLUGINS.contains(&path[1].as_str())
}

fn is_runtimes(path: &[String]) -> bool {
    is_cri(path) && path[2..].iter().eq(&["containerd", "runtimes"])
}

/// Returns the handler that a leaf belongs to.
fn runtime_of(path: &[String]) -> Option<&str> {
    (path.len() > 4 && is_runtimes(&path[..4])).then(|| path[4].as_str())
}

fn collect(
    table: &dyn TableLike,
    keys: &mut Vec<String>,
    leaves: &mut BTreeMap<Vec<String>, String>,
) {
    if table.is_empty() {
        leaves.insert(keys.clone(), "an empty table".to_owned());
    }
    for (key, item) in table.iter() {
        keys.push(key.to_owned());
        match (item.as_table_like(), item) {
            (Some(inner), _) => collect(inner, keys, leaves),
            (None, Item::Value(value)) => {
                leaves.insert(keys.clone(), normal(value));
            }
            (None, other) => {
                leaves.insert(keys.clone(), other.to_string());
            }
        }
        keys.pop();
    }
}

/// Returns a value without its spaces, comments and kind of quotes.
fn normal(value: &Value) -> String {
    match value {
        Value::Array(values) => format!(
            "[{}]",
            values.iter().map(normal).collect::<Vec<_>>().join(", ")
        ),
        Value::String(text) => format!("\"{}\"", text.value()),
        Value::InlineTable(table) => {
            let entries: BTreeMap<&str, String> = table
                .iter()
                .map(|(key, value)| (key, normal(value)))
                .collect();
            format!("{entries:?}")
        }
        Value::Integer(number) => number.value().to_string(),
        other => {
            let mut other = other.clone();
            other.decor_mut().clear();
            other.to_string()
        }
    }
}

fn shortened(text: &str) -> String {
    const MAX_LETTERS: usize = 60;
    match text.char_indices().nth(MAX_LETTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
