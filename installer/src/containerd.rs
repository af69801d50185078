//! containerd's configuration: what is to be edited so that it knows a handler, the way back, and
//! the proof that nothing else changes.
//!
//! Pure, but for [`Facts::gather`], which reads files, and [`prove`], which asks the host's own
//! containerd; both go through a trait of this module. In the order in which an edit comes about:
//!
//! * [`version`]: which containerd it is.
//! * [`facts`]: its main file and all that the file imports, as a value.
//! * `schema`: the schema version of a file, where handlers stand in it, and which there are.
//! * `imports`: what a main file imports, and the one entry that we add to it.
//! * `place`: where a handler is to stand.
//! * `block`: the handler as text between two marks, put into a file and taken out of it.
//! * [`unmarked`]: a handler that is ours by its content, where somebody wrote the file anew
//!   without our marks.
//! * `edit`: all files of an edit, before any of them is written.
//! * [`record`]: what was written, so that it can be taken back.
//! * `candidate`: the edited configuration, laid out where the running containerd does not see it.
//! * `judge`: two dumps of a configuration, and what may differ between them.
//!
//! # Why texts are spliced
//!
//! Two runtimes may be on a node, and either may be taken away first. So nothing that we write
//! depends on what else is there: each handler is one block of text that begins and ends with a
//! line of its own, and all handlers share one entry among the imports, which goes with the last of
//! them. Taking a text out again leaves every other byte as it is. Only where somebody edited
//! inside a block is the file taken apart as TOML, and then just our table leaves it.
//!
//! # Where
//!
//! | containerd | main file | handler stands in |
//! |---|---|---|
//! | 1.x | any | the main file: an imported file would replace all of CRI's section, and with it runc |
//! | 1.x | imports a file with a section of CRI | that file, for the same reason |
//! | 2.0 and later | imports a folder below its own | a drop-in there |
//! | 2.0 and later | any other | a drop-in in `wasmedge-runtime.d` beside it, and an entry among its imports |
//! | any | none | as above, and a main file that holds its schema version and no more |
//! | 2.0 and later (k3s, RKE2) | is rendered and imports the distribution's folder | a drop-in there |
//! | any (k0s) | says that k0s manages it | a drop-in in the folder that k0s watches |
//! | any (MicroK8s) | is a template | the template |
//!
//! A drop-in has the plugin ids of the *main* file's schema: containerd 2.0 to 2.2 converts the
//! merged whole, not each file, and loses what stands under other ids. Nobody reads
//! `/etc/containerd/conf.d` unless a main file imports it: also not a containerd 2.2 and later
//! whose main file is absent, although its default configuration names the folder. On 1.x the first
//! handler in a main file takes the place of the default one, runc; so that is written with it.

use installer_protocol::layout::{Configuration, Restarter};
use installer_protocol::settings::Sandboxer;
use installer_protocol::{Mode, Settings};

use crate::entry;

pub mod version;
pub mod error;
pub mod facts;
pub mod record;
mod schema;
mod imports;
mod place;
mod block;
pub mod unmarked;
mod edit;
mod candidate;
mod judge;

pub use candidate::FOLDER as CANDIDATE;
pub use error::ConfigError;
pub use facts::{Facts, Files};
pub use record::Record;
pub use version::Version;

use edit::Draft;
use judge::Expected;

/// The runtime's name for containerd.
const RUNTIME_TYPE: &str = "io.containerd.wasmedge.v1";
/// The annotations of pods that containers of the handler get to see.
const ANNOTATIONS: &str = "runtime.wasmedge.dev/*";
/// As much of containerd's complaint as a message has room for.
const COMPLAINT: usize = 400;

/// What containerd is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name: what a RuntimeClass says.
    pub name: String,
    /// The launcher's absolute path on the host. A path through an [`entry`] means that the options
    /// are in its file.
    pub launcher: String,
    /// Whether systemd sets up the cgroups of its containers.
    pub systemd_cgroup: bool,
    /// What is chosen of it.
    pub settings: Settings,
}

impl Handler {
    /// The options table in containerd's configuration; none where an entry's file has the options.
    fn options_table(&self) -> Option<Vec<(&'static str, String)>> {
        if entry::is_entry(&self.launcher) {
            return None;
        }
        let chosen = self
            .settings
            .options()
            .into_iter()
            .map(|(key, value)| (key, value.to_string()));
        Some(
            [("SystemdCgroup", self.systemd_cgroup.to_string())]
                .into_iter()
                .chain(chosen)
                .collect(),
        )
    }
}

/// One file of the host, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path on the host.
    pub path: String,
    /// What it holds now; none where there is no such file.
    pub before: Option<Vec<u8>>,
    /// What it is to hold; none where it is to go.
    pub after: Option<Vec<u8>>,
}

/// What has to be done so that containerd knows a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The files to write, in this order: what a main file imports stands before it. Empty where
    /// all is done. The folders of the files may have to be made.
    pub changes: Vec<FileChange>,
    /// What takes it back. To be on disk before the first change is.
    pub record: Record,
    /// The file that the handler stands in.
    pub config_path: String,
    /// What containerd needs to see the changes.
    pub restart: Restart,
}

/// What containerd needs to see changes of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Nothing: there are none. Whether it was restarted since they were made is another question.
    NotNeeded,
    /// The installer restarts it.
    Installer,
    /// Its distribution does, when it sees them.
    Distribution,
}

