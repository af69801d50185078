//! Places the runtime's folder, from its archive, beside the versions that are there, and the
//! handler's entry beside it.

use std::collections::BTreeSet;

use installer_protocol::report::Installed;
use installer_protocol::{Artifact, Reason};

use super::usage;
use crate::entry::HandlerEntry;
use crate::failure::{Failure, WithReason as _};
use crate::files;
use crate::installation::Installation;
use crate::node_root::NodePath;
use crate::record::Record;
use crate::unpack::{self, ExpectedArchive, FolderChange, LAUNCHER, Unpacked};

/// A placed runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The runtime.
    pub installed: Installed,
    /// The path on the node that containerd executes.
    pub launcher: String,
    /// What was done to the folder.
    pub change: FolderChange,
}

/// Verifies the runtime's folder, or fetches and unpacks its archive. Makes the handler's entry if
/// the runtime reads options from a file. `systemd_cgroup` is the option that the node decides.
///
/// # Errors
/// If the archive cannot be fetched, has another digest, or cannot be unpacked.
pub fn run(
    installation: &Installation<'_>,
    record: &Record,
    systemd_cgroup: bool,
) -> Result<Placed, Failure> {
    let Some(artifact) = &installation.request.artifact else {
        return Err(Failure::new(
            Reason::InvalidRequest,
            "the request names no artifact to install: set spec.artifact, or mode Preinstalled",
        ));
    };
    let (unpacked, sha256) = match find(installation, record, artifact)? {
        Some(found) => found,
        None => fetch_and_unpack(installation, artifact)?,
    };
    let versions = &installation.paths.versions;
    let folder = versions.join(&unpacked.name);
    let launcher = if unpacked.options_file {
        let settings = &installation.request.settings;
        let entry = HandlerEntry::new(&unpacked.name, systemd_cgroup, settings);
        let launcher = entry.launcher(versions);
        installation
            .node
            .machine
            .about_to("make the handler's entry");
        entry
            .make(&installation.locate(versions)?)
            .with_reason(Reason::HostFiles, || {
                format!("write {launcher} on the node")
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

/// Finds a downloaded artifact that the record has, with an intact folder. So a node that
/// works does not need the artifact's source any more.
fn find(
    installation: &Installation<'_>,
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
    let path = NodePath::new(&installed.path)
        .with_reason(Reason::HostFiles, || "read the record".to_owned())?;
    let versions = installation.locate(&installation.paths.versions)?;
    let expected = ExpectedArchive::here(sha256, BTreeSet::new());
    match unpack::find(&versions, path.name(), &expected) {
        Ok(unpacked) => Ok(Some((unpacked, sha256.clone()))),
        Err(damage) => {
            tracing::warn!(folder = %path, %damage,
                "the runtime's folder is damaged: fetching its archive again");
            Ok(None)
        }
    }
}

fn fetch_and_unpack(
    installation: &Installation<'_>,
    artifact: &Artifact,
) -> Result<(Unpacked, String), Failure> {
    let machine = installation.node.machine;
    let downloads = installation.locate(&installation.paths.downloads)?;
    let versions = installation.locate(&installation.paths.versions)?;
    machine.about_to("fetch the archive");
    let archive = machine
        .fetch(artifact, &downloads)
        .map_err(|error| Failure {
            reason: error.reason(),
            error: error.into(),
        })?;
    let in_use = usage::versions(installation)?;
    machine.about_to("unpack the archive");
    let expected = ExpectedArchive::here(&archive.sha256, in_use);
    let unpacked =
        unpack::unpack(&archive.path, &expected, &versions).map_err(|error| Failure {
            reason: error.reason(),
            error: error.into(),
        })?;
    let sha256 = archive.sha256.clone();
    drop(archive);
    files::remove_tree(&downloads).with_reason(Reason::HostFiles, || {
        format!("remove {} on the node", installation.paths.downloads)
    })?;
    Ok((unpacked, sha256))
}
