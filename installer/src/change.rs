//! A change of containerd's configuration, and its reversal. Before the first byte is written, the
//! record on the node's disk has the content of every file, and a guard watches the change.

use installer_protocol::layout::Restarter;
use installer_protocol::{Reason, Verb};

use crate::containerd::{self, FileChange};
use crate::detect::{self, ContainerdService};
use crate::failure::{Failure, WithReason as _};
use crate::files::{self, FileAccess};
use crate::guard_unit;
use crate::installation::Installation;
use crate::node_root::NodePath;
use crate::record::{ActiveRuntime, LastWrite, PendingChange, Record, SavedFile};

mod node_config;

pub use node_config::{NodeConfigDump, NodeConfigFiles, remove_candidate};

/// A change that is about to begin.
#[derive(Debug)]
pub struct Transition<'a> {
    /// The request that it is part of.
    pub verb: Verb,
    /// The handler that is added, changed or removed.
    pub handler: &'a str,
    /// The runtime that the handler leads to afterwards.
    pub tried: Option<ActiveRuntime>,
    /// The files, in the order in which they are written; none if containerd is only restarted.
    pub files: &'a [FileChange],
    /// The folders that are created for the files.
    pub folders: &'a [String],
}

/// Loads the record of the installation's runtime; an empty one if nothing was done yet.
pub(crate) fn load(installation: &Installation<'_>) -> Result<Record, Failure> {
    let loaded = Record::load(installation.node.root, &installation.paths.record);
    let loaded = loaded.map_err(|error| Failure {
        reason: Reason::HostFiles,
        error: error.into(),
    })?;
    Ok(loaded.unwrap_or_else(|| Record::new(&installation.request.runtime)))
}

/// Writes the record.
///
/// # Errors
/// If it cannot be written.
pub fn save(installation: &Installation<'_>, record: &Record) -> Result<(), Failure> {
    installation.node.machine.about_to("write the record");
    record
        .save(installation.node.root, &installation.paths.record)
        .map_err(|error| Failure {
            reason: Reason::HostFiles,
            error: error.into(),
        })
}

/// Records a change and starts its guard.
///
/// # Errors
/// If either fails; no file was changed then.
pub fn begin(
    installation: &Installation<'_>,
    record: &mut Record,
    service: &ContainerdService,
    transition: Transition<'_>,
) -> Result<(), Failure> {
    let now = installation.node.machine.now();
    let path = |text: &String| {
        NodePath::new(text).with_reason(Reason::ContainerdConfig, || "plan a change".to_owned())
    };
    let mut saved = Vec::new();
    for change in transition.files {
        let path = path(&change.path)?;
        saved.push(saved_file(installation, change, path)?);
    }
    let attempt = format!("{now:x}-{:x}", std::process::id());
    record.pending = Some(PendingChange {
        attempt: attempt.clone(),
        verb: transition.verb,
        began: now,
        last_write_before: record.last_write,
        handler: transition.handler.to_owned(),
        tried: transition.tried,
        unit: service.unit.clone(),
        containerd: service.version.to_string(),
        files: saved,
        folders: transition
            .folders
            .iter()
            .map(path)
            .collect::<Result<_, _>>()?,
        failure_record: None,
    });
    save(installation, record)?;
    match (
        guard_unit::start(installation, &attempt),
        installation.layout.restarter,
    ) {
        (Ok(()), _) => Ok(()),
        (Err(failure), Restarter::Installer) => Err(failure),
        // k0s also runs without systemd.
        (Err(failure), Restarter::Distribution) => {
            tracing::warn!(cause = failure.message(), "no guard watches the change");
            Ok(())
        }
    }
}

