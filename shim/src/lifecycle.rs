//! What may be asked of a process in which state; decided here, done elsewhere.
//!
//! ```text
//!               start                       its end
//! Created ────────────────► Running ───────────────────► Exited ──delete──► (gone)
//!    │                     pause │ ▲ resume                ▲ ▲
//!    │                           ▼ │                       │ │
//!    │                         Paused ───── its end ───────┘ │
//!    └────────────── its end, or delete ends it ─────────────┘
//! ```
//!
//! A container's first process and its exec processes live the same life; only the first can be
//! paused, and only beside it, while it runs, can others be started.

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits to be started.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended.
    Exited,
}

/// What containerd asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Let it run.
    Start,
    /// Send it a signal that it may handle.
    Signal,
    /// Send it the signal that nothing survives.
    Kill,
    /// Freeze the container.
    Pause,
    /// Let the frozen container go on.
    Resume,
    /// Change the container's limits.
    Update,
    /// Add another process to the container.
    Exec,
    /// Remove what is left of it.
    Delete,
}

/// The answer to a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Do,
    /// Do it, then let the container go on: a frozen process dies only when it thaws.
    DoAndThaw,
    /// End the process first, then do it.
    EndFirst,
    /// Not in this state; the text says which it is, and what to do.
    Refuse(&'static str),
    /// What it is meant for has ended; callers take this as success (containerd's own shims answer
    /// so).
    AlreadyGone,
}

impl State {
    /// Decides.
    pub fn verdict(self, verb: Verb) -> Verdict {
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

    /// Where it is once `verb`, which was not refused, is done. That a signal ended it shows later,
    /// by its end.
    #[must_use]
    pub fn after(self, verb: Verb) -> Self {
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
