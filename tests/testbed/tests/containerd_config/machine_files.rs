//! This machine's files, as the installer reads them.

use std::fs;
use std::io;

use node_installer::containerd::ConfigFiles;

/// This machine's files, which containerd's isolated namespace shares.
pub(crate) struct MachineFiles;

impl ConfigFiles for MachineFiles {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>> {
        match fs::read_dir(folder) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()
                .map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
