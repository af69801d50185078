//! The edits of containerd's configuration that add and remove a handler, and the trial run that
//! shows that nothing else changes.
//!
//! Pure, except for [`ConfigFacts::gather`], which reads files, and [`prove`], which runs the
//! node's own containerd. Both use a trait of this module. A module uses only modules above it:
//!
//! * [`version`]: the version of containerd.
//! * [`error`]: the reasons why an edit is refused.
//! * `schema`: the schema version of a file, its handlers, and where they are.
//! * [`unmarked`]: handlers of ours without marks, after another program has rewritten the file.
//! * `block`: the handler as text between two marks.
//! * `imports`: the imports of a main file, and the one entry that we add.
//! * `drop_in`: the paths of our drop-ins.
//! * [`written`]: the files that were written for a handler, as the record keeps them.
//! * [`facts`]: the main file and all files that it imports, as a value.
//! * `placement`: the file that is to contain a handler.
//! * `edit`: all files of an edit, before any of them is written.
//! * `candidate`: the edited configuration in a folder that the running containerd does not read.
//! * `diff`: the differences between two dumps of the configuration.
//!
//! # Text is spliced
//!
//! A node may have two runtimes, and either may be removed first. So an edit does not depend on
//! other edits: each handler is one block of text with a first and a last line of its own, and all
//! handlers share one entry among the imports, which is removed with the last of them. Removing a
//! text leaves every other byte as it is. Only if a block was edited, the file is
//! parsed as TOML and our table is removed from the document.
//!
//! # Placement
//!
//! | containerd | main file | handler's file |
//! |---|---|---|
//! | 1.x | any | the main file: an imported file would replace CRI's section, runc included |
//! | 1.x | imports a file with a section of CRI | that file, for the same reason |
//! | 2.0 and later | imports a folder below its own | a drop-in there |
//! | 2.0 and later | any other | a drop-in in `wasmedge-runtime.d` beside it, and an entry among its imports |
//! | any | none | as above, and a main file that contains its schema version only |
//! | 2.0 and later (k3s, RKE2) | is rendered and imports the distribution's folder | a drop-in there |
//! | any (k0s) | states that k0s manages it | a drop-in in the folder that k0s watches |
//! | any (MicroK8s) | is a template | the template |
//!
//! A drop-in has the plugin ids of the *main* file's schema: containerd 2.0 to 2.2 converts the
//! merged configuration, not each file, and loses sections with other ids. `/etc/containerd/conf.d`
//! is read only if a main file imports it: containerd 2.2 and later names the folder in its default
//! configuration, but does not read it without a main file. On 1.x the first handler in a main file
//! replaces the default one, runc, so runc is written with it.

use installer_protocol::layout::{Configuration, Restarter};
use installer_protocol::{ConfigMode, Settings};
use runtime_options::Sandboxer;

use crate::entry;

pub mod version;
pub mod error;
mod schema;
pub mod unmarked;
mod block;
mod imports;
mod drop_in;
pub mod written;
pub mod facts;
mod placement;
mod edit;
mod candidate;
mod diff;

pub use candidate::FOLDER as CANDIDATE;
pub use error::ConfigError;
pub use facts::{ConfigFacts, ConfigFiles};
pub use version::Version;
pub use written::WrittenHandler;

use diff::ExpectedDiff;
use edit::ConfigEdit;

/// The runtime type in containerd's configuration.
const RUNTIME_TYPE: &str = "io.containerd.wasmedge.v1";
/// The annotations of pods that are passed to the handler's containers.
const ANNOTATIONS: &str = "runtime.wasmedge.dev/*";
/// Maximum bytes of containerd's standard error in a message.
const MAX_STDERR: usize = 400;

/// A handler of containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name, as in a RuntimeClass.
    pub name: String,
    /// The launcher's absolute path on the node. If it is the path of an [`entry`], the options are
    /// in the entry's file.
    pub launcher: String,
    /// Whether systemd sets up the cgroups of its containers.
    pub systemd_cgroup: bool,
    /// Its settings.
    pub settings: Settings,
}

