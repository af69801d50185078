//! Errors of compiling that are the node's, not the module's: they are not to be remembered.

use std::io;

use container_cgroup::CgroupError;
use process_forker::{Failure, SpawnError};

/// The node could not have a module compiled. A later attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The helper's cgroup cannot be made. Without limits nothing is compiled.
    #[error("make the cgroup of the compile helper")]
    Cgroup(#[source] CgroupError),
    /// The helper's process cannot be forked.
    #[error("fork the compile helper")]
    Spawn(#[source] SpawnError),
    /// A step of the host's or the helper's set-up failed, or reading the module, or writing the
    /// compiled code.
    #[error("compile {origin}: {failure}")]
    Step {
        /// What was to be compiled.
        origin: String,
        /// The step.
        failure: Failure,
    },
    /// The helper ended before it was confined.
    #[error("the compile helper did not start: {how}; is the runtime bundle complete?")]
    NotStarted {
        /// How it ended, and what it printed.
        how: String,
    },
    /// The module's bytes are not those that were to be compiled.
    #[error("{origin} was changed while it was compiled: create the container again")]
    Changed {
        /// What was to be compiled.
        origin: String,
    },
    /// The disk is full.
    #[error("no space is left for the compiled code of {origin}: free some on the node's disk")]
    NoSpace {
        /// What was to be compiled.
        origin: String,
    },
    /// The node's memory was exhausted, not the helper's.
    #[error("the compile helper of {origin} was killed because the node has no memory left")]
    NodeOutOfMemory {
        /// What was to be compiled.
        origin: String,
    },
    /// The host, or a user, ended it.
    #[error("the compile helper of {origin} was killed before it had finished")]
    Killed {
        /// What was to be compiled.
        origin: String,
    },
    /// Its end cannot be read.
    #[error("wait for the compile helper")]
    Wait(#[source] io::Error),
}