/// Runs the host's containerd on a configuration that is not in force.
pub trait Dump {
    /// Writes `files` (paths on the host, all in a new folder [`CANDIDATE`] beside the main file,
    /// and bytes), runs `containerd -c <main> config dump`, and removes the files and their folder
    /// again, also after a failure. What an earlier process left in that folder may go.
    ///
    /// # Errors
    /// When a file cannot be written or the program cannot be run; that it ends badly is an answer.
    fn dump(&self, main: &str, files: &[(String, Vec<u8>)]) -> std::io::Result<Dumped>;
}

/// How `containerd config dump` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The configuration.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// What is to be written so that containerd knows `handler`. `record` is the one of an earlier
/// proposal: what it tells of is taken back where the handler no longer stands, also where it had
/// another name. With [`Mode::Preinstalled`] nothing is to be written.
///
/// # Errors
/// When the node's containerd cannot be told so, or knows a handler of that name that we did not
/// write.
pub fn propose(
    facts: &Facts,
    handler: &Handler,
    record: Option<&Record>,
) -> Result<Proposal, ConfigError> {
    check(handler)?;
    chosen(facts.version, handler)?;
    let name = &handler.name;
    if facts.mode == Mode::Preinstalled {
        let record = Record {
            handler: name.clone(),
            settings: handler.settings,
            files: Vec::new(),
            made_folders: Vec::new(),
        };
        return Ok(Proposal {
            changes: Vec::new(),
            record,
            config_path: facts.main.clone(),
            restart: Restart::NotNeeded,
        });
    }
    let mut draft = Draft::new(facts);
    if let Some(record) = record.filter(|record| record.handler != *name) {
        draft.restore(record)?;
        draft.uninstall(&record.handler)?;
    }
    let place = place::place(facts, name)?;
    // What the distribution merged of our drop-in into a file of its own is not somebody else's.
    let merged = matches!(facts.configuration, Configuration::Watched { .. }) && draft.has(name)?;
    if let Some((path, lines)) = draft.taken(name, |path| merged && path != place.path())? {
        return Err(ConfigError::HandlerTaken {
            handler: name.clone(),
            path,
            lines,
        });
    }
    draft.install(handler, &place)?;
    let changes = draft.changes()?;
    Ok(Proposal {
        record: draft.record(handler, &place, record)?,
        config_path: place.path().to_owned(),
        restart: Restart::after(&changes, facts.restarter),
        changes,
    })
}

/// What is to be written so that containerd no longer knows the handler of `record`, and its files
/// are as they would be without it. Empty where that is so already.
///
/// # Errors
/// When a file has a handler of that name that is not ours, or that cannot be taken out of it.
pub fn revert(facts: &Facts, record: &Record) -> Result<Vec<FileChange>, ConfigError> {
    let mut draft = Draft::new(facts);
    draft.restore(record)?;
    draft.uninstall(&record.handler)?;
    if let Some((path, lines)) = draft.left(&record.handler)? {
        return Err(ConfigError::HandlerLeft {
            handler: record.handler.clone(),
            path,
            lines,
        });
    }
    draft.changes()
}

/// Proves, before anything is written, that `proposal` gives containerd the handler and changes
/// nothing else.
///
/// # Errors
/// When containerd refuses the configuration, or something else would change.
pub fn prove(
    dump: &dyn Dump,
    facts: &Facts,
    proposal: &Proposal,
    handler: &Handler,
) -> Result<(), ConfigError> {
    compare(dump, facts, &proposal.changes, Expected::With(handler))
}

/// Proves, before anything is written, that `changes` take the handler `name` from containerd and
/// change nothing else.
///
/// # Errors
/// As [`prove`].
pub fn prove_removal(
    dump: &dyn Dump,
    facts: &Facts,
    changes: &[FileChange],
    name: &str,
) -> Result<(), ConfigError> {
    compare(dump, facts, changes, Expected::Without(name))
}

impl Restart {
    fn after(changes: &[FileChange], restarter: Restarter) -> Self {
        match restarter {
            _ if changes.is_empty() => Self::NotNeeded,
            Restarter::Installer => Self::Installer,
            Restarter::Distribution => Self::Distribution,
        }
    }
}

/// Whether a containerd of this version does what is chosen of a handler.
fn chosen(version: Version, handler: &Handler) -> Result<(), ConfigError> {
    let is_at_least = |major, minor| (version.major, version.minor) >= (major, minor);
    // containerd 1.6 passes on a table of runc's alone.
    if !handler.settings.options().is_empty()
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
    dump: &dyn Dump,
    facts: &Facts,
    changes: &[FileChange],
    expected: Expected<'_>,
) -> Result<(), ConfigError> {
    let name = expected.name();
    let before = dumped(dump, &candidate::lay_out(facts, &[], name)?, "its present")?;
    let after = dumped(
        dump,
        &candidate::lay_out(facts, changes, name)?,
        "the edited",
    )?;
    judge::judge(&before, &after, expected, facts.version)
}

fn dumped(
    dump: &dyn Dump,
    candidate: &candidate::Candidate,
    which: &'static str,
) -> Result<String, ConfigError> {
    let Dumped {
        code,
        stdout,
        stderr,
    } = dump
        .dump(&candidate.main, &candidate.files)
        .map_err(|source| ConfigError::Dump { source })?;
    if code == Some(0) {
        return Ok(stdout);
    }
    // The cause stands at the end.
    let stderr = stderr.trim();
    let start = stderr.ceil_char_boundary(stderr.len().saturating_sub(COMPLAINT));
    Err(ConfigError::Refused {
        which,
        code,
        stderr: stderr[start..].to_owned(),
    })
}

#[cfg(test)]
mod tests;
