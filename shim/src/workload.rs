//! The workload of a process: a guest or a native program, chosen from the image's layers first,
//! then from the file that the entrypoint names.
//!
//! ```text
//! image has one Wasm layer ───────────────────────► guest from the layer
//! image has several ──────────────────────────────► refused
//! image has none: the entrypoint in the container's files, mounts included
//!     "\0asm" module, or WebAssembly text ────────► guest from the file
//!     ELF or "#!" ────────────────────────────────► native
//!     component, compiled code, anything else ────► refused
//! exec: the file in the running container; the container's own layer if there is no such file
//! ```
//!
//! | file | content |
//! |---|---|
//! | `workload/image.rs` | the Wasm layer of an image |
//! | `workload/rootfs.rs` | the paths that an entrypoint may mean, and the result of a look-up |
//! | `workload/hints.rs` | the workloads of earlier containers, to start look-ups early |
//! | `workload/kind.rs`, `workload/digest.rs` | the kind of a file's content, and its digest |
//!
//! An error is never a reason to try something else: an image that cannot be read fails Create, and
//! the root file system is not used in its place.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest_sandbox::Failure;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) mod digest;
pub(crate) mod hints;
pub(crate) mod image;
pub(crate) mod kind;
pub(crate) mod rootfs;

use digest::{Digest, FileDigest};
use image::Layer;
use kind::{ContentKind, Start};
use rootfs::FoundFile;

/// The function that a WASI command exports, and the default if the entrypoint names none.
pub(crate) const START: &str = "_start";

/// The command line of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandLine<'a> {
    /// The arguments; the first is the entrypoint.
    pub(crate) args: &'a [String],
    /// The environment, each entry as `NAME=value`.
    pub(crate) env: &'a [String],
    /// The working folder, at which relative paths start.
    pub(crate) cwd: &'a Path,
}

/// The program of a process.
#[derive(Debug)]
pub(crate) enum Workload {
    /// An ordinary Linux program.
    Native,
    /// A guest, which the engine runs.
    Guest(GuestModule),
}

/// A guest that was found and is not parsed.
#[derive(Debug, Clone)]
pub(crate) struct GuestModule {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// The number of bytes.
    pub(crate) size: u64,
    /// Binary or text.
    pub(crate) form: Form,
    /// Its origin for messages: an image layer or a path.
    pub(crate) origin: String,
    /// The digest of its bytes, as they were when it was found.
    pub(crate) digest: Digest,
    /// The function to call.
    pub(crate) entrypoint: Entrypoint,
}

/// The source of a guest's bytes.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    /// Sealed memory. Shared between processes, so it is read at explicit offsets.
    Memory(Arc<File>),
    /// In a file of the container.
    File {
        /// An `O_PATH` descriptor of it: the guest's process opens it.
        path: Arc<OwnedFd>,
        /// Its digest, for later look-ups; none if it had changed a moment before.
        known: Option<Box<FileDigest>>,
    },
}

impl GuestModule {
    /// Returns the digest of its file for later look-ups; none of a layer.
    pub(crate) fn known(&self) -> Option<FileDigest> {
        match &self.bytes {
            Bytes::Memory(_) => None,
            Bytes::File { known, .. } => known.as_deref().copied(),
        }
    }
}

/// The encoding of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// WebAssembly binary.
    Binary,
    /// WebAssembly text.
    Text,
}

impl Form {
    /// Returns the maximum size of a guest in this form.
    pub(crate) fn max_bytes(self) -> u64 {
        match self {
            Self::Binary => kind::MAX_BINARY,
            Self::Text => kind::MAX_TEXT,
        }
    }
}

/// The first of `process.args`, which is `path` or `path#function`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entrypoint {
    /// The path before the first `#`, as written.
    pub(crate) path: String,
    /// The exported function to call.
    pub(crate) function: String,
}

impl Entrypoint {
    /// Parses the first of `args`.
    ///
    /// # Errors
    /// If there is none, or nothing follows the `#`.
    pub(crate) fn parse(args: &[String]) -> Result<Self, WorkloadError> {
        let first = args
            .first()
            .filter(|arg| !arg.is_empty())
            .ok_or(WorkloadError::NoEntrypoint)?;
        match first.split_once('#') {
            None => Ok(Self {
                path: first.clone(),
                function: START.to_owned(),
            }),
            Some((_, "")) => Err(WorkloadError::NoFunction {
                entrypoint: first.clone(),
            }),
            Some((path, function)) => Ok(Self {
                path: path.to_owned(),
                function: function.to_owned(),
            }),
        }
    }
}

