//! What a process of a container is to run, decided from facts: the image's layers first, then the
//! file that the entrypoint names.
//!
//! ```text
//! image has one Wasm layer ───────────────────────► guest from the layer
//! image has several ──────────────────────────────► refused
//! image has none: the entrypoint in the container's files, mounts included
//!     "\0asm" module, or WebAssembly text ────────► guest from the file
//!     ELF or "#!" ────────────────────────────────► native
//!     component, anything else, no file ──────────► refused
//! exec: the file in the running container; the container's own layer where there is no such file
//! ```
//!
//! | file | what |
//! |---|---|
//! | `workload/image.rs` | the layers of an image |
//! | `workload/rootfs.rs` | where an entrypoint is looked for, and what was found |
//! | `workload/lookup.rs` | the look-up itself, in a process that may never answer |
//! | `workload/hints.rs` | what ran before, so that it is begun early |
//! | `workload/kind.rs`, `workload/digest.rs` | what some bytes are, and their digest |
//!
//! A failure is never an answer: an image that cannot be read fails Create, it does not fall back
//! to the rootfs.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest_sandbox::Failure;
use guest_sandbox::lookup::Inspect as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub mod digest;
pub mod hints;
pub mod image;
pub mod kind;
pub mod lookup;
pub mod rootfs;

use image::Layer;
use kind::{ContentKind, Inspection};
use rootfs::FoundFile;

/// The function that a WASI command exports, and the one to call when the entrypoint names no
/// other.
pub const START: &str = "_start";

/// A command line with what its words are understood by.
#[derive(Debug, Clone, Copy)]
pub struct CommandLine<'a> {
    /// The words, the first of which names what to run.
    pub args: &'a [String],
    /// The environment, each entry as `NAME=value`.
    pub env: &'a [String],
    /// The folder from which relative names lead.
    pub cwd: &'a Path,
}

/// What to run.
#[derive(Debug)]
pub enum Workload {
    /// An ordinary Linux program.
    Native,
    /// A guest; the engine runs it.
    Guest(GuestModule),
}

/// A guest, found but not yet looked into.
#[derive(Debug, Clone)]
pub struct GuestModule {
    /// Its bytes.
    pub bytes: Bytes,
    /// How many they are.
    pub size: u64,
    /// Binary or text.
    pub form: Form,
    /// Where it was found, for messages: an image layer or a path.
    pub origin: String,
    /// The digest of its bytes: an image names it, and of a file its own process tells it once it
    /// has read it.
    pub digest: Option<String>,
    /// What to call in it.
    pub entrypoint: Entrypoint,
}

/// Where the bytes of a guest are.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// In memory that nothing writes to. Shared: it is read at given places only.
    Memory(Arc<File>),
    /// In a file of the container, by an `O_PATH` descriptor: the guest's process opens it.
    File(Arc<OwnedFd>),
}

impl GuestModule {
    /// The same, with the digest that its process says, if none is known.
    #[must_use]
    pub fn told_by(self, process: &guest_sandbox::Guest) -> Self {
        let told = || process.told().and_then(digest::claimed).map(str::to_owned);
        Self {
            digest: self.digest.or_else(told),
            ..self
        }
    }

    /// What logs call it: its digest, or as long as that is not known its path in the container.
    pub fn name(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.origin)
    }
}

/// In which form a guest's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// WebAssembly binary.
    Binary,
    /// WebAssembly text.
    Text,
}

impl Form {
    /// Maximum bytes of a guest in this form.
    pub fn most(self) -> u64 {
        match self {
            Self::Binary => kind::MAX_BINARY,
            Self::Text => kind::MAX_TEXT,
        }
    }
}

/// `path#function`, as the first of `process.args` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrypoint {
    /// The path before the first `#`, as written.
    pub path: String,
    /// The exported function to call.
    pub function: String,
}

impl Entrypoint {
    /// Reads the first of `args`.
    ///
    /// # Errors
    /// When there is none, or nothing follows the `#`.
    pub fn parse(args: &[String]) -> Result<Self, WorkloadError> {
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

/// Why an image holds nothing that can be run.
#[derive(Debug, Error)]
pub enum WorkloadError {
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
        /// What it is.
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
    NotAnswered {
        /// The entrypoint as written.
        entrypoint: String,
        /// How long it was waited for.
        seconds: u64,
        /// What the look-up waits for.
        on: String,
    },
    /// containerd gave the request up.
    #[error(
        "cannot look for {entrypoint:?} in the container's files: containerd gave the request up \
         before the file system answered"
    )]
    LookUpGivenUp {
        /// The entrypoint as written.
        entrypoint: String,
    },
    /// It cannot be read.
    #[error("cannot read {origin}")]
    Read {
        /// Where the guest lies.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// Neither WebAssembly nor a native program.
    #[error(
        "{origin} is no WebAssembly module (it starts with {starts}): build the guest for \
         wasm32-wasip1, or run it under the default RuntimeClass"
    )]
    NotWasm {
        /// Where it lies.
        origin: String,
        /// Its first bytes, for a person.
        starts: String,
    },
    /// A component.
    #[error(
        "{origin} is a WebAssembly component, and this engine runs core modules only: build the \
         guest for wasm32-wasip1 (not wasip2)"
    )]
    Component {
        /// Where it lies.
        origin: String,
    },
    /// A version of the binary format that is not known.
    #[error(
        "{origin} has version {version} of the WebAssembly binary format; known is version 1: \
         rebuild it with a current toolchain"
    )]
    Version {
        /// Where it lies.
        origin: String,
        /// The four bytes after the magic number.
        version: u32,
    },
    /// Larger than anything sensible.
    #[error(
        "{origin} has {size} bytes; at most {limit} are read: shrink the guest (`wasm-opt -Oz`, \
         `strip`)"
    )]
    TooLarge {
        /// Where it lies.
        origin: String,
        /// Its size.
        size: u64,
        /// The limit for its form.
        limit: u64,
    },
}

