//! The state machine of a process: which verb is allowed in which state. It decides and does no
//! I/O.
//!
//! ```text
//!               start                        exit
//! Created ────────────────► Running ───────────────────► Exited ──delete──► (gone)
//!    │                     pause │ ▲ resume                ▲ ▲
//!    │                           ▼ │                       │ │
//!    │                         Paused ──────── exit ───────┘ │
//!    └──────────────── exit, or delete kills it ─────────────┘
//! ```
//!
//! A container's first process and its exec processes have the same states. Only the first can be
//! paused, and an exec is started only while the first one runs.

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is set up and not started.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has exited.
    Exited,
}

/// An operation that containerd requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Run the process.
    Start,
    /// Send a signal that the process may handle.
    Signal,
    /// Send SIGKILL.
    Kill,
    /// Freeze the container.
    Pause,
    /// Thaw the container.
    Resume,
    /// Change the container's limits.
    Update,
    /// Add another process to the container.
    Exec,
    /// Remove the container or the exec.
    Delete,
}

/// The decision on a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Do it.
    Do,
    /// Do it, then thaw the container: a frozen process dies only after that.
    DoAndThaw,
    /// Kill the process first, then do it.
    EndFirst,
    /// Refuse it in this state; the text names the state and the next step.
    Refuse(&'static str),
    /// The process has exited already; callers treat this as success, as containerd's own shims do.
    AlreadyGone,
}

impl State {
    /// Decides on `verb`.
    pub(crate) fn verdict(self, verb: Verb) -> Verdict {
        match (self, verb) {
            (Self::Created, Verb::Start)
            | (Self::Created | Self::Running, Verb::Signal | Verb::Kill)
            | (Self::Paused, Verb::Signal | Verb::Resume)
            | (Self::Running, Verb::Pause | Verb::Exec)
            | (Self::Created | Self::Running | Self::Paused, Verb::Update)
            | (Self::Exited, Verb::Delete) => Verdict::Do,
            (Self::Paused, Verb::Kill) => Verdict::DoAndThaw,
            (Self::Created, Verb::Delete) => Verdict::EndFirst,
            (Self::Exited, Verb::Signal | Verb::Kill) => Verdict::AlreadyGone,
            (Self::Created, Verb::Pause | Verb::Resume | Verb::Exec) => {
                Verdict::Refuse("it was not started yet; start it first")
            }
            (Self::Running, Verb::Start) => Verdict::Refuse("it is running already"),
            (Self::Running, Verb::Resume) => Verdict::Refuse("it is running, not paused"),
            (Self::Running, Verb::Delete) => Verdict::Refuse("it is running; kill it first"),
            (Self::Paused, Verb::Start | Verb::Pause | Verb::Exec | Verb::Delete) => {
                Verdict::Refuse("it is paused; resume it first")
            }
            (
                Self::Exited,
                Verb::Start | Verb::Pause | Verb::Resume | Verb::Update | Verb::Exec,
            ) => Verdict::Refuse("it has ended; delete it and create a new one"),
        }
    }

    /// Returns the state after `verb`, which was not refused, is done. A signal changes it later,
    /// by the exit of the process.
    #[must_use]
    pub(crate) fn after(self, verb: Verb) -> Self {
        match (self, verb) {
            (Self::Created, Verb::Start) | (Self::Paused, Verb::Resume | Verb::Kill) => {
                Self::Running
            }
            (Self::Running, Verb::Pause) => Self::Paused,
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests;
