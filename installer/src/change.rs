//! A change of containerd's configuration, forth and back. Before the first byte is written, the
//! node's disk holds what every file was, and a guard watches that somebody finishes.

use installer_protocol::layout::Restarter;
use installer_protocol::{Reason, Verb};

use crate::containerd::{self, FileChange};
use crate::detect;
use crate::files::{self, Access};
use crate::guard;
use crate::host::HostPath;
use crate::record::{Active, Pending, Record, Saved, Touched};
use crate::stage::check::Facts;
use crate::stage::{Because as _, Failure, Job};

mod host;

pub use host::{HostDump, HostFiles, remove_candidate};

/// What is to be changed.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What it is a part of.
    pub verb: Verb,
    /// The handler that is added, changed or taken away.
    pub handler: &'a str,
    /// The runtime that is tried.
    pub tried: Option<Active>,
    /// The files, in the order in which they are written; none when containerd is only to be
    /// restarted.
    pub files: &'a [FileChange],
    /// Folders that are made for them.
    pub folders: &'a [String],
}

/// Writes down what is about to be changed, and has a guard watch it.
///
/// # Errors
/// When either cannot be done; nothing was changed then.
pub fn arm(
    job: &Job<'_>,
    record: &mut Record,
    facts: &Facts,
    plan: Plan<'_>,
) -> Result<(), Failure> {
    let now = job.node.machine.now();
    let path = |text: &String| {
        HostPath::new(text).because(Reason::ContainerdConfig, || "plan a change".to_owned())
    };
    let mut saved = Vec::new();
    for change in plan.files {
        let path = path(&change.path)?;
        let access = Access::of(&job.locate(&path)?)
            .because(Reason::HostFiles, || format!("look at {path} of the host"))?;
        saved.push(
            Saved::new(change, path, access)
                .because(Reason::ContainerdConfig, || "plan a change".to_owned())?,
        );
    }
    let attempt = format!("{now:x}-{:x}", std::process::id());
    record.pending = Some(Pending {
        attempt: attempt.clone(),
        verb: plan.verb,
        began: now,
        touched_before: record.touched,
        handler: plan.handler.to_owned(),
        tried: plan.tried,
        unit: facts.unit.clone(),
        containerd: facts.version.to_string(),
        files: saved,
        folders: plan.folders.iter().map(path).collect::<Result<_, _>>()?,
        setback: None,
    });
    save(job, record)?;
    match (guard::start(job, &attempt), job.layout.restarter) {
        (Ok(()), _) => Ok(()),
        (Err(failure), Restarter::Installer) => Err(failure),
        // k0s also runs where there is no systemd.
        (Err(failure), Restarter::Distribution) => {
            tracing::warn!(reason = failure.message(), "no guard watches the change");
            Ok(())
        }
    }
}

/// Writes what was planned and is not written yet. Returns the paths.
///
/// # Errors
/// When a file cannot be written.
pub fn apply(job: &Job<'_>, record: &mut Record) -> Result<Vec<String>, Failure> {
    let Some(pending) = record.pending.clone() else {
        return Ok(Vec::new());
    };
    let todo: Vec<(HostPath, Option<String>, Option<Access>)> = pending
        .files
        .into_iter()
        .map(|file| (file.path, file.after, file.access))
        .collect();
    let written = write(job, record, &todo)?;
    if record.touched == Touched::Underway {
        record.touched = Touched::At(job.node.machine.now());
        save(job, record)?;
    }
    Ok(written)
}

/// Puts back what was before the pending change, which stays in the record for whoever restarts
/// containerd then.
///
/// # Errors
/// When a file cannot be written.
pub fn undo(job: &Job<'_>, record: &mut Record) -> Result<(), Failure> {
    let Some(pending) = record.pending.clone() else {
        return Ok(());
    };
    remove_candidate(job)?;
    let contents = former(job, record, &pending)?;
    let written = write(job, record, &contents)?;
    remove_folders(job, record, &pending)?;
    let unread = contents.len() == pending.files.len() && is_unread(job, &pending);
    record.touched = match (
        written.is_empty() && record.touched != Touched::Underway,
        unread,
    ) {
        // Nobody has seen what was there in between.
        (_, true) => pending.touched_before,
        (true, false) => record.touched,
        (false, false) => Touched::At(job.node.machine.now()),
    };
    // A record that cannot be written now is one that leads back once more.
    if let Err(failure) = save(job, record) {
        tracing::warn!(
            reason = failure.message(),
            "the way back is not in the record"
        );
    }
    Ok(())
}

/// Removes the folders that were made for files which are gone now.
///
/// # Errors
/// When an empty one stays.
pub fn remove_made_folders(job: &Job<'_>, folders: &[HostPath]) -> Result<(), Failure> {
    for folder in folders.iter().rev() {
        let place = job.locate(folder)?;
        job.node
            .machine
            .about_to("remove a folder of containerd's configuration");
        files::remove_empty_folder(&place)
            .because(Reason::HostFiles, || format!("remove {folder} of the host"))?;
    }
    Ok(())
}

