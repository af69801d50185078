//! An edit of a configuration's files before any of them is written.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::layout::{Configuration, parent};

use super::block::{self, Subject};
use super::drop_in;
use super::error::{ConfigError, Lines};
use super::facts::ConfigFacts;
use super::placement::{Placement, PlacementFiles};
use super::schema::{self, Schema};
use super::unmarked;
use super::written::{WrittenFile, WrittenHandler};
use super::{FileChange, Handler, imports};

/// The first line of a file that the installer created.
const MADE: &str = "# Made by the node installer of the WasmEdge runtime, and removed by it when \
                    nothing else is left in it.\n";

/// The facts, and the texts of the files that would change.
#[derive(Debug, Clone)]
pub(super) struct ConfigEdit<'a> {
    facts: &'a ConfigFacts,
    texts: BTreeMap<String, Option<String>>,
}

impl<'a> ConfigEdit<'a> {
    pub(super) fn new(facts: &'a ConfigFacts) -> Self {
        Self {
            facts,
            texts: BTreeMap::new(),
        }
    }

    /// Adds the handler at its place and removes it from all other files.
    pub(super) fn install(
        &mut self,
        handler: &Handler,
        place: &Placement,
    ) -> Result<(), ConfigError> {
        for path in self.paths_with(&handler.name)? {
            if path != place.path() {
                self.uninstall_from(&path, &handler.name)?;
            }
        }
        let body = block::handler_body(handler, place.schema, self.facts.version);
        match &place.target {
            PlacementFiles::InPlace { path } => {
                let mut text = self.unmarked_or_new(path, place.schema, &handler.name)?;
                if self.facts.version.major < 2
                    && schema::handlers(schema::parse(path, &text)?.as_table()).is_empty()
                {
                    let runc = block::default_runtime_body(place.schema, self.facts.version);
                    text = block::put(path, &text, Subject::DefaultRuntime, &runc)?;
                }
                self.put(path, &text, handler, &body)?;
            }
            PlacementFiles::DropIn { path, import } => {
                let text = self.unmarked_or_new(path, place.schema, &handler.name)?;
                let text = with_schema(text, place.schema);
                self.put(path, &text, handler, &body)?;
                if let Some(entry) = import {
                    let main = &self.facts.main;
                    let text = self.text_or_new(main, place.schema)?;
                    self.texts
                        .insert(main.clone(), Some(imports::add(main, &text, entry)?));
                }
            }
        }
        self.drop_unused_import()
    }

    /// Removes the handler `name` from all files.
    pub(super) fn uninstall(&mut self, name: &str) -> Result<(), ConfigError> {
        for path in self.paths_with(name)? {
            self.uninstall_from(&path, name)?;
        }
        self.drop_unused_import()
    }

    /// Restores the recorded content without the handler of each file that is as `written` left it.
    /// This covers texts that an older installer wrote in another form.
    pub(super) fn restore(&mut self, written: &WrittenHandler) -> Result<(), ConfigError> {
        for WrittenFile {
            path,
            before,
            after,
        } in &written.files
        {
            if self.text(path)?.as_deref() == Some(after)
                && !self.others_need(path, before.as_deref(), written)?
            {
                self.texts.insert(path.clone(), before.clone());
            }
        }
        Ok(())
    }

    /// Returns whether drop-ins of other handlers, written after `written`, need our import in the
    /// main file.
    fn others_need(
        &self,
        path: &str,
        before: Option<&str>,
        written: &WrittenHandler,
    ) -> Result<bool, ConfigError> {
        let main = &self.facts.main;
        if path != main {
            return Ok(false);
        }
        let entry = drop_in::own_import(main);
        if before
            .map(|text| imports::has(main, text, &entry))
            .transpose()?
            .unwrap_or(false)
        {
            return Ok(false);
        }
        let folder = drop_in::own_folder(main);
        let on_disk = self
            .facts
            .folders
            .get(&folder)
            .and_then(Option::as_ref)
            .into_iter()
            .flatten();
        let is_recorded = |path: &String| written.files.iter().any(|file| file.path == *path);
        Ok(on_disk
            .map(|name| format!("{folder}/{name}"))
            .any(|path| imports::covers(&entry, &path) && !is_recorded(&path)))
    }

