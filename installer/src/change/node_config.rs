//! The node's files and its containerd program, as edits of the configuration use them.

use std::fs;
use std::io;
use std::path::Path;

use installer_protocol::Reason;

use crate::containerd::{CANDIDATE, ConfigDump, ConfigFiles, DumpOutput};
use crate::failure::{Failure, WithReason as _};
use crate::files::{self, FileAccess};
use crate::installation::Installation;
use crate::node_root::{NodePath, NodeRoot};

/// The files of a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeConfigFiles<'a>(pub &'a NodeRoot);

impl ConfigFiles for NodeConfigFiles<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(&node_path(path)?)
    }

    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>> {
        match fs::read_dir(self.0.locate(&node_path(folder)?)?) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()
                .map(Some),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The containerd program of a node.
pub struct NodeConfigDump<'a> {
    /// The installation on that node.
    pub installation: &'a Installation<'a>,
    /// The program's path.
    pub program: &'a NodePath,
}

impl ConfigDump for NodeConfigDump<'_> {
    fn dump(&self, main: &str, files: &[(String, Vec<u8>)]) -> io::Result<DumpOutput> {
        let folder = candidate_folder(self.installation)?;
        let output = self.write_candidate(files).and_then(|()| {
            let output = self
                .installation
                .node
                .machine
                .run(self.program, &["-c", main, "config", "dump"])?;
            Ok(DumpOutput {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        });
        let removed = files::remove_tree(&folder);
        let output = output?;
        removed?;
        Ok(output)
    }
}

impl NodeConfigDump<'_> {
    fn write_candidate(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        files::remove_tree(&candidate_folder(self.installation)?)?;
        self.installation
            .node
            .machine
            .about_to("write a candidate of containerd's configuration");
        for (path, bytes) in files {
            let path = self.installation.node.root.locate(&node_path(path)?)?;
            files::make_folders(path.parent().unwrap_or(Path::new("/")))?;
            files::write(&path, bytes, FileAccess::PRIVATE)?;
        }
        Ok(())
    }
}

/// Removes the candidate that a killed installer left.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_candidate(installation: &Installation<'_>) -> Result<(), Failure> {
    candidate_folder(installation)
        .and_then(|folder| files::remove_tree(&folder))
        .with_reason(Reason::HostFiles, || {
            "remove a candidate of containerd's configuration".to_owned()
        })
}

/// Returns the folder of candidates, beside the main file.
fn candidate_folder(installation: &Installation<'_>) -> io::Result<std::path::PathBuf> {
    installation
        .node
        .root
        .locate(&installation.paths.config_folder.join(CANDIDATE))
}

fn node_path(text: &str) -> io::Result<NodePath> {
    NodePath::new(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