/// The workload cannot be determined, or cannot be run.
#[derive(Debug, Error)]
pub(crate) enum WorkloadError {
    /// `process.args` is empty.
    #[error(
        "the container has no entrypoint: set `command` in the pod, or `ENTRYPOINT` in the image, \
         to the guest's path"
    )]
    NoEntrypoint,
    /// `path#` without a function.
    #[error(
        "entrypoint {entrypoint:?} names no function after `#`: write `path#function`, or the path \
         alone for `{START}`"
    )]
    NoFunction {
        /// The entrypoint as written.
        entrypoint: String,
    },
    /// No such file.
    #[error(
        "no file {entrypoint:?} in the container (looked at {looked_at}): check `command` in the \
         pod and the image's ENTRYPOINT"
    )]
    NotFound {
        /// The entrypoint as written.
        entrypoint: String,
        /// Every path that was tried.
        looked_at: String,
    },
    /// Not a program.
    #[error(
        "{} in the container is {what}: name a WebAssembly module or an executable",
        path.display()
    )]
    NotAFile {
        /// The path in the container.
        path: PathBuf,
        /// The kind of object.
        what: &'static str,
    },
    /// The look-up itself failed.
    #[error("cannot look for {entrypoint:?} in the container's files")]
    LookUp {
        /// The entrypoint as written.
        entrypoint: String,
        /// The step that failed.
        source: Failure,
    },
    /// A file system of the container does not answer.
    #[error(
        "cannot look for {entrypoint:?} in the container's files: no answer within {seconds} s \
         (waiting for {on}); check the servers of \
         the pod's volumes (FUSE, NFS)"
    )]
    LookUpTimedOut {
        /// The entrypoint as written.
        entrypoint: String,
        /// The time limit.
        seconds: u64,
        /// The place in the kernel, or the earlier look-ups, that it waits for.
        on: String,
    },
    /// containerd cancelled the request.
    #[error(
        "cannot look for {entrypoint:?} in the container's files: containerd cancelled the request \
         before the file system answered"
    )]
    LookUpCancelled {
        /// The entrypoint as written.
        entrypoint: String,
    },
    /// It cannot be read.
    #[error("cannot read {origin}")]
    Read {
        /// The guest's origin.
        origin: String,
        /// The cause.
        source: io::Error,
    },
    /// Neither WebAssembly nor a native program.
    #[error(
        "{origin} is not a WebAssembly module (it starts with {starts}): build the guest for \
         wasm32-wasip1, or run it under the default RuntimeClass"
    )]
    NotWasm {
        /// The guest's origin.
        origin: String,
        /// Its first bytes, escaped.
        starts: String,
    },
    /// A component.
    #[error(
        "{origin} is a WebAssembly component, and this engine runs core modules only: build the \
         guest for wasm32-wasip1 (not wasip2)"
    )]
    Component {
        /// The guest's origin.
        origin: String,
    },
    /// Compiled code, or another library.
    #[error(
        "{origin} is a library of machine code, not a program: this runtime runs no code that an \
         engine has compiled elsewhere (`.so`, `.cwasm`), it compiles guests itself; name the \
         WebAssembly module"
    )]
    Library {
        /// The file.
        origin: String,
    },
    /// An unknown version of the binary format.
    #[error(
        "{origin} has version {version} of the WebAssembly binary format; the known version is 1: \
         rebuild it with a current toolchain"
    )]
    Version {
        /// The guest's origin.
        origin: String,
        /// The four bytes after the magic number.
        version: u32,
    },
    /// A guest above the size limit.
    #[error(
        "{origin} has {size} bytes; at most {limit} are read: shrink the guest (`wasm-opt -Oz`, \
         `strip`)"
    )]
    TooLarge {
        /// The guest's origin.
        origin: String,
        /// Its size in bytes.
        size: u64,
        /// The maximum for its form.
        limit: u64,
    },
}

