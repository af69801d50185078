//! What is known of a host's containerd configuration: the main file, and all that it imports, as a value.

use std::collections::BTreeMap;
use std::io;

use installer_protocol::Mode;
use installer_protocol::layout::{Configuration, Layout, Restarter};

use super::error::ConfigError;
use super::version::Version;

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
    /// The main file's path, or the template's that it is made of.
    pub main: String,
    /// How containerd learns of a handler.
    pub configuration: Configuration,
    /// Who restarts it.
    pub restarter: Restarter,
    /// The bytes of every file that was looked for; none where there is no such file.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// The names in every folder that was looked at; none where there is no such folder.
    pub folders: BTreeMap<String, Option<Vec<String>>>,
}

impl Facts {
    /// Reads the main file of `layout`, the files that it imports, and the folders that a drop-in may go to.
    ///
    /// # Errors
    /// When something that is there cannot be read, or the main file is no configuration of a containerd.
    pub fn gather(files: &dyn Files, layout: &Layout, mode: Mode, version: Version) -> Result<Self, ConfigError> {
        let read = |path: &str| files.read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source });
        let main = layout.config.clone();
        let bytes = read(&main)?;
        Ok(Self {
            version,
            mode,
            configuration: layout.configuration.clone(),
            restarter: layout.restarter,
            files: BTreeMap::from([(main.clone(), bytes)]),
            folders: BTreeMap::new(),
            main,
        })
    }
}
