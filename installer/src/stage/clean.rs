//! Removing what is no longer used: former versions that no container runs from, and what stages
//! left to each other.

use std::fs;
use std::io;

use installer_protocol::Reason;

use super::{Because as _, Failure, Job, Places, usage};
use crate::files::{self, Folder};
use crate::host::HostPath;
use crate::record::Record;

/// Removes the versions but `kept`, and the entries but the one of `launcher`, that no container
/// runs from, and what only an installation under way needs. Returns what was removed.
///
/// # Errors
/// When it cannot be told what is used, or something stays.
pub fn run(job: &Job<'_>, kept: &HostPath, launcher: &str) -> Result<Vec<String>, Failure> {
    remove_tools(job)?;
    let used = usage::versions(job)?;
    let entry = usage::folder_on(&job.places.shelf, launcher);
    let mut removed = Vec::new();
    for name in names(job, &job.places.shelf)? {
        let folder = job.places.shelf.join(&name);
        if folder != *kept && entry != Some(name.as_str()) && !used.contains(&name) {
            remove_tree(job, &folder)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Removes everything of the runtime: versions, records, and the folders that are empty then. In an
/// order in which what is left after a kill is known to whoever comes next.
///
/// # Errors
/// When something stays.
pub fn remove_all(job: &Job<'_>) -> Result<(), Failure> {
    remove_tree(job, &job.places.shelf)?;
    remove_tools(job)?;
    remove_file(job, &job.places.record)?;
    remove_empty_folders(job)
}

/// Removes the smoke guest's log.
///
/// # Errors
/// When it stays.
pub(super) fn remove_logs(job: &Job<'_>) -> Result<(), Failure> {
    remove_tree(job, &job.places.logs)?;
    // Where the node's image brings the runtime, there is nothing else.
    remove_empty_folders(job)
}

/// Removes the installer's folders that nothing is in.
fn remove_empty_folders(job: &Job<'_>) -> Result<(), Failure> {
    let Places { state, base, .. } = &job.places;
    remove_empty(job, state)?;
    remove_empty(job, &base.join(Places::STATE))?;
    remove_empty(job, base)
}

/// Takes an attempt back that changed nothing of containerd's: its folder goes, unless the record
/// tells of others.
///
/// # Errors
/// When something stays.
pub fn discard(job: &Job<'_>, record: &Record) -> Result<(), Failure> {
    if let Some(active) = &record.active {
        let kept = HostPath::new(&active.installed.path)
            .because(Reason::HostFiles, || "read the record".to_owned())?;
        return run(job, &kept, &active.wish.launcher).map(|_| ());
    }
    if !job.node.root.has(&job.places.record) {
        // Nothing was begun, so whatever is there is not ours.
        return remove_empty_folders(job);
    }
    // Containers may run from what the record does not tell of.
    if usage::look(job)?.is_of(&job.places.shelf) {
        Ok(())
    } else {
        remove_all(job)
    }
}

/// The names in a folder; none where it is absent.
pub(crate) fn names(job: &Job<'_>, folder: &HostPath) -> Result<Vec<String>, Failure> {
    let list = || -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(job.node.root.locate(folder)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    list().because(Reason::HostFiles, || format!("list {folder} of the host"))
}

/// Removes what only an installation under way needs.
fn remove_tools(job: &Job<'_>) -> Result<(), Failure> {
    remove_file(job, &job.places.guard)?;
    remove_tree(job, &job.places.downloads)?;
    remove_tree(job, &job.places.logs)
}

fn remove_file(job: &Job<'_>, file: &HostPath) -> Result<(), Failure> {
    let place = job.locate(file)?;
    job.node.machine.about_to("remove a file");
    files::remove(&place).because(Reason::HostFiles, || format!("remove {file} of the host"))
}

fn remove_tree(job: &Job<'_>, folder: &HostPath) -> Result<(), Failure> {
    let place = job.locate(folder)?;
    job.node.machine.about_to("remove a folder");
    files::remove_tree(&place).because(Reason::HostFiles, || format!("remove {folder} of the host"))
}

fn remove_empty(job: &Job<'_>, folder: &HostPath) -> Result<(), Failure> {
    let place = job.locate(folder)?;
    job.node.machine.about_to("remove an empty folder");
    let what = files::remove_empty_folder(&place)
        .because(Reason::HostFiles, || format!("remove {folder} of the host"))?;
    if what == Folder::Kept {
        tracing::debug!(%folder, "kept: something else is in it");
    }
    Ok(())
}
