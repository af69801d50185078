//! Removes what is not used: former versions that no container runs from, and temporary files of
//! the stages.

use installer_protocol::Reason;

use super::usage;
use crate::failure::{Failure, WithReason as _};
use crate::files::{self, FolderRemoval};
use crate::installation::{Installation, InstallationPaths};
use crate::node_root::NodePath;
use crate::record::Record;

/// Removes all versions except `kept`, and all entries except the one of `launcher`, that no
/// container runs from, and temporary files. Returns the names that were removed.
///
/// # Errors
/// If the usage cannot be determined, or something cannot be removed.
pub fn run(
    installation: &Installation<'_>,
    kept: &NodePath,
    launcher: &str,
) -> Result<Vec<String>, Failure> {
    remove_temporary(installation)?;
    let used = usage::versions(installation)?;
    let versions = &installation.paths.versions;
    let entry = usage::version_folder(versions, launcher);
    let mut removed = Vec::new();
    for name in installation.list(versions)? {
        let folder = versions.join(&name);
        if folder != *kept && entry != Some(name.as_str()) && !used.contains(&name) {
            remove_tree(installation, &folder)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Removes everything of the runtime: its versions, its state, and the folders that are empty then.
/// The record goes last, so that after a kill the next process knows what is left.
///
/// # Errors
/// If something cannot be removed.
pub fn remove_all(installation: &Installation<'_>) -> Result<(), Failure> {
    remove_tree(installation, &installation.paths.versions)?;
    remove_temporary(installation)?;
    remove_file(installation, &installation.paths.record)?;
    remove_empty_folders(installation)
}

/// Removes the smoke guest's log.
///
/// # Errors
/// If it cannot be removed.
pub(super) fn remove_logs(installation: &Installation<'_>) -> Result<(), Failure> {
    remove_tree(installation, &installation.paths.logs)?;
    // If the node's image brings the runtime, the log was the only file.
    remove_empty_folders(installation)
}

/// Removes the files of a run that changed nothing of containerd's, as far as the record does not
/// need them.
///
/// # Errors
/// If something cannot be removed.
pub fn discard(installation: &Installation<'_>, record: &Record) -> Result<(), Failure> {
    if let Some(active) = &record.active {
        let kept = NodePath::new(&active.installed.path)
            .with_reason(Reason::HostFiles, || "read the record".to_owned())?;
        return run(installation, &kept, &active.desired.launcher).map(|_| ());
    }
    if !installation.node.root.has(&installation.paths.record) {
        // Without a record, the files there are not the installer's.
        return remove_empty_folders(installation);
    }
    // Containers may run from versions that are not in the record.
    if usage::find(installation)?.may_include(&installation.paths.versions) {
        Ok(())
    } else {
        remove_all(installation)
    }
}

/// Removes the installer's folders that are empty.
fn remove_empty_folders(installation: &Installation<'_>) -> Result<(), Failure> {
    let InstallationPaths { state, base, .. } = &installation.paths;
    remove_empty_folder(installation, state)?;
    remove_empty_folder(installation, &base.join(InstallationPaths::STATE))?;
    remove_empty_folder(installation, base)
}

/// Removes the files that only a running installation needs.
fn remove_temporary(installation: &Installation<'_>) -> Result<(), Failure> {
    remove_file(installation, &installation.paths.guard)?;
    remove_tree(installation, &installation.paths.downloads)?;
    remove_tree(installation, &installation.paths.logs)
}

fn remove_file(installation: &Installation<'_>, file: &NodePath) -> Result<(), Failure> {
    let path = installation.locate(file)?;
    installation.node.machine.about_to("remove a file");
    files::remove(&path).with_reason(Reason::HostFiles, || format!("remove {file} on the node"))
}

fn remove_tree(installation: &Installation<'_>, folder: &NodePath) -> Result<(), Failure> {
    let path = installation.locate(folder)?;
    installation.node.machine.about_to("remove a folder");
    files::remove_tree(&path)
        .with_reason(Reason::HostFiles, || format!("remove {folder} on the node"))
}

fn remove_empty_folder(installation: &Installation<'_>, folder: &NodePath) -> Result<(), Failure> {
    let path = installation.locate(folder)?;
    installation.node.machine.about_to("remove an empty folder");
    let removal = files::remove_empty_folder(&path)
        .with_reason(Reason::HostFiles, || format!("remove {folder} on the node"))?;
    if removal == FolderRemoval::NotEmpty {
        tracing::debug!(%folder, "the folder stays: it is not empty");
    }
    Ok(())
}