impl Handler {
    /// Returns the options table in containerd's configuration; none if an entry's file has them.
    fn options_table(&self) -> Option<Vec<(&'static str, String)>> {
        if entry::is_entry(&self.launcher) {
            return None;
        }
        let driver = ("SystemdCgroup", self.systemd_cgroup.to_string());
        let chosen = self.settings.options.table();
        Some(std::iter::once(driver).chain(chosen).collect())
    }
}

/// A file of the node, before and after an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path on the node.
    pub path: String,
    /// Its present content; none if it is absent.
    pub before: Option<Vec<u8>>,
    /// Its content after the edit; none if it is to be removed.
    pub after: Option<Vec<u8>>,
}

/// The edit that adds a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The files to write, in this order: imported files before the main file. Empty if nothing has
    /// to change. The files' folders may have to be created.
    pub changes: Vec<FileChange>,
    /// The files by which the handler is removed again. Record it before the first change.
    pub written: WrittenHandler,
    /// The file that contains the handler.
    pub config_path: String,
    /// The restart that makes the changes effective.
    pub restart: RequiredRestart,
}

/// The restart that makes changes of containerd's configuration effective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredRestart {
    /// None, because there are no changes. Earlier changes may still need a restart.
    NotNeeded,
    /// By the installer.
    Installer,
    /// By the distribution, when it sees the changes.
    Distribution,
}

/// Runs the node's containerd on a configuration that is not in force.
pub trait ConfigDump {
    /// Writes `files` (paths on the node, all in a new folder [`CANDIDATE`] beside the main file,
    /// and bytes), runs `containerd -c <main> config dump`, and removes the files and their folder,
    /// also after a failure. May remove what an earlier process left in that folder.
    ///
    /// # Errors
    /// If a file cannot be written or the program cannot be run. An exit code other than 0 is not
    /// an error.
    fn dump(&self, main: &str, files: &[(String, Vec<u8>)]) -> std::io::Result<DumpOutput>;
}

/// The output of `containerd config dump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpOutput {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The merged configuration.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
}

/// Returns the edit that adds `handler`. `written` is from an earlier proposal: what it added is
/// removed if the handler moves or is renamed. With [`ConfigMode::Preinstalled`] nothing is edited.
///
/// # Errors
/// If the node's containerd does not support the handler, or has one of that name that is not ours.
pub fn propose(
    facts: &ConfigFacts,
    handler: &Handler,
    written: Option<&WrittenHandler>,
) -> Result<Proposal, ConfigError> {
    check(handler)?;
    check_supported(facts.version, handler)?;
    let name = &handler.name;
    if facts.mode == ConfigMode::Preinstalled {
        let written = WrittenHandler {
            handler: name.clone(),
            settings: handler.settings.clone(),
            files: Vec::new(),
            made_folders: Vec::new(),
        };
        return Ok(Proposal {
            changes: Vec::new(),
            written,
            config_path: facts.main.clone(),
            restart: RequiredRestart::NotNeeded,
        });
    }
    let mut edit = ConfigEdit::new(facts);
    if let Some(earlier) = written.filter(|written| written.handler != *name) {
        edit.restore(earlier)?;
        edit.uninstall(&earlier.handler)?;
    }
    let place = placement::decide(facts, name)?;
    // k0s merges our drop-in into a file of its own: that handler is ours too.
    let merged = matches!(facts.configuration, Configuration::Watched { .. }) && edit.has(name)?;
    if let Some((path, lines)) = edit.foreign(name, |path| merged && path != place.path())? {
        return Err(ConfigError::HandlerTaken {
            handler: name.clone(),
            path,
            lines,
        });
    }
    edit.install(handler, &place)?;
    let changes = edit.changes()?;
    Ok(Proposal {
        written: edit.written(handler, &place, written)?,
        config_path: place.path().to_owned(),
        restart: RequiredRestart::after(&changes, facts.restarter),
        changes,
    })
}