/// Writes the files of the pending change that are not written yet. Returns their paths.
///
/// # Errors
/// If a file cannot be written.
pub fn apply(installation: &Installation<'_>, record: &mut Record) -> Result<Vec<String>, Failure> {
    let Some(pending) = record.pending.clone() else {
        return Ok(Vec::new());
    };
    let contents: Vec<Content> = pending
        .files
        .into_iter()
        .map(|file| (file.path, file.after, file.access))
        .collect();
    let written = write(installation, record, &contents)?;
    if record.last_write == LastWrite::Underway {
        record.last_write = LastWrite::At(installation.node.machine.now());
        save(installation, record)?;
    }
    Ok(written)
}

/// Restores the files of the pending change. The change stays in the record until containerd was
/// restarted.
///
/// # Errors
/// If a file cannot be written.
pub fn undo(installation: &Installation<'_>, record: &mut Record) -> Result<(), Failure> {
    let Some(pending) = record.pending.clone() else {
        return Ok(());
    };
    remove_candidate(installation)?;
    let contents = former_contents(installation, record, &pending)?;
    let written = write(installation, record, &contents)?;
    remove_created_folders(installation, record, &pending)?;
    let unread = contents.len() == pending.files.len() && is_unread(installation, &pending);
    record.last_write = match (
        written.is_empty() && record.last_write != LastWrite::Underway,
        unread,
    ) {
        // containerd did not read the files in between.
        (_, true) => pending.last_write_before,
        (true, false) => record.last_write,
        (false, false) => LastWrite::At(installation.node.machine.now()),
    };
    // If the record stays as it is, the next process restores the files once more.
    if let Err(failure) = save(installation, record) {
        tracing::warn!(
            cause = failure.message(),
            "the rollback is not in the record"
        );
    }
    Ok(())
}

/// Removes folders that were created for files which are gone now. A folder with other files stays.
///
/// # Errors
/// If an empty folder cannot be removed.
pub fn remove_empty_folders(
    installation: &Installation<'_>,
    folders: &[NodePath],
) -> Result<(), Failure> {
    for folder in folders.iter().rev() {
        let path = installation.locate(folder)?;
        installation
            .node
            .machine
            .about_to("remove a folder of containerd's configuration");
        files::remove_empty_folder(&path)
            .with_reason(Reason::HostFiles, || format!("remove {folder} on the node"))?;
    }
    Ok(())
}

/// A file's path, its content (none if it is to be absent) and its access rights.
type Content = (NodePath, Option<String>, Option<FileAccess>);

/// Writes the files with a different content. The record has the write before the first one.
fn write(
    installation: &Installation<'_>,
    record: &mut Record,
    contents: &[Content],
) -> Result<Vec<String>, Failure> {
    let mut written = Vec::new();
    for (path, content, access) in contents {
        let present = read(installation, path)?;
        if present.as_deref() == content.as_deref().map(str::as_bytes) {
            continue;
        }
        if record.last_write != LastWrite::Underway {
            record.last_write = LastWrite::Underway;
            let is_rollback = record
                .pending
                .as_ref()
                .is_some_and(|pending| pending.failure_record.is_some());
            match save(installation, record) {
                // The disk may be full during a rollback. At worst containerd is restarted once
                // more than necessary.
                Err(failure) if is_rollback => tracing::warn!(
                    cause = failure.message(),
                    "the rollback is not in the record"
                ),
                result => result?,
            }
        }
        installation
            .node
            .machine
            .about_to("write a file of containerd's configuration");
        put(installation, path, content.as_deref(), *access)
            .with_reason(Reason::HostFiles, || format!("write {path} on the node"))?;
        written.push(path.to_string());
    }
    Ok(written)
}

fn put(
    installation: &Installation<'_>,
    path: &NodePath,
    content: Option<&str>,
    access: Option<FileAccess>,
) -> std::io::Result<()> {
    let path = installation.node.root.locate(path)?;
    let Some(content) = content else {
        return files::remove(&path);
    };
    files::make_folders(path.parent().unwrap_or(&path))?;
    files::write(
        &path,
        content.as_bytes(),
        access.unwrap_or(FileAccess::READABLE),
    )
}

