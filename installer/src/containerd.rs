//! containerd's configuration: what is to be edited so that it knows a handler, the way back, and the proof that
//! nothing else changes.
//!
//! Pure, but for [`Facts::gather`], which reads files, and [`prove`], which asks the host's own containerd; both go
//! through a trait of this module. In the order in which an edit comes about:
//!
//! * [`version`]: which containerd it is.
//! * [`facts`]: its main file and all that the file imports, as a value.
//! * `schema`: the schema version of a file, where handlers stand in it, and which there are.
//! * `imports`: what a main file imports, and the one entry that we add to it.
//! * `place`: where a handler is to stand.
//! * `block`: the handler as text between two marks, put into a file and taken out of it.
//! * [`record`]: what was written, so that it can be taken back.
//! * `candidate`: the edited configuration, laid out where the running containerd does not see it.
//! * `judge`: two dumps of a configuration, and what may differ between them.
//!
//! # Why texts are spliced
//!
//! Two runtimes may be on a node, and either may be taken away first. So nothing that we write depends on what else
//! is there: each handler is one block of text that begins and ends with a line of its own, and all handlers share one
//! entry among the imports, which goes with the last of them. Taking a text out again leaves every other byte as it
//! is. Only where somebody edited inside a block is the file taken apart as TOML, and then just our table leaves it.
//!
//! # Where
//!
//! | containerd | main file | handler stands in |
//! |---|---|---|
//! | 1.x | any | the main file: an imported file would replace all of CRI's section, and with it runc |
//! | 2.0 and later | imports a folder beside it | a drop-in there |
//! | 2.0 and later | any other | a drop-in in `conf.d` beside it, and an entry among its imports |
//! | any | none | as above, and a main file that holds its schema version and no more |
//! | k3s, RKE2: 2.0 and later | imports the folder | a drop-in there |
//! | k0s | says that k0s manages it | a drop-in in the folder that k0s watches |
//! | MicroK8s | is a template | the template |
//!
//! A drop-in has the plugin ids of the *main* file's schema: containerd 2.0 to 2.2 converts the merged whole, not each
//! file, and loses what stands under other ids. Nobody reads `/etc/containerd/conf.d` unless a main file imports it:
//! also not a containerd 2.2 and later whose main file is absent, although its default configuration names the folder.

use installer_protocol::layout::Restarter;

pub mod version;
pub mod error;
pub mod facts;
pub mod record;

pub use error::ConfigError;
pub use facts::{Facts, Files};
pub use record::Record;
pub use version::Version;

/// What containerd is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name: what a RuntimeClass says.
    pub name: String,
    /// The launcher's absolute path on the host.
    pub launcher: String,
    /// Whether systemd sets up the cgroups of its containers.
    pub systemd_cgroup: bool,
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
    /// The files to write, in this order: what a main file imports stands before it. Empty where all is done. The
    /// folders of the files may have to be made.
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
    /// Writes `files` (path on the host, bytes; all in one folder that is made for them, `CANDIDATE` beside
    /// the main file), runs `containerd -c <main> config dump` and removes files and folder again, also after a failure.
    ///
    /// # Errors
    /// When a file cannot be written or the program cannot be run; that it ends badly is an answer.
    ///
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

/// What is to be written so that containerd knows `handler`. `record` is the one of an earlier proposal, for the same
/// handler or, after a rename, for its former one: what it tells of is taken back where the handler no longer stands.
///
/// # Errors
/// When the node's containerd cannot be told so, or knows a handler of that name that we did not write.
pub fn propose(facts: &Facts, handler: &Handler, record: Option<&Record>) -> Result<Proposal, ConfigError> {
    let _ = (facts, handler, record);
    Err(ConfigError::NotYet)
}

/// What is to be written so that containerd no longer knows the handler of `record`, and its files are as they would
/// be without it. Empty where that is so already.
///
/// # Errors
/// When a file holds the handler in a form that cannot be taken out of it.
pub fn revert(facts: &Facts, record: &Record) -> Result<Vec<FileChange>, ConfigError> {
    let _ = (facts, record);
    Err(ConfigError::NotYet)
}

/// Proves, before anything is written, that `proposal` gives containerd the handler and changes nothing else.
///
/// # Errors
/// When containerd refuses the configuration, or something else would change.
pub fn prove(dump: &dyn Dump, facts: &Facts, proposal: &Proposal, handler: &Handler) -> Result<(), ConfigError> {
    let _ = (dump, facts, proposal, handler);
    Err(ConfigError::NotYet)
}

/// Proves, before anything is written, that `changes` take the handler `name` from containerd and change nothing else.
///
/// # Errors
/// As [`prove`].
pub fn prove_removal(dump: &dyn Dump, facts: &Facts, changes: &[FileChange], name: &str) -> Result<(), ConfigError> {
    let _ = (dump, facts, changes, name);
    Err(ConfigError::NotYet)
}

impl Proposal {
    fn restart(changes: &[FileChange], restarter: Restarter) -> Restart {
        match restarter {
            _ if changes.is_empty() => Restart::NotNeeded,
            Restarter::Installer => Restart::Installer,
            Restarter::Distribution => Restart::Distribution,
        }
    }
}