/// Writes the record.
///
/// # Errors
/// When it cannot be written.
pub fn save(job: &Job<'_>, record: &Record) -> Result<(), Failure> {
    job.node.machine.about_to("write the record");
    record
        .save(job.node.root, &job.places.record)
        .map_err(|error| Failure {
            reason: Reason::HostFiles,
            error: error.into(),
        })
}

type Content = (HostPath, Option<String>, Option<Access>);

/// Writes the files that are not as they are to be, and says so in the record before the first one.
fn write(job: &Job<'_>, record: &mut Record, contents: &[Content]) -> Result<Vec<String>, Failure> {
    let mut written = Vec::new();
    for (path, content, access) in contents {
        let read = job
            .node
            .root
            .read(path)
            .because(Reason::HostFiles, || format!("read {path} of the host"))?;
        if read.as_deref() == content.as_deref().map(str::as_bytes) {
            continue;
        }
        if record.touched != Touched::Underway {
            record.touched = Touched::Underway;
            // On the way back this may be a full disk; a restart too many is the worst that comes
            // of it.
            match (
                save(job, record),
                record
                    .pending
                    .as_ref()
                    .is_some_and(|pending| pending.setback.is_some()),
            ) {
                (Err(failure), true) => tracing::warn!(
                    reason = failure.message(),
                    "the way back is not in the record"
                ),
                (result, _) => result?,
            }
        }
        job.node
            .machine
            .about_to("write a file of containerd's configuration");
        put(job, path, content.as_deref(), *access)
            .because(Reason::HostFiles, || format!("write {path} of the host"))?;
        written.push(path.to_string());
    }
    Ok(written)
}

fn put(
    job: &Job<'_>,
    path: &HostPath,
    content: Option<&str>,
    access: Option<Access>,
) -> std::io::Result<()> {
    let place = job.node.root.locate(path)?;
    let Some(content) = content else {
        return files::remove(&place);
    };
    files::make_folders(place.parent().unwrap_or(&place))?;
    files::write(
        &place,
        content.as_bytes(),
        access.unwrap_or(Access::READABLE),
    )
}

/// What the files of a pending change are to hold without it: the bytes of before, unless somebody
/// else has written to one of them since; then what is his stays.
fn former(job: &Job<'_>, record: &Record, pending: &Pending) -> Result<Vec<Content>, Failure> {
    let mut foreign = None;
    for file in &pending.files {
        let read = job
            .node
            .root
            .read(&file.path)
            .because(Reason::HostFiles, || {
                format!("read {} of the host", file.path)
            })?;
        let is = |text: &Option<String>| read.as_deref() == text.as_deref().map(str::as_bytes);
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
    tracing::warn!(%path, "somebody else has written to the file since: only what is ours is taken \
                           back");
    let changes = without(job, record, pending).map_err(|error| Failure {
        reason: error.reason(),
        error: error.into(),
    })?;
    changes
        .iter()
        .map(|change| {
            let path = HostPath::new(&change.path)
                .because(Reason::ContainerdConfig, || "go back".to_owned())?;
            let access = Access::of(&job.locate(&path)?)
                .because(Reason::HostFiles, || format!("look at {path} of the host"))?;
            let saved = Saved::new(change, path, access)
                .because(Reason::ContainerdConfig, || "go back".to_owned())?;
            Ok((saved.path, saved.after, saved.access))
        })
        .collect()
}

/// The changes that lead from what is there to the record's active runtime, or to none.
fn without(
    job: &Job<'_>,
    record: &Record,
    pending: &Pending,
) -> Result<Vec<FileChange>, containerd::ConfigError> {
    let version = containerd::Version::parse(&pending.containerd)?;
    let written = pending
        .tried
        .as_ref()
        .or(record.active.as_ref())
        .map(|active| &active.config);
    let facts = containerd::Facts::gather(
        &HostFiles(job.node.root),
        &job.layout,
        job.request.mode,
        version,
        written,
    )?;
    match (&record.active, written) {
        (Some(active), written) => Ok(containerd::propose(
            &facts,
            &active.wish.handler(active.config.settings),
            written,
        )?
        .changes),
        (None, Some(written)) => containerd::revert(&facts, written),
        (None, None) => Ok(Vec::new()),
    }
}

/// Removes the folders that were made for a change that is undone.
fn remove_folders(job: &Job<'_>, record: &Record, pending: &Pending) -> Result<(), Failure> {
    let kept = record
        .active
        .as_ref()
        .map(|active| active.config.made_folders.as_slice())
        .unwrap_or_default();
    let folders: Vec<HostPath> = pending
        .folders
        .iter()
        .filter(|folder| !kept.contains(&folder.to_string()))
        .cloned()
        .collect();
    remove_made_folders(job, &folders)
}

/// Whether containerd still runs as it did before a change began.
fn is_unread(job: &Job<'_>, pending: &Pending) -> bool {
    let Some(unit) = &pending.unit else {
        return false;
    };
    let asked = job.node.machine.unit(unit);
    job.layout.restarter == Restarter::Installer
        && asked.is_ok_and(|unit| detect::is_active(&unit) && unit.active_since <= pending.began)
}