/// What the first process of a container runs whose image has the Wasm layer `layer`.
///
/// # Errors
/// When the layer cannot be run.
pub fn of_layer(command: CommandLine<'_>, layer: &Layer) -> Result<Workload, WorkloadError> {
    let entrypoint = Entrypoint::parse(command.args)?;
    let origin = layer.origin.clone();
    let read = |source| WorkloadError::Read {
        origin: origin.clone(),
        source,
    };
    let inspection = Inspection::inspect(&layer.file, layer.size).map_err(read)?;
    let form = runnable_form(&inspection, &origin, layer.size)?
        .ok_or_else(|| not_wasm(&origin, &inspection))?;
    let (bytes, digest) = (
        Bytes::Memory(Arc::clone(&layer.file)),
        Some(layer.digest.clone()),
    );
    Ok(Workload::Guest(GuestModule {
        bytes,
        size: layer.size,
        form,
        origin,
        digest,
        entrypoint,
    }))
}

/// What a container runs whose image has no Wasm layer: the file that its entrypoint names.
///
/// # Errors
/// When the file cannot be run.
pub fn of_file(entrypoint: Entrypoint, found: FoundFile) -> Result<Workload, WorkloadError> {
    let FoundFile {
        file,
        path,
        size,
        inspection,
    } = found;
    let origin = path.display().to_string();
    Ok(match runnable_form(&inspection, &origin, size)? {
        Some(form) => Workload::Guest(GuestModule {
            bytes: Bytes::File(Arc::new(file)),
            size,
            form,
            origin,
            digest: None,
            entrypoint,
        }),
        None => Workload::Native,
    })
}

/// What a further process of a container runs, whose first one runs `own`.
///
/// # Errors
/// When there is nothing that can be run.
pub fn of_exec(
    entrypoint: Entrypoint,
    found: Result<FoundFile, WorkloadError>,
    own: &GuestModule,
) -> Result<Workload, WorkloadError> {
    match (found, &own.bytes) {
        // A guest that is a layer of its image is no file of the root; its name is what the image
        // calls it.
        (Err(WorkloadError::NotFound { .. }), Bytes::Memory(_))
            if entrypoint.path == own.entrypoint.path =>
        {
            Ok(Workload::Guest(GuestModule {
                entrypoint,
                ..own.clone()
            }))
        }
        (found, _) => of_file(entrypoint, found?),
    }
}

/// Whether the entrypoint's name is one that guests usually have. It decides nothing but whether a
/// guest's process is forked before its bytes are known.
pub fn is_named_as_guest(command: CommandLine<'_>) -> bool {
    let entrypoint = Entrypoint::parse(command.args);
    entrypoint.is_ok_and(|entrypoint| {
        Path::new(&entrypoint.path)
            .extension()
            .is_some_and(|end| end == "wasm" || end == "wat")
    })
}

/// The form of a guest of this kind; `None` for a native program.
fn runnable_form(
    inspection: &Inspection,
    origin: &str,
    size: u64,
) -> Result<Option<Form>, WorkloadError> {
    let owned = || origin.to_owned();
    let form = match inspection.kind {
        ContentKind::Module => Form::Binary,
        ContentKind::Text => Form::Text,
        ContentKind::Native => return Ok(None),
        ContentKind::Component => return Err(WorkloadError::Component { origin: owned() }),
        ContentKind::UnknownVersion(version) => {
            return Err(WorkloadError::Version {
                origin: owned(),
                version,
            });
        }
        ContentKind::Other => return Err(not_wasm(origin, inspection)),
    };
    if size > form.most() {
        return Err(WorkloadError::TooLarge {
            origin: owned(),
            size,
            limit: form.most(),
        });
    }
    Ok(Some(form))
}

fn not_wasm(origin: &str, inspection: &Inspection) -> WorkloadError {
    let starts = match &*inspection.starts {
        [] => "nothing: it is empty".to_owned(),
        starts => format!("{:?}", starts.escape_ascii().to_string()),
    };
    WorkloadError::NotWasm {
        origin: origin.to_owned(),
        starts,
    }
}

/// All bytes of a guest's file, `most` at most: it may have grown since it was inspected. Its
/// position is neither used nor moved: other processes share it.
///
/// # Errors
/// When it cannot be read, or has more bytes.
pub fn read_all(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > most {
        return Err(io::Error::other(format!(
            "it has {size} bytes by now; at most {most} are read"
        )));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
