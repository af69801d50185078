//! What is known of a host's containerd configuration: the main file, and all that it imports, as a
//! value.

use std::collections::BTreeMap;
use std::io;

use installer_protocol::Mode;
use installer_protocol::layout::{Configuration, Layout, Restarter, parent};

use super::error::ConfigError;
use super::record::Record;
use super::schema::{self, Schema};
use super::version::Version;
use super::{imports, place};
use crate::stage::FOLDER;

/// What reads the host's files. Paths are the host's.
pub trait Files {
    /// The bytes of a file; none where there is no such file.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// The names of the entries of a folder, in any order; none where there is no such folder.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>>;
}

/// What is known of a host's containerd configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// containerd's version.
    pub version: Version,
    /// What the admin asks for.
    pub mode: Mode,
    /// The folder of all runtimes of ours: a handler that leads to a program in it is ours.
    pub base: String,
    /// The main file's path, or the template's that it is made of.
    pub main: String,
    /// How containerd learns of a handler.
    pub configuration: Configuration,
    /// Who restarts it.
    pub restarter: Restarter,
    /// The bytes of every file that was looked for; none where there is no such file.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// The names in every folder that was looked at, sorted; none where there is no such folder.
    pub folders: BTreeMap<String, Option<Vec<String>>>,
    /// The files that containerd reads, in its order, the main file first. A file that is imported
    /// and absent is among them.
    pub loaded: Vec<String>,
}

impl Facts {
    /// Reads the main file of `layout`, the files that it imports, the folders that a drop-in may
    /// go to, and the files that `record` tells of.
    ///
    /// # Errors
    /// When something that is there cannot be read, or is no configuration of a containerd.
    pub fn gather(
        files: &dyn Files,
        layout: &Layout,
        mode: Mode,
        version: Version,
        record: Option<&Record>,
    ) -> Result<Self, ConfigError> {
        let mut facts = Self {
            version,
            mode,
            base: format!("{}/{FOLDER}", layout.install.trim_end_matches('/')),
            main: layout.config.clone(),
            configuration: layout.configuration.clone(),
            restarter: layout.restarter,
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
            loaded: Vec::new(),
        };
        for folder in place::folders(&facts.main, &facts.configuration) {
            let names = facts.list(files, &folder)?;
            // Files of a folder that the distribution reads itself, and what our own other handlers
            // wrote.
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
        for written in record.iter().flat_map(|record| &record.files) {
            facts.read(files, &written.path)?;
        }
        Ok(facts)
    }

    /// The schema version of the main file, as a number: 0 where there is no main file.
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

    /// The text of a file that was looked for; none where there is no such file.
    pub(super) fn text(&self, path: &str) -> Result<Option<&str>, ConfigError> {
        // A folder that was listed has no other files than those that were read.
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

    /// The patterns that a file that was looked for imports.
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

    /// The paths that a pattern means, with `more` among what is there and `fewer` not; none where
    /// only containerd can tell.
    pub(super) fn meant(
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

    fn expand(&mut self, files: &dyn Files, pattern: &str) -> Result<Vec<String>, ConfigError> {
        if let Some((folder, _)) = imports::parts(pattern).filter(|_| pattern.contains('*')) {
            self.list(files, folder)?;
        }
        Ok(self.meant(pattern, &[], &[]).unwrap_or_default())
    }

    fn read(&mut self, files: &dyn Files, path: &str) -> Result<(), ConfigError> {
        if !self.files.contains_key(path) {
            let bytes = files.read(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            self.files.insert(path.to_owned(), bytes);
        }
        Ok(())
    }

    fn list(&mut self, files: &dyn Files, folder: &str) -> Result<Vec<String>, ConfigError> {
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

    /// Whether a folder has to be made; one that was not looked at is taken to be there.
    pub(super) fn lacks_folder_of(&self, path: &str) -> bool {
        matches!(self.folders.get(parent(path)), Some(None))
    }
}