/// Returns the edit that removes the handler of `written`, so that all files are as without it.
/// Empty if they are already.
///
/// # Errors
/// If a file has a handler of that name that is not ours, or from which it cannot be removed.
pub fn revert(
    facts: &ConfigFacts,
    written: &WrittenHandler,
) -> Result<Vec<FileChange>, ConfigError> {
    let mut edit = ConfigEdit::new(facts);
    edit.restore(written)?;
    edit.uninstall(&written.handler)?;
    if let Some((path, lines)) = edit.remaining(&written.handler)? {
        return Err(ConfigError::HandlerLeft {
            handler: written.handler.clone(),
            path,
            lines,
        });
    }
    edit.changes()
}

/// Shows by a trial run, before anything is written, that `proposal` adds the handler and changes
/// nothing else.
///
/// # Errors
/// If containerd refuses the configuration, or something else would change.
pub fn prove(
    dump: &dyn ConfigDump,
    facts: &ConfigFacts,
    proposal: &Proposal,
    handler: &Handler,
) -> Result<(), ConfigError> {
    compare(dump, facts, &proposal.changes, ExpectedDiff::With(handler))
}

/// Shows by a trial run, before anything is written, that `changes` remove the handler `name` and
/// change nothing else.
///
/// # Errors
/// As [`prove`].
pub fn prove_removal(
    dump: &dyn ConfigDump,
    facts: &ConfigFacts,
    changes: &[FileChange],
    name: &str,
) -> Result<(), ConfigError> {
    compare(dump, facts, changes, ExpectedDiff::Without(name))
}

impl RequiredRestart {
    fn after(changes: &[FileChange], restarter: Restarter) -> Self {
        match restarter {
            _ if changes.is_empty() => Self::NotNeeded,
            Restarter::Installer => Self::Installer,
            Restarter::Distribution => Self::Distribution,
        }
    }
}

/// Checks that a containerd of this version supports the handler's settings.
fn check_supported(version: Version, handler: &Handler) -> Result<(), ConfigError> {
    let is_at_least = |major, minor| (version.major, version.minor) >= (major, minor);
    // containerd 1.6 passes options to runc only.
    if !handler.settings.options.table().is_empty()
        && handler.options_table().is_some()
        && !is_at_least(1, 7)
    {
        return Err(ConfigError::OptionsUnread { version });
    }
    match handler.settings.sandboxer {
        Sandboxer::Shim if !is_at_least(2, 4) => Err(ConfigError::SandboxerTooOld { version }),
        Sandboxer::Shim | Sandboxer::PodSandbox => Ok(()),
    }
}

fn check(handler: &Handler) -> Result<(), ConfigError> {
    let Handler {
        name,
        launcher,
        systemd_cgroup: _,
        settings: _,
    } = handler;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(is_letter) {
        let rule = "1 to 63 letters, digits, `-` and `_`";
        return Err(ConfigError::InvalidHandler {
            what: "the handler's name",
            value: name.clone(),
            rule,
        });
    }
    if !launcher.starts_with('/') || launcher.chars().any(char::is_control) {
        return Err(ConfigError::InvalidHandler {
            what: "the launcher's path",
            value: launcher.clone(),
            rule: "an absolute path",
        });
    }
    Ok(())
}

fn compare(
    dump: &dyn ConfigDump,
    facts: &ConfigFacts,
    changes: &[FileChange],
    expected: ExpectedDiff<'_>,
) -> Result<(), ConfigError> {
    let name = expected.name();
    let before = dumped(dump, &candidate::lay_out(facts, &[], name)?, "its present")?;
    let after = dumped(
        dump,
        &candidate::lay_out(facts, changes, name)?,
        "the edited",
    )?;
    diff::check(&before, &after, expected, facts.version)
}

fn dumped(
    dump: &dyn ConfigDump,
    candidate: &candidate::CandidateConfig,
    which: &'static str,
) -> Result<String, ConfigError> {
    let DumpOutput {
        code,
        stdout,
        stderr,
    } = dump
        .dump(&candidate.main, &candidate.files)
        .map_err(|source| ConfigError::Dump { source })?;
    if code == Some(0) {
        return Ok(stdout);
    }
    // The cause is at the end.
    let stderr = stderr.trim();
    let start = stderr.ceil_char_boundary(stderr.len().saturating_sub(MAX_STDERR));
    Err(ConfigError::Refused {
        which,
        code,
        stderr: stderr[start..].to_owned(),
    })
}

#[cfg(test)]
mod tests;
