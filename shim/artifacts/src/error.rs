//! Reasons why a folder cannot be a store, and failures of a store's calls.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// A folder cannot be a store. Each reason names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The path depends on the folder of the process that uses it.
    #[error(
        "the artifact store {} is not an absolute path without `..`: change the option",
        .0.display()
    )]
    NotAbsolute(PathBuf),
    /// A part of the path is a link, whose target another user might change.
    #[error(
        "{} is a symbolic link on the path of the artifact store: set the option to the path that \
         it leads to", .0.display()
    )]
    Symlink(PathBuf),
    /// A part of the path is a file.
    #[error(
        "{} is not a folder: remove it, or choose another path for the artifact store",
        .0.display()
    )]
    NotAFolder(PathBuf),
    /// A part of the path belongs to another user.
    #[error(
        "{} belongs to user {owner}, so the artifact store there could be replaced: change its \
         owner to root, or choose another path", path.display()
    )]
    NotRootOwned {
        /// The part of the path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Other users than root can write to a part of the path.
    #[error(
        "{} can be written by others than root (mode {mode:04o}), so the artifact store there \
         could be replaced: run `chmod go-w` on it, or choose another path", path.display()
    )]
    WritableByOthers {
        /// The part of the path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file system does not allow to execute code from it.
    #[error(
        "{} is on a file system that is mounted `noexec`, so compiled guests cannot be mapped from \
         it: remount it, or choose another path for the artifact store", .0.display()
    )]
    NoExec(PathBuf),
    /// The file system is read-only.
    #[error(
        "{} is on a read-only file system: choose another path for the artifact store", .0.display()
    )]
    ReadOnly(PathBuf),
    /// The kernel refuses something else.
    #[error("cannot use {} as artifact store: {operation}", path.display())]
    Io {
        /// The step that failed.
        operation: String,
        /// The path that it is about.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A call of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system is full. Nothing was left there.
    #[error("{operation}: the file system of the artifact store is full")]
    NoSpace {
        /// The step that failed.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Everything that could be evicted is in use, or would not be enough.
    #[error(
        "the artifact store has no space for {needed} more bytes: it may hold {max} bytes, and \
         what it holds is in use; raise its limits, or free disk space"
    )]
    Full {
        /// The size of the new entry.
        needed: u64,
        /// The most bytes that the store may hold.
        max: u64,
    },
    /// An artifact that the store could never hold.
    #[error(
        "the artifact has {bytes} bytes, and the artifact store may hold {max}: raise its limits"
    )]
    TooLarge {
        /// The size of the new entry.
        bytes: u64,
        /// The most bytes that the store may hold.
        max: u64,
    },
    /// The helper left something else than an artifact. A failure of the compile, not of the store.
    #[error("the compile helper left no usable artifact: {0}")]
    BadDraft(String),
    /// The lock is that of another key than that of the inputs.
    #[error("the lock of {locked} does not allow to write {key}: lock the key of the inputs")]
    WrongKey {
        /// The key of the lock.
        locked: crate::Key,
        /// The key of the inputs.
        key: crate::Key,
    },
    /// The folder was removed, and cannot be made again.
    #[error("the artifact store was removed and cannot be made again")]
    Gone(#[source] Unusable),
    /// The kernel refuses something else.
    #[error("{operation}")]
    Io {
        /// The step that failed.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn new(operation: impl Into<String>, source: io::Error) -> Self {
        let operation = operation.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { operation, source }
            }
            _ => Self::Io { operation, source },
        }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T, StoreError>;
}

impl<T> Step<T> for Result<T, io::Error> {
    fn step<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::new(operation(), source))
    }
}

impl<T> Step<T> for Result<T, Errno> {
    fn step<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T, StoreError> {
        self.map_err(io::Error::from).step(operation)
    }
}