/// Returns the workload of a container with the Wasm layer `layer` in its image.
///
/// # Errors
/// If the layer cannot be run.
pub(crate) fn from_layer(
    command: CommandLine<'_>,
    layer: &Layer,
) -> Result<Workload, WorkloadError> {
    let entrypoint = Entrypoint::parse(command.args)?;
    let origin = layer.origin.clone();
    let read = |source| WorkloadError::Read {
        origin: origin.clone(),
        source,
    };
    let start = Start::read(&layer.file, layer.size).map_err(read)?;
    let form =
        runnable_form(&start, &origin, layer.size)?.ok_or_else(|| not_wasm(&origin, &start))?;
    Ok(Workload::Guest(GuestModule {
        bytes: Bytes::Memory(Arc::clone(&layer.file)),
        size: layer.size,
        form,
        origin,
        digest: layer.digest,
        entrypoint,
    }))
}

/// Returns the workload of a container without a Wasm layer in its image: the file that its
/// entrypoint names.
///
/// # Errors
/// If the file cannot be run.
pub(crate) fn from_file(
    entrypoint: Entrypoint,
    found: FoundFile,
) -> Result<Workload, WorkloadError> {
    let FoundFile {
        file,
        path,
        size,
        inspection,
    } = found;
    let origin = path.display().to_string();
    let Some(form) = runnable_form(&inspection.start, &origin, size)? else {
        return Ok(Workload::Native);
    };
    let Some(found) = inspection.digest else {
        let source = io::Error::other("the process that found it reports no digest");
        return Err(WorkloadError::Read { origin, source });
    };
    let (path, known) = (Arc::new(file), found.reusable().map(Box::new));
    Ok(Workload::Guest(GuestModule {
        bytes: Bytes::File { path, known },
        size,
        form,
        origin,
        digest: found.digest,
        entrypoint,
    }))
}

/// Returns the workload of an exec process; `own` is the guest of the container's first process.
///
/// # Errors
/// If it cannot be run.
pub(crate) fn for_exec(
    entrypoint: Entrypoint,
    found: Result<FoundFile, WorkloadError>,
    own: &GuestModule,
) -> Result<Workload, WorkloadError> {
    match (found, &own.bytes) {
        // A guest from a layer is not a file of the root. Its name is the image's entrypoint.
        (Err(WorkloadError::NotFound { .. }), Bytes::Memory(_))
            if entrypoint.path == own.entrypoint.path =>
        {
            Ok(Workload::Guest(GuestModule {
                entrypoint,
                ..own.clone()
            }))
        }
        (found, _) => from_file(entrypoint, found?),
    }
}

/// Returns the form of a guest of this kind; none for a native program.
fn runnable_form(start: &Start, origin: &str, size: u64) -> Result<Option<Form>, WorkloadError> {
    let owned = || origin.to_owned();
    let form = match start.kind {
        ContentKind::Module => Form::Binary,
        ContentKind::Text => Form::Text,
        ContentKind::Native => return Ok(None),
        ContentKind::Component => return Err(WorkloadError::Component { origin: owned() }),
        ContentKind::Library => return Err(WorkloadError::Library { origin: owned() }),
        ContentKind::UnknownVersion(version) => {
            return Err(WorkloadError::Version {
                origin: owned(),
                version,
            });
        }
        ContentKind::Other => return Err(not_wasm(origin, start)),
    };
    if size > form.max_bytes() {
        return Err(WorkloadError::TooLarge {
            origin: owned(),
            size,
            limit: form.max_bytes(),
        });
    }
    Ok(Some(form))
}

fn not_wasm(origin: &str, start: &Start) -> WorkloadError {
    let starts = match &*start.bytes {
        [] => "nothing: it is empty".to_owned(),
        starts => format!("{:?}", starts.escape_ascii().to_string()),
    };
    WorkloadError::NotWasm {
        origin: origin.to_owned(),
        starts,
    }
}

/// Reads all bytes of a guest's file, at most `max`: it may have grown since it was inspected. Does
/// not use or move the file's position, which other processes share.
///
/// # Errors
/// If it cannot be read, or has more bytes.
pub(crate) fn read_all(file: &File, max: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > max {
        return Err(io::Error::other(format!(
            "it has {size} bytes by now; at most {max} are read"
        )));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
