//! How a guest ended, and the exit code that Kubernetes sees for it. This table is `docs/reference/exit-codes.md`.

use std::fmt;

/// The guest could not be run (as a shell says of a file that it cannot execute).
pub const NOT_RUNNABLE: u8 = 126;
/// The guest was not found (as a shell says).
pub const NOT_FOUND: u8 = 127;
/// The guest trapped: 128 + SIGABRT.
pub const TRAPPED: u8 = 134;
/// Added to a signal's number when the signal ended the guest.
pub const SIGNAL_BASE: u8 = 128;

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned from its entry function, or called `proc_exit` with this code.
    Exited(u32),
    /// It did what WebAssembly forbids; the text says what, and where.
    Trapped(String),
    /// The engine refused to run it: a type of an import that does not match, a start function that failed to link.
    NotRunnable(String),
}

impl Outcome {
    /// The exit code of the container's process.
    pub fn exit_code(&self) -> u8 {
        match self {
            // An exit status has eight bits. Cutting off the others would turn 256 into success.
            Self::Exited(code) => u8::try_from(*code).unwrap_or(u8::MAX),
            Self::Trapped(_) => TRAPPED,
            Self::NotRunnable(_) => NOT_RUNNABLE,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Trapped(reason) => write!(f, "trap: {reason}"),
            Self::NotRunnable(reason) => write!(f, "cannot run: {reason}"),
        }
    }
}

/// One row of the reference page.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The code, or a formula for it.
    pub code: &'static str,
    /// What happened.
    pub when: &'static str,
    /// Where one sees more.
    pub see: &'static str,
}

/// Every exit code that a container of this runtime can have.
pub const TABLE: &[Row] = &[
    Row { code: "0", when: "the guest returned from its entry function, or called `proc_exit(0)`", see: "" },
    Row {
        code: "1-255",
        when: "the guest called `proc_exit` with this code; a code above 255 is given as 255",
        see: "the guest's own log",
    },
    Row {
        code: "126",
        when: "the engine could not link or start the guest",
        see: "the container's log; most such guests are refused at Create already",
    },
    Row { code: "134", when: "the guest trapped (128 + SIGABRT)", see: "the container's log says which trap" },
    Row {
        code: "137",
        when: "SIGKILL, sent by Kubernetes after the grace period or by the kernel when memory ran out",
        see: "`kubectl describe pod`",
    },
    Row { code: "143", when: "SIGTERM: a guest cannot handle signals, so it ends at once", see: "" },
    Row { code: "128 + n", when: "another signal n ended the guest", see: "" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_code() {
        for (outcome, code) in [
            (Outcome::Exited(0), 0),
            (Outcome::Exited(42), 42),
            (Outcome::Exited(255), 255),
            (Outcome::Exited(256), 255),
            (Outcome::Exited(u32::MAX), 255),
            (Outcome::Trapped("unreachable".to_owned()), 134),
            (Outcome::NotRunnable("import".to_owned()), 126),
        ] {
            assert_eq!(outcome.exit_code(), code, "{outcome}");
        }
    }
}
