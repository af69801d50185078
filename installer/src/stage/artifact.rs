//! The runtime's folder: out of its archive, beside the versions that are there; and the handler's
//! entry beside it.

use std::collections::BTreeSet;

use installer_protocol::report::Installed;
use installer_protocol::{Artifact, Reason};

use super::{Because as _, Failure, Job, usage};
use crate::entry::Entry;
use crate::host::HostPath;
use crate::record::Record;
use crate::unpack::{self, Change, Expect, LAUNCHER, Unpacked};

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

/// Proves that the runtime is there, or gets its archive and unpacks it; and makes the handler's
/// entry, if the runtime reads options from a file. `systemd_cgroup` is the option that the node
/// decides.
///
/// # Errors
/// When the archive cannot be had, is not the one that is expected, or finds no place.
pub fn run(job: &Job<'_>, record: &Record, systemd_cgroup: bool) -> Result<Placed, Failure> {
    let Some(artifact) = &job.request.artifact else {
        return Err(Failure::new(
            Reason::InvalidRequest,
            "the request names no artifact to install: set spec.artifact, or mode Preinstalled",
        ));
    };
    let (unpacked, sha256) = match found(job, record, artifact)? {
        Some(found) => found,
        None => unpacked(job, artifact)?,
    };
    let folder = job.places.shelf.join(&unpacked.name);
    let launcher = if unpacked.options_file {
        let entry = Entry::new(&unpacked.name, systemd_cgroup, job.request.settings);
        let launcher = entry.launcher(&job.places.shelf);
        job.node.machine.about_to("make the handler's entry");
        entry
            .make(&job.locate(&job.places.shelf)?)
            .because(Reason::HostFiles, || {
                format!("write {launcher} of the host")
            })?;
        launcher
    } else {
        folder.join(LAUNCHER)
    };
    Ok(Placed {
        installed: Installed {
            version: unpacked.version,
            sha256,
            path: folder.as_str().to_owned(),
        },
        launcher: launcher.as_str().to_owned(),
        change: unpacked.change,
    })
}

/// What is to be downloaded, if the record tells that it was, and its folder is whole: that the
/// place it came from is gone since then is no harm to a node that works.
fn found(
    job: &Job<'_>,
    record: &Record,
    artifact: &Artifact,
) -> Result<Option<(Unpacked, String)>, Failure> {
    let (Artifact::Url { sha256, .. } | Artifact::Image { sha256, .. }) = artifact else {
        return Ok(None);
    };
    let tried = record
        .pending
        .as_ref()
        .and_then(|pending| pending.tried.as_ref());
    // A folder's name has a part of the digest, the record has all of it.
    let mut known = record
        .active
        .iter()
        .chain(tried)
        .map(|active| &active.installed);
    let Some(installed) = known.find(|installed| installed.sha256 == *sha256) else {
        return Ok(None);
    };
    let path = HostPath::new(&installed.path)
        .because(Reason::HostFiles, || "read the record".to_owned())?;
    let shelf = job.locate(&job.places.shelf)?;
    match unpack::find(&shelf, path.name(), &Expect::here(sha256, BTreeSet::new())) {
        Ok(unpacked) => Ok(Some((unpacked, sha256.clone()))),
        Err(damage) => {
            tracing::warn!(folder = %path, %damage, "the runtime is not whole: its archive is \
                                                     fetched again");
            Ok(None)
        }
    }
}

fn unpacked(job: &Job<'_>, artifact: &Artifact) -> Result<(Unpacked, String), Failure> {
    let downloads = job.locate(&job.places.downloads)?;
    let shelf = job.locate(&job.places.shelf)?;
    job.node.machine.about_to("fetch the archive");
    let archive = job
        .node
        .machine
        .fetch(artifact, &downloads)
        .map_err(|error| Failure {
            reason: error.reason(),
            error: error.into(),
        })?;
    let in_use = usage::versions(job)?;
    job.node.machine.about_to("unpack the archive");
    let unpacked = unpack::unpack(
        &archive.path,
        &Expect::here(&archive.sha256, in_use),
        &shelf,
    )
    .map_err(|error| Failure {
        reason: error.reason(),
        error: error.into(),
    })?;
    let sha256 = archive.sha256.clone();
    drop(archive);
    crate::files::remove_tree(&downloads).because(Reason::HostFiles, || {
        format!("remove {} of the host", job.places.downloads)
    })?;
    Ok((unpacked, sha256))
}
