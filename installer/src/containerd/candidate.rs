//! An edited configuration in a folder that the running containerd does not read, laid out so that
//! `containerd config dump` reads it as the real one.
//!
//! A hidden folder beside the main file contains the edited files under names that no import
//! pattern matches. The copy of the main file has every import as an absolute path: relative
//! imports are resolved from the real main file's folder, patterns are replaced by the files that
//! they match, in containerd's order, and edited files by their copies. So no file is read twice,
//! and no file that is to be removed is read.
//!
//! k0s merges drop-ins into a file of its own, which the main file imports: the copy of that file
//! contains the merged handler.

use toml_edit::{Array, DocumentMut, Item, Table};

use installer_protocol::layout::{Configuration, parent};

use super::error::ConfigError;
use super::facts::ConfigFacts;
use super::{FileChange, drop_in, imports, schema};

/// The folder of a candidate's files, beside the main file.
pub const FOLDER: &str = ".wasmedge-runtime-candidate";

/// A configuration that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CandidateConfig {
    /// Its main file.
    pub(super) main: String,
    /// The files that are copies.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// Lays out the configuration of `facts` with `changes` of the handler `name`.
pub(super) fn lay_out(
    facts: &ConfigFacts,
    changes: &[FileChange],
    name: &str,
) -> Result<CandidateConfig, ConfigError> {
    let is_watched = matches!(facts.configuration, Configuration::Watched { .. });
    let text = text_after(facts, changes, &facts.main)?;
    if changes.is_empty() && text.is_some() && !is_watched {
        return Ok(CandidateConfig {
            main: facts.main.clone(),
            files: Vec::new(),
        });
    }
    let text = text.unwrap_or_default();
    let folder = format!("{}/{FOLDER}", parent(&facts.main).trim_end_matches('/'));
    let mut copies = Copies {
        folder,
        files: Vec::new(),
    };
    let mut document: DocumentMut = schema::parse(&facts.main, &text)?.into_mut();
    let added: Vec<&str> = paths(changes, |change| change.after.is_some());
    let removed: Vec<&str> = paths(changes, |change| change.after.is_none());
    let mut list = Array::new();
    for pattern in imports::of(&facts.main, document.as_table(), facts.version) {
        let Some(matched) = facts.matched_paths(&pattern, &added, &removed) else {
            list.push(pattern);
            continue;
        };
        for path in matched {
            if path == facts.main {
                // A merged configuration that was written back imports itself; containerd ignores
                // that.
                continue;
            }
            if removed.contains(&path.as_str()) {
                // containerd does not start if a file that is imported by name is absent.
                list.push(copies.absent());
                continue;
            }
            let change = changes
                .iter()
                .find(|change| change.path == path)
                .and_then(|change| change.after.as_ref());
            list.push(change.map_or_else(|| path.clone(), |bytes| copies.add(bytes.clone())));
        }
    }
    if is_watched {
        merge(facts, changes, name, &mut list, &mut copies)?;
    }
    if !list.is_empty() || document.contains_key("imports") {
        document.insert("imports", Item::Value(list.into()));
    }
    let main = copies.add(document.to_string().into_bytes());
    Ok(CandidateConfig {
        main,
        files: copies.files,
    })
}

/// Merges the drop-in as k0s does: into the file with the section of the CRI plugin. If that file
/// is not visible, the drop-in is one more import.
fn merge(
    facts: &ConfigFacts,
    changes: &[FileChange],
    name: &str,
    list: &mut Array,
    copies: &mut Copies,
) -> Result<(), ConfigError> {
    let Configuration::Watched { folder } = &facts.configuration else {
        return Ok(());
    };
    let path = drop_in::path(folder, name);
    let drop_in = if facts.files.contains_key(&path)
        || !paths(changes, |change| change.path == path).is_empty()
    {
        text_after(facts, changes, &path)?
    } else {
        None
    };
    let handler = match &drop_in {
        Some(text) => take_handler(&mut schema::parse(&path, text)?.into_mut(), name),
        None => None,
    };
    let mut generated = None;
    for path in facts.loaded.iter().skip(1) {
        let Some(text) = facts.text(path)? else {
            continue;
        };
        let document = schema::parse(path, text)?;
        if let Some(plugin) = schema::CRI_PLUGINS
            .into_iter()
            .find(|plugin| schema::has_cri(document.as_table(), plugin))
        {
            generated = Some((path, text, plugin));
        }
    }
    let Some((path, text, plugin)) = generated else {
        if let Some(text) = drop_in {
            list.push(copies.add(text.into_bytes()));
        }
        return Ok(());
    };
    let mut document: DocumentMut = schema::parse(path, text)?.into_mut();
    take_handler(&mut document, name);
    if let Some(handler) = handler {
        let mut table = document.as_table_mut();
        for key in ["plugins", plugin, "containerd", "runtimes"] {
            let form = || ConfigError::Form {
                path: path.clone(),
                what: "the CRI plugin's section is not a table",
            };
            table = table
                .entry(key)
                .or_insert_with(|| Item::Table(Table::new()))
                .as_table_mut()
                .ok_or_else(form)?;
        }
        table.insert(name, handler);
    }
    let copy = copies.add(document.to_string().into_bytes());
    list.iter_mut()
        .filter(|entry| entry.as_str() == Some(path))
        .for_each(|entry| *entry = copy.as_str().into());
    Ok(())
}

fn take_handler(document: &mut DocumentMut, name: &str) -> Option<Item> {
    schema::CRI_PLUGINS.iter().find_map(|plugin| {
        let runtimes = schema::under_mut(
            document.as_table_mut(),
            &["plugins", plugin, "containerd", "runtimes"],
        )?;
        runtimes.as_table_like_mut()?.remove(name)
    })
}

fn text_after(
    facts: &ConfigFacts,
    changes: &[FileChange],
    path: &str,
) -> Result<Option<String>, ConfigError> {
    match changes.iter().find(|change| change.path == path) {
        Some(FileChange { after: None, .. }) => Ok(None),
        Some(FileChange {
            after: Some(bytes), ..
        }) => {
            let text = String::from_utf8(bytes.clone());
            text.map(Some).map_err(|error| ConfigError::NotText {
                path: path.to_owned(),
                source: error.utf8_error(),
            })
        }
        None => Ok(facts.text(path)?.map(str::to_owned)),
    }
}

fn paths(changes: &[FileChange], is_wanted: impl Fn(&FileChange) -> bool) -> Vec<&str> {
    changes
        .iter()
        .filter(|change| is_wanted(change))
        .map(|change| change.path.as_str())
        .collect()
}

/// The copies of a candidate.
#[derive(Debug)]
struct Copies {
    folder: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Copies {
    /// Returns the path of a file that does not exist.
    fn absent(&self) -> String {
        format!("{}/absent.candidate", self.folder)
    }

    fn add(&mut self, bytes: Vec<u8>) -> String {
        // The name does not end in `.toml`, because a pattern in the real main file could match it,
        // even in a hidden folder.
        let path = format!("{}/{}.candidate", self.folder, self.files.len());
        self.files.push((path.clone(), bytes));
        path
    }
}

#[cfg(test)]
mod tests;
