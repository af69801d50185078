//! A node's containerd configuration: the main file and all files that it imports, as a value.

use std::collections::BTreeMap;
use std::io;

use installer_protocol::ConfigMode;
use installer_protocol::layout::{Configuration, INSTALL_FOLDER, Layout, Restarter, parent};

use super::error::ConfigError;
use super::schema::{self, Schema};
use super::version::Version;
use super::written::WrittenHandler;
use super::{drop_in, imports};

/// Reads files of the node. Paths are the node's.
pub trait ConfigFiles {
    /// Reads a file; none if it is absent.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Lists the entries of a folder, in any order; none if it is absent.
    ///
    /// # Errors
    /// If it cannot be read.
    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>>;
}

/// A node's containerd configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFacts {
    /// containerd's version.
    pub version: Version,
    /// The requested mode.
    pub mode: ConfigMode,
    /// The folder of all our runtimes: a handler that leads to a program in it is ours.
    pub base: String,
    /// The path of the main file, or of the template that it is made from.
    pub main: String,
    /// The way in which handlers are added.
    pub configuration: Configuration,
    /// The component that restarts containerd.
    pub restarter: Restarter,
    /// The content of every file that was read; none if it is absent.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// The names in every folder that was listed, sorted; none if it is absent.
    pub folders: BTreeMap<String, Option<Vec<String>>>,
    /// The files that containerd reads, in its order, the main file first. An imported file may be
    /// absent.
    pub loaded: Vec<String>,
}

impl ConfigFacts {
    /// Reads the main file of `layout`, the files that it imports, the folders of drop-ins, and the
    /// files of `written`.
    ///
    /// # Errors
    /// If an existing file cannot be read, or is not a containerd configuration.
    pub fn gather(
        files: &dyn ConfigFiles,
        layout: &Layout,
        mode: ConfigMode,
        version: Version,
        written: Option<&WrittenHandler>,
    ) -> Result<Self, ConfigError> {
        let mut facts = Self {
            version,
            mode,
            base: format!("{}/{INSTALL_FOLDER}", layout.install.trim_end_matches('/')),
            main: layout.config.clone(),
            configuration: layout.configuration.clone(),
            restarter: layout.restarter,
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
            loaded: Vec::new(),
        };
        for folder in drop_in::folders(&facts.main, &facts.configuration) {
            let names = facts.list(files, &folder)?;
            // Drop-ins of the distribution, and of our other handlers.
            for name in names
                .into_iter()
                .filter(|name| imports::matches("*.toml", name))
            {
                facts.read(files, &format!("{folder}/{name}"))?;
            }
        }
        let mut pending = std::collections::VecDeque::from([facts.main.clone()]);
        while let Some(path) = pending.pop_front() {
            if facts.loaded.contains(&path) {
                continue;
            }
            facts.read(files, &path)?;
            facts.loaded.push(path.clone());
            for pattern in facts.imports_of(&path)? {
                pending.extend(facts.expand(files, &pattern)?);
            }
        }
        for written in written.iter().flat_map(|written| &written.files) {
            facts.read(files, &written.path)?;
        }
        Ok(facts)
    }

    /// Returns the schema version of the main file; 0 if there is no main file.
    pub fn config_version(&self) -> u32 {
        let Ok(Some(text)) = self.text(&self.main) else {
            return 0;
        };
        let schema = schema::parse(&self.main, text)
            .and_then(|main| Schema::of(&self.main, main.as_table(), self.version));
        match schema {
            Err(_) => 0,
            Ok(Schema::One) => 1,
            Ok(Schema::Two) => 2,
            Ok(Schema::Three) => 3,
            Ok(Schema::Four) => 4,
        }
    }

    /// Returns the text of a file that was read; none if it is absent.
    pub(super) fn text(&self, path: &str) -> Result<Option<&str>, ConfigError> {
        // Of a listed folder, all files were read.
        if !self.files.contains_key(path) && self.folders.contains_key(parent(path)) {
            return Ok(None);
        }
        let bytes = self
            .files
            .get(path)
            .ok_or_else(|| ConfigError::NotGathered {
                path: path.to_owned(),
            })?;
        let Some(bytes) = bytes else { return Ok(None) };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|source| ConfigError::NotText {
                path: path.to_owned(),
                source,
            })
    }

    /// Returns the import patterns of a file that was read.
    pub(super) fn imports_of(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        match self.text(path)? {
            None => Ok(Vec::new()),
            Some(text) => Ok(imports::of(
                path,
                schema::parse(path, text)?.as_table(),
                self.version,
            )),
        }
    }

    /// Returns the paths that match a pattern, with `more` among the present files and without
    /// `fewer`; none if only containerd can resolve the pattern.
    pub(super) fn matched_paths(
        &self,
        pattern: &str,
        more: &[&str],
        fewer: &[&str],
    ) -> Option<Vec<String>> {
        if !pattern.contains('*') {
            return Some(vec![pattern.to_owned()]);
        }
        let (folder, names) = imports::parts(pattern)?;
        let there = self
            .folders
            .get(folder)
            .and_then(Option::as_ref)
            .into_iter()
            .flatten();
        let mut paths: Vec<String> = there
            .filter(|name| imports::matches(names, name))
            .map(|name| format!("{folder}/{name}"))
            .collect();
        paths.extend(
            more.iter()
                .filter(|path| imports::covers(pattern, path))
                .map(|path| (*path).to_owned()),
        );
        paths.retain(|path| !fewer.contains(&path.as_str()));
        paths.sort();
        paths.dedup();
        Some(paths)
    }

    fn expand(
        &mut self,
        files: &dyn ConfigFiles,
        pattern: &str,
    ) -> Result<Vec<String>, ConfigError> {
        if let Some((folder, _)) = imports::parts(pattern).filter(|_| pattern.contains('*')) {
            self.list(files, folder)?;
        }
        Ok(self.matched_paths(pattern, &[], &[]).unwrap_or_default())
    }

    fn read(&mut self, files: &dyn ConfigFiles, path: &str) -> Result<(), ConfigError> {
        if !self.files.contains_key(path) {
            let bytes = files.read(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            self.files.insert(path.to_owned(), bytes);
        }
        Ok(())
    }

    fn list(&mut self, files: &dyn ConfigFiles, folder: &str) -> Result<Vec<String>, ConfigError> {
        if !self.folders.contains_key(folder) {
            let mut names = files.list(folder).map_err(|source| ConfigError::Read {
                path: folder.to_owned(),
                source,
            })?;
            if let Some(names) = &mut names {
                names.sort();
            }
            self.folders.insert(folder.to_owned(), names);
        }
        Ok(self
            .folders
            .get(folder)
            .cloned()
            .flatten()
            .unwrap_or_default())
    }

    /// Returns whether the folder of `path` is known to be absent.
    pub(super) fn lacks_folder_of(&self, path: &str) -> bool {
        matches!(self.folders.get(parent(path)), Some(None))
    }
}