fn read(installation: &Installation<'_>, path: &NodePath) -> Result<Option<Vec<u8>>, Failure> {
    installation
        .node
        .root
        .read(path)
        .with_reason(Reason::HostFiles, || format!("read {path} on the node"))
}

fn saved_file(
    installation: &Installation<'_>,
    change: &FileChange,
    path: NodePath,
) -> Result<SavedFile, Failure> {
    let access = FileAccess::of(&installation.locate(&path)?)
        .with_reason(Reason::HostFiles, || format!("stat {path} on the node"))?;
    SavedFile::new(change, path, access)
        .with_reason(Reason::ContainerdConfig, || "plan a change".to_owned())
}

/// Returns the contents that undo a pending change: the former bytes. If another program has
/// written one of the files since, only the installer's own parts are taken out.
fn former_contents(
    installation: &Installation<'_>,
    record: &Record,
    pending: &PendingChange,
) -> Result<Vec<Content>, Failure> {
    let mut foreign = None;
    for file in &pending.files {
        let present = read(installation, &file.path)?;
        let is = |text: &Option<String>| present.as_deref() == text.as_deref().map(str::as_bytes);
        if !is(&file.before) && !is(&file.after) {
            foreign = Some(&file.path);
        }
    }
    let Some(path) = foreign else {
        return Ok(pending
            .files
            .iter()
            .map(|file| (file.path.clone(), file.before.clone(), file.access))
            .collect());
    };
    tracing::warn!(%path, "another program wrote the file: only the installer's parts are undone");
    let changes = changes_to_active(installation, record, pending).map_err(|error| Failure {
        reason: error.reason(),
        error: error.into(),
    })?;
    changes
        .iter()
        .map(|change| {
            let path = NodePath::new(&change.path)
                .with_reason(Reason::ContainerdConfig, || "roll back".to_owned())?;
            let saved = saved_file(installation, change, path)?;
            Ok((saved.path, saved.after, saved.access))
        })
        .collect()
}

/// Returns the changes that lead from the present files to the record's active runtime, or to none.
fn changes_to_active(
    installation: &Installation<'_>,
    record: &Record,
    pending: &PendingChange,
) -> Result<Vec<FileChange>, containerd::ConfigError> {
    let version = containerd::Version::parse(&pending.containerd)?;
    let written = pending
        .tried
        .as_ref()
        .or(record.active.as_ref())
        .map(|active| &active.config);
    let facts = containerd::ConfigFacts::gather(
        &NodeConfigFiles(installation.node.root),
        &installation.layout,
        installation.request.mode,
        version,
        written,
    )?;
    match (&record.active, written) {
        (Some(active), written) => Ok(containerd::propose(
            &facts,
            &active.desired.handler(active.config.settings.clone()),
            written,
        )?
        .changes),
        (None, Some(written)) => containerd::revert(&facts, written),
        (None, None) => Ok(Vec::new()),
    }
}

/// Removes the folders that were created for a change that is undone.
fn remove_created_folders(
    installation: &Installation<'_>,
    record: &Record,
    pending: &PendingChange,
) -> Result<(), Failure> {
    let kept = record
        .active
        .as_ref()
        .map(|active| active.config.made_folders.as_slice())
        .unwrap_or_default();
    let folders: Vec<NodePath> = pending
        .folders
        .iter()
        .filter(|folder| !kept.contains(&folder.to_string()))
        .cloned()
        .collect();
    remove_empty_folders(installation, &folders)
}

/// Returns whether containerd runs since before the change began, so it cannot have read it.
fn is_unread(installation: &Installation<'_>, pending: &PendingChange) -> bool {
    let Some(unit) = &pending.unit else {
        return false;
    };
    let unit = installation.node.machine.unit(unit);
    installation.layout.restarter == Restarter::Installer
        && unit.is_ok_and(|unit| detect::is_active(&unit) && unit.active_since <= pending.began)
}
