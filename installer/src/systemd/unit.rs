//! A unit as systemd describes it.

use std::fmt;

/// A service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, as asked for.
    pub name: String,
    /// Whether systemd found its file.
    pub load: LoadState,
    /// What it is doing.
    pub active: ActiveState,
    /// Since when it is active, in microseconds since 1970; 0 if it never was.
    pub active_since: u64,
    /// The process that systemd takes for the service; 0 if none runs.
    pub main_pid: u32,
    /// The program of its first `ExecStart`.
    pub program: Option<String>,
    /// That program's arguments, the first being its name.
    pub arguments: Vec<String>,
    /// How its last run ended: `success`, `exit-code`, `signal`, …
    pub result: String,
}

/// Whether a unit's file was found and understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// It was.
    Loaded,
    /// There is none.
    NotFound,
    /// Another of systemd's states: `masked`, `bad-setting`, `error`, …
    Other(String),
}

/// What a unit is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// It runs.
    Active,
    /// It runs and reads its settings again.
    Reloading,
    /// It does not run.
    Inactive,
    /// It does not run because it failed.
    Failed,
    /// It is being started, or waits to be started again.
    Activating,
    /// It is being stopped.
    Deactivating,
    /// A state that only newer versions of systemd have.
    Other,
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Other => "in a state of its own",
        })
    }
}
