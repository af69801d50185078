//! What may be asked of a task in which state; decided here, done elsewhere.
//!
//! ```text
//!            start             its process ends
//! Created ─────────► Running ─────────────────────► Exited ──delete──► (gone)
//!    └───── its process ends, or delete kills it ─────┘
//! ```

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its process waits to be started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
}

/// What containerd asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Let the process run.
    Start,
    /// Send it a signal.
    Kill,
    /// Remove what is left of the task.
    Delete,
}

/// The answer to a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Do,
    /// End the process first, then do it.
    EndFirst,
    /// The task is not in a state for it; the text says which.
    Refuse(&'static str),
    /// What it is meant for is gone; callers take this as success (containerd's Go shims answer so).
    AlreadyGone,
}

impl State {
    /// Decides.
    pub fn verdict(self, verb: Verb) -> Verdict {
        match (verb, self) {
            (Verb::Start, Self::Created) | (Verb::Kill, Self::Created | Self::Running) | (Verb::Delete, Self::Exited) => Verdict::Do,
            (Verb::Delete, Self::Created) => Verdict::EndFirst,
            (Verb::Kill, Self::Exited) => Verdict::AlreadyGone,
            (Verb::Start, Self::Running) => Verdict::Refuse("it is running already"),
            (Verb::Start, Self::Exited) => Verdict::Refuse("it has ended; create a new one"),
            (Verb::Delete, Self::Running) => Verdict::Refuse("it is running; kill it first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_in_each_state() {
        for (state, start, kill, delete) in [
            (State::Created, Verdict::Do, Verdict::Do, Verdict::EndFirst),
            (State::Running, Verdict::Refuse("it is running already"), Verdict::Do, Verdict::Refuse("it is running; kill it first")),
            (State::Exited, Verdict::Refuse("it has ended; create a new one"), Verdict::AlreadyGone, Verdict::Do),
        ] {
            assert_eq!(
                (state.verdict(Verb::Start), state.verdict(Verb::Kill), state.verdict(Verb::Delete)),
                (start, kill, delete),
                "{state:?}"
            );
        }
    }
}
