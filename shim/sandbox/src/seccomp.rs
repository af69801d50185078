//! Filters of system calls: programs for the kernel, made once in the host, installed in the
//! processes of containers.
//!
//! A guest's process is under two of them. The first is ours and the same for all: what the engine
//! needs, and nothing else. The second is the spec's own (`linux.seccomp`). A system call passes
//! when both let it pass.
//!
//! | file | what |
//! |---|---|
//! | `seccomp/program.rs` | a filter as the kernel takes it, and how a process installs it |
//! | `seccomp/profile.rs` | the spec's filter, made into a program |
//! | `seccomp/engine.rs` | our own filter: how it decides |
//! | `seccomp/calls.rs` | our own filter: the system calls that it names |
//! | `seccomp/gate.rs` | what passes between the confinement of a process that exec adds and its birth |
//! | `seccomp/cache.rs` | programs kept: making one takes milliseconds, and the containers of a node share a few profiles |

mod cache;
mod calls;
mod engine;
mod gate;
mod profile;
mod program;

pub use cache::FilterCache;
pub(crate) use gate::{FORK, Pass};
pub use program::SeccompFilter;

/// A filter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The profile asks another process about system calls.
    #[error(
        "SCMP_ACT_NOTIFY and listenerPath are not served: nobody would answer, and the guest would \
         hang"
    )]
    Notify,
    /// libseccomp refuses a part of it.
    #[error("{part}")]
    Part {
        /// Which part, in the profile's own words.
        part: String,
        /// Why.
        source: libseccomp::error::SeccompError,
    },
    /// The program did not come out of libseccomp.
    #[error("taking the program out of libseccomp")]
    Export(#[source] std::io::Error),
}

impl FilterError {
    fn part(part: impl Into<String>) -> impl FnOnce(libseccomp::error::SeccompError) -> Self {
        let part = part.into();
        move |source| Self::Part { part, source }
    }
}

#[cfg(test)]
mod tests;
