//! System call filters: compiled once in the host, installed in the processes of containers.
//!
//! A guest's process is under two of them. The first is ours and the same for all: the calls that
//! the engine needs. The second is the spec's (`linux.seccomp`). A system call passes if both allow
//! it.
//!
//! | file | content |
//! |---|---|
//! | `seccomp/program.rs` | a filter in the kernel's form, and its installation |
//! | `seccomp/profile.rs` | compilation of the spec's filter |
//! | `seccomp/engine.rs` | our own filter: its rules |
//! | `seccomp/calls.rs` | our own filter: the system calls that it names |
//! | `seccomp/gate.rs` | the calls that an exec process may make between its confinement and its fork |
//! | `seccomp/cache.rs` | compiled filters: compilation takes milliseconds, and a node has few profiles |

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
        "SCMP_ACT_NOTIFY and listenerPath are not supported: there is no listener, and the guest \
         would hang"
    )]
    Notify,
    /// libseccomp refuses a part of it.
    #[error("{part}")]
    Part {
        /// The part, as the profile names it.
        part: String,
        /// The cause.
        source: libseccomp::error::SeccompError,
    },
    /// libseccomp did not export the compiled filter.
    #[error("export the filter from libseccomp")]
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
