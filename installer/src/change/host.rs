//! The host's files and containerd, as the edits of its configuration ask for them.

use std::fs;
use std::io;
use std::path::Path;

use installer_protocol::Reason;

use crate::containerd::{CANDIDATE, Dump, Dumped, Files};
use crate::files::{self, Access};
use crate::host::{HostPath, HostRoot};
use crate::stage::{Because as _, Failure, Job};

/// Files of a host.
#[derive(Debug, Clone, Copy)]
pub struct HostFiles<'a>(pub &'a HostRoot);

impl Files for HostFiles<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(&host_path(path)?)
    }

    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>> {
        match fs::read_dir(self.0.locate(&host_path(folder)?)?) {
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

/// A host's containerd.
pub struct HostDump<'a> {
    /// Whose host.
    pub job: &'a Job<'a>,
    /// Its program.
    pub program: &'a HostPath,
}

impl Dump for HostDump<'_> {
    fn dump(&self, main: &str, files: &[(String, Vec<u8>)]) -> io::Result<Dumped> {
        let place = candidate(self.job)?;
        let asked = self.lay_out(files).and_then(|()| {
            let output = self
                .job
                .node
                .machine
                .run(self.program, &["-c", main, "config", "dump"])?;
            Ok(Dumped {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        });
        let removed = files::remove_tree(&place);
        let dumped = asked?;
        removed?;
        Ok(dumped)
    }
}

impl HostDump<'_> {
    fn lay_out(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        files::remove_tree(&candidate(self.job)?)?;
        self.job
            .node
            .machine
            .about_to("lay out a candidate of containerd's configuration");
        for (path, bytes) in files {
            let place = self.job.node.root.locate(&host_path(path)?)?;
            files::make_folders(place.parent().unwrap_or(Path::new("/")))?;
            files::write(&place, bytes, Access::PRIVATE)?;
        }
        Ok(())
    }
}

/// Removes what a killed installer left of a candidate.
///
/// # Errors
/// When it stays.
pub fn remove_candidate(job: &Job<'_>) -> Result<(), Failure> {
    candidate(job)
        .and_then(|place| files::remove_tree(&place))
        .because(Reason::HostFiles, || {
            "remove a candidate of containerd's configuration".to_owned()
        })
}

/// The folder beside the main file that candidates lie in.
fn candidate(job: &Job<'_>) -> io::Result<std::path::PathBuf> {
    job.node
        .root
        .locate(&job.places.config_folder.join(CANDIDATE))
}

fn host_path(text: &str) -> io::Result<HostPath> {
    HostPath::new(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
