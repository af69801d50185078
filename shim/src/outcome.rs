//! Outcomes of guests, and the exit codes that Kubernetes sees for them. The table is
//! `docs/reference/exit-codes.md`.

use std::fmt;

/// The guest could not be run: the code that a shell uses for a file that it cannot execute.
pub(crate) const NOT_RUNNABLE: u8 = 126;
/// The guest trapped: 128 + SIGABRT.
pub(crate) const TRAPPED: u8 = 134;
/// Added to a signal's number when the signal ended the guest.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// The outcome of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returned from its entry function, or called `proc_exit` with this code.
    Exited(u32),
    /// It did what WebAssembly forbids; the text names the trap and the place.
    Trapped(String),
    /// The engine refused to run it: a type of an import that does not match, a start function that
    /// failed to link.
    NotRunnable(String),
}

impl Outcome {
    /// Returns the outcome of calls that are nested deeper than `limit` allows, with any engine.
    pub(crate) fn stack_exhausted(limit: &str) -> Self {
        Self::Trapped(format!(
            "call stack exhausted: the limit is {limit}; look for a recursion that does not end"
        ))
    }

    /// Returns the exit code of the container's process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // An exit status has eight bits. Dropping the others would turn 256 into success.
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

/// A row of the reference page.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExitRow {
    /// The code, or a formula for it.
    pub(crate) code: &'static str,
    /// The cause.
    pub(crate) when: &'static str,
    /// Where to find details.
    pub(crate) see: &'static str,
}

/// All exit codes of this runtime's containers.
#[cfg(test)]
pub(crate) const TABLE: &[ExitRow] = &[
    ExitRow {
        code: "0",
        when: "the guest returned from its entry function, or called `proc_exit(0)`",
        see: "",
    },
    ExitRow {
        code: "1-255",
        when: "the guest called `proc_exit` with this code; a code above 255 becomes 255",
        see: "the guest's own log",
    },
    ExitRow {
        code: "126",
        when: "the engine could not link or start the guest, or the kernel could not execute a \
               native program",
        see: "the container's log; most such guests are already refused at Create",
    },
    ExitRow {
        code: "134",
        when: "the guest trapped (128 + SIGABRT), or its calls were nested too deep (`call stack \
               exhausted`)",
        see: "the container's log names the trap",
    },
    ExitRow {
        code: "137",
        when: "SIGKILL, sent by Kubernetes after the grace period or by the kernel when memory ran \
               out; also if the node host died",
        see: "`kubectl describe pod`",
    },
    ExitRow {
        code: "143",
        when: "SIGTERM: a guest cannot handle signals, so it ends at once",
        see: "",
    },
    ExitRow {
        code: "128 + n",
        when: "another signal n ended the guest",
        see: "",
    },
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
            (Outcome::stack_exhausted("7 calls"), 134),
            (Outcome::NotRunnable("import".to_owned()), 126),
        ] {
            assert_eq!(outcome.exit_code(), code, "{outcome}");
        }
    }

    /// The page's path, from this crate's folder.
    const PAGE: &str = "../docs/reference/exit-codes.md";

    fn page() -> String {
        let head = "<!-- Generated from `shim/src/outcome.rs`: change it there, then run\n     \
             `UPDATE_REFERENCE=1 cargo test --package wasmedge-host --lib \
             reference_page_matches_the_table`. -->\n\n\
             # Exit codes\n\n\
             The exit codes that Kubernetes shows for containers of this runtime.\n\n\
             | code | when | more |\n|---|---|---|\n";
        let rows = TABLE
            .iter()
            .map(|ExitRow { code, when, see }| format!("| {code} | {when} | {see} |\n"));
        std::iter::once(head.to_owned()).chain(rows).collect()
    }

    #[test]
    fn reference_page_matches_the_table() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(&file, page()).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            found,
            page(),
            "{} differs from TABLE: its first lines name the command that writes it",
            file.display()
        );
    }

    #[test]
    fn table_has_the_code_of_every_outcome() {
        for code in [NOT_RUNNABLE, TRAPPED] {
            assert!(
                TABLE.iter().any(|row| row.code == code.to_string()),
                "{code}"
            );
        }
    }
}
