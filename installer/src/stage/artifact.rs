//! The runtime's folder: out of its archive, beside the versions that are there.

use installer_protocol::Reason;
use installer_protocol::report::Installed;

use super::{Because as _, Failure, Job, clean};
use crate::unpack::{self, Change, Expect, LAUNCHER};

/// A runtime in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Which one.
    pub installed: Installed,
    /// What containerd executes, on the host.
    pub launcher: String,
    /// What had to be done.
    pub change: Change,
}

/// Gets the archive and unpacks it.
///
/// # Errors
/// When it cannot be had, is not the one that is expected, or finds no place.
pub fn run(job: &Job<'_>) -> Result<Placed, Failure> {
    let Some(artifact) = &job.request.artifact else {
        return Err(Failure::new(
            Reason::InvalidRequest,
            "the request names no artifact to install: set spec.artifact, or mode Preinstalled",
        ));
    };
    let downloads = job.locate(&job.places.downloads)?;
    let shelf = job.locate(&job.places.shelf)?;
    job.node.machine.about_to("fetch the archive");
    let archive = job.node.machine.fetch(artifact, &downloads).map_err(|error| Failure { reason: error.reason(), error: error.into() })?;
    let in_use = clean::in_use(job)?;
    job.node.machine.about_to("unpack the archive");
    let unpacked = unpack::unpack(&archive.path, &Expect::here(&archive.sha256, in_use), &shelf)
        .map_err(|error| Failure { reason: error.reason(), error: error.into() })?;
    let folder = job.places.shelf.join(&unpacked.name);
    let sha256 = archive.sha256.clone();
    drop(archive);
    crate::files::remove_tree(&downloads).because(Reason::HostFiles, || format!("remove {} of the host", job.places.downloads))?;
    let launcher = folder.join(LAUNCHER).as_str().to_owned();
    Ok(Placed {
        installed: Installed { version: unpacked.version, sha256, path: folder.as_str().to_owned() },
        launcher,
        change: unpacked.change,
    })
}