    /// Returns the text of a file after the edit.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, ConfigError> {
        match self.texts.get(path) {
            Some(text) => Ok(text.clone()),
            None => Ok(self.facts.text(path)?.map(str::to_owned)),
        }
    }

    /// Returns the differences to the present files: first the files that a main file may import,
    /// then the main file, then the files to remove.
    pub(super) fn changes(&self) -> Result<Vec<FileChange>, ConfigError> {
        let mut changes = Vec::new();
        for (path, text) in &self.texts {
            let before = self.facts.text(path)?.map(|text| text.as_bytes().to_vec());
            let after = text.clone().map(String::into_bytes);
            if before != after {
                changes.push(FileChange {
                    path: path.clone(),
                    before,
                    after,
                });
            }
        }
        changes.sort_by_key(|change| (change.after.is_none(), change.path == self.facts.main));
        Ok(changes)
    }

    /// Returns the files of the handler, which this edit has added.
    pub(super) fn written(
        &self,
        handler: &Handler,
        place: &Placement,
        earlier: Option<&WrittenHandler>,
    ) -> Result<WrittenHandler, ConfigError> {
        let mut without = self.clone();
        without.uninstall(&handler.name)?;
        let mut files = Vec::new();
        for path in place.paths(&self.facts.main) {
            if let Some(after) = self.text(&path)? {
                files.push(WrittenFile {
                    before: without.text(&path)?,
                    path,
                    after,
                });
            }
        }
        let mut made_folders: Vec<String> = earlier
            .map(|earlier| earlier.made_folders.clone())
            .unwrap_or_default();
        let own = drop_in::own_folder(&self.facts.main);
        let folders = files.iter().map(|file| {
            (
                parent(&file.path).to_owned(),
                self.facts.lacks_folder_of(&file.path),
            )
        });
        made_folders.extend(
            folders
                .filter(|(folder, is_new)| *is_new || *folder == own)
                .map(|(folder, _)| folder),
        );
        made_folders.sort();
        made_folders.dedup();
        Ok(WrittenHandler {
            handler: handler.name.clone(),
            settings: handler.settings.clone(),
            files,
            made_folders,
        })
    }

    /// Finds a file that has the handler `name` and it is not ours; returns its path and the lines.
    /// Skips files that are `is_ignored`.
    pub(super) fn foreign(
        &self,
        name: &str,
        is_ignored: impl Fn(&str) -> bool,
    ) -> Result<Option<(String, Lines)>, ConfigError> {
        let mut without = self.clone();
        without.uninstall(name)?;
        for path in self.facts.files.keys().filter(|path| !is_ignored(path)) {
            // The lines are those of the present file, which the admin will look at.
            if let Some(text) = without.text(path)?
                && unmarked::lines(path, &text, name)?.is_some()
                && let Some(present) = self.facts.text(path)?
                && let Some(lines) = unmarked::lines(path, present, name)?
            {
                return Ok(Some((path.clone(), lines)));
            }
        }
        Ok(None)
    }

    /// As [`Self::foreign`], after everything of ours was removed. Skips files that a distribution
    /// renders or merges itself, because it will write them anew.
    pub(super) fn remaining(&self, name: &str) -> Result<Option<(String, Lines)>, ConfigError> {
        match self.facts.configuration {
            Configuration::MainFile | Configuration::Template => self.foreign(name, |path| {
                !self.facts.loaded.iter().any(|loaded| loaded == path)
            }),
            Configuration::Rendered { .. } | Configuration::Watched { .. } => Ok(None),
        }
    }

    /// Returns whether a handler can be removed from this file by its content: the file is not
    /// generated, and the installer sees it.
    fn is_editable(&self, path: &str) -> bool {
        let beside = format!("{}/", parent(&self.facts.main).trim_end_matches('/'));
        matches!(
            self.facts.configuration,
            Configuration::MainFile | Configuration::Template
        ) && path.starts_with(&beside)
    }

    /// Returns whether `text`, the file at `path`, has the handler `name` and it is ours.
    fn is_with(&self, path: &str, text: &str, name: &str) -> Result<bool, ConfigError> {
        Ok(block::has(text, Subject::Handler(name))
            || (self.is_editable(path) && unmarked::has(path, text, name, &self.facts.base)?))
    }

    /// Returns `text`, the file at `path`, without a handler of ours that has no marks.
    fn without_unmarked(&self, path: &str, text: &str, name: &str) -> Result<String, ConfigError> {
        if self.is_editable(path) {
            unmarked::take(path, text, name, &self.facts.base)
        } else {
            Ok(text.to_owned())
        }
    }

    /// Returns whether a file has the handler and it is ours.
    pub(super) fn has(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(!self.paths_with(name)?.is_empty())
    }

    fn paths_with(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        let mut paths = Vec::new();
        // Files that the edit creates are not among the facts.
        let known: BTreeSet<&String> = self.facts.files.keys().chain(self.texts.keys()).collect();
        for path in known {
            if let Some(text) = self.text(path)?
                && self.is_with(path, &text, name)?
            {
                paths.push(path.clone());
            }
        }
        Ok(paths)
    }

    fn put(
        &mut self,
        path: &str,
        text: &str,
        handler: &Handler,
        body: &str,
    ) -> Result<(), ConfigError> {
        let text = block::put(path, text, Subject::Handler(&handler.name), body)?;
        // A table cannot follow if its parent is an inline table.
        if schema::parse(path, &text).is_err() {
            return Err(ConfigError::Form {
                path: path.to_owned(),
                what: "the handlers are in an inline table: write them as tables, \
                       [plugins.\"…\".containerd.runtimes.…]",
            });
        }
        self.texts.insert(path.to_owned(), Some(text));
        Ok(())
    }

    fn uninstall_from(&mut self, path: &str, name: &str) -> Result<(), ConfigError> {
        let Some(text) = self.text(path)? else {
            return Ok(());
        };
        let text = block::take(path, &text, Subject::Handler(name))?;
        let mut text = self.without_unmarked(path, &text, name)?;
        if !block::has_handlers(&text) {
            text = block::take(path, &text, Subject::DefaultRuntime)?;
        }
        self.texts.insert(path.to_owned(), unless_empty(text));
        Ok(())
    }

    /// Removes the imports of files that are removed, if they are imported by name, because
    /// containerd does not start if one is absent. Removes our import unless our folder has a file.
    fn drop_unused_import(&mut self) -> Result<(), ConfigError> {
        let main = &self.facts.main;
        let gone: Vec<String> = self
            .texts
            .iter()
            .filter(|(path, text)| text.is_none() && *path != main)
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            if let Some(text) = self.text(main)?
                && imports::has(main, &text, &path)?
            {
                self.texts
                    .insert(main.clone(), Some(imports::take(main, &text, &path)?));
            }
        }
        let folder = drop_in::own_folder(main);
        let entry = drop_in::own_import(main);
        let is_ours = |path: &String| imports::covers(&entry, path);
        let on_disk = self
            .facts
            .folders
            .get(&folder)
            .and_then(Option::as_ref)
            .into_iter()
            .flatten();
        let mut paths: Vec<String> = on_disk
            .map(|name| format!("{folder}/{name}"))
            .filter(is_ours)
            .collect();
        paths.extend(self.texts.keys().filter(|path| is_ours(path)).cloned());
        for path in &paths {
            if self.texts.get(path).is_none_or(Option::is_some) {
                return Ok(());
            }
        }
        if let Some(text) = self.text(main)?
            && imports::has(main, &text, &entry)?
        {
            let text = imports::take(main, &text, &entry)?;
            self.texts.insert(main.clone(), unless_empty(text));
        }
        Ok(())
    }

    /// As [`Self::text_or_new`], without a handler of ours that has lost its marks.
    fn unmarked_or_new(
        &self,
        path: &str,
        schema: Schema,
        name: &str,
    ) -> Result<String, ConfigError> {
        let text = self.text_or_new(path, schema)?;
        if block::has(&text, Subject::Handler(name)) {
            Ok(text)
        } else {
            self.without_unmarked(path, &text, name)
        }
    }

    fn text_or_new(&self, path: &str, schema: Schema) -> Result<String, ConfigError> {
        Ok(self.text(path)?.unwrap_or_else(|| new_file(schema)))
    }
}

fn new_file(schema: Schema) -> String {
    format!("{MADE}{}", schema.line())
}

/// Returns a file of ours with the present schema version of its main file.
fn with_schema(text: String, schema: Schema) -> String {
    match text.strip_prefix(MADE) {
        Some(rest) => {
            let known = [Schema::Two, Schema::Three, Schema::Four];
            let rest = known
                .iter()
                .find_map(|other| rest.strip_prefix(other.line()))
                .unwrap_or(rest);
            format!("{}{rest}", new_file(schema))
        }
        None => text,
    }
}

/// Returns none if the file has only the lines that we created it with.
fn unless_empty(text: String) -> Option<String> {
    let is_ours = [Schema::One, Schema::Two, Schema::Three, Schema::Four]
        .iter()
        .any(|schema| text == new_file(*schema));
    (!is_ours).then_some(text)
}
