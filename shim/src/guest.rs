//! What a process of a container is to run, decided from facts: the image's layers first, then the file that the
//! entrypoint names.
//!
//! ```text
//! image has one Wasm layer ───────────────────────► guest from the layer
//! image has several ──────────────────────────────► refused
//! image has none: entrypoint inside the rootfs
//!     "\0asm" module, or WebAssembly text ────────► guest from the file
//!     ELF or "#!" ────────────────────────────────► native
//!     component, anything else, no file ──────────► refused
//! exec: the file in the running container; the container's own entrypoint where there is no such file
//! ```
//!
//! A failure is never an answer: an image that cannot be read fails Create, it does not fall back to the rootfs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::paths::GuestPath;

pub mod digest;
pub mod image;
pub mod kind;
pub mod rootfs;

use image::Layer;
use kind::Kind;
use rootfs::Root;

/// The function that a WASI command exports, and the one to call when the entrypoint names no other.
pub const START: &str = "_start";

/// A command line with what its words are understood by.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
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
    Wasm(Guest),
}

/// A guest, found but not yet looked into.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its bytes, as a file that nobody writes to. Shared: it is read at given places only.
    pub file: Arc<File>,
    /// Binary or text.
    pub form: Form,
    /// Where it was found, for messages: an image layer or a path.
    pub origin: String,
    /// The digest of its bytes: an image names it, and of a file its own process tells it once it has read it.
    pub digest: Option<String>,
    /// What to call in it.
    pub entrypoint: Entrypoint,
}

impl Guest {
    /// The same, with the digest that its process says, if none is known.
    #[must_use]
    pub fn told_by(self, process: &guest_sandbox::Guest) -> Self {
        let told = || process.told().and_then(digest::claimed).map(str::to_owned);
        Self { digest: self.digest.or_else(told), ..self }
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
    pub fn parse(args: &[String]) -> Result<Self, GuestError> {
        let first = args.first().filter(|arg| !arg.is_empty()).ok_or(GuestError::NoEntrypoint)?;
        match first.split_once('#') {
            None => Ok(Self { path: first.clone(), function: START.to_owned() }),
            Some((_, "")) => Err(GuestError::NoFunction { entrypoint: first.clone() }),
            Some((path, function)) => Ok(Self { path: path.to_owned(), function: function.to_owned() }),
        }
    }
}

/// Why an image holds nothing that can be run.
#[derive(Debug, Error)]
pub enum GuestError {
    /// `process.args` is empty.
    #[error("the container has no entrypoint: set `command` in the pod, or `ENTRYPOINT` in the image, to the guest's path")]
    NoEntrypoint,
    /// `path#` without a function.
    #[error("entrypoint {entrypoint:?} names no function after `#`: write `path#function`, or the path alone for `{START}`")]
    NoFunction {
        /// The entrypoint as written.
        entrypoint: String,
    },
    /// No such file.
    #[error("no file {entrypoint:?} in the container (looked at {looked_at}): check `command` in the pod and the image's ENTRYPOINT")]
    NotFound {
        /// The entrypoint as written.
        entrypoint: String,
        /// Every path that was tried.
        looked_at: String,
    },
    /// Not a regular file.
    #[error("{path} in the container is {what}, not a file: name a WebAssembly module or an executable")]
    NotAFile {
        /// The path in the container.
        path: GuestPath,
        /// What it is.
        what: &'static str,
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
        "{origin} is no WebAssembly module (it starts with {starts}): build the guest for wasm32-wasip1, or run it under the default RuntimeClass"
    )]
    NotWasm {
        /// Where it lies.
        origin: String,
        /// Its first bytes, for a person.
        starts: String,
    },
    /// A component.
    #[error("{origin} is a WebAssembly component, and this engine runs core modules only: build the guest for wasm32-wasip1 (not wasip2)")]
    Component {
        /// Where it lies.
        origin: String,
    },
    /// A version of the binary format that is not known.
    #[error("{origin} has version {version} of the WebAssembly binary format; known is version 1: rebuild it with a current toolchain")]
    Version {
        /// Where it lies.
        origin: String,
        /// The four bytes after the magic number.
        version: u32,
    },
    /// Larger than anything sensible.
    #[error("{origin} has {size} bytes; at most {limit} are read: shrink the guest (`wasm-opt -Oz`, `strip`)")]
    TooLarge {
        /// Where it lies.
        origin: String,
        /// Its size.
        size: u64,
        /// The limit for its form.
        limit: u64,
    },
}

/// Decides what the first process of a container runs: the Wasm layer of its image, if it has one, and else what
/// [`in_root`] found.
///
/// # Errors
/// When there is nothing that can be run; never decided by guessing.
pub fn select(command: Command<'_>, layer: Option<&Layer>, in_root: Result<Workload, GuestError>) -> Result<Workload, GuestError> {
    let Some(layer) = layer else { return in_root };
    let entrypoint = Entrypoint::parse(command.args)?;
    let form = runnable_form(Kind::of(&layer.head), &layer.head, &layer.origin, layer.size)?;
    let form = form.ok_or_else(|| not_wasm(&layer.origin, &layer.head))?;
    let (file, origin, digest) = (Arc::clone(&layer.file), layer.origin.clone(), Some(layer.digest.clone()));
    Ok(Workload::Wasm(Guest { file, form, origin, digest, entrypoint }))
}

/// Decides what a container runs whose image has no Wasm layer: the file of its root that the entrypoint names.
///
/// # Errors
/// When there is no such file, or it cannot be run.
pub fn in_root(command: Command<'_>, root: &Root<'_>) -> Result<Workload, GuestError> {
    from_root(command, root, Entrypoint::parse(command.args)?)
}

/// Decides what a further process of a container runs, whose first one runs `own`.
///
/// # Errors
/// When there is nothing that can be run.
pub fn select_for_exec(command: Command<'_>, root: &Root<'_>, own: &Guest) -> Result<Workload, GuestError> {
    let entrypoint = Entrypoint::parse(command.args)?;
    match from_root(command, root, entrypoint.clone()) {
        // A guest that is a layer of its image is no file of the root; its name is what the image calls it.
        Err(GuestError::NotFound { .. }) if entrypoint.path == own.entrypoint.path => {
            Ok(Workload::Wasm(Guest { entrypoint, ..own.clone() }))
        }
        result => result,
    }
}

fn from_root(command: Command<'_>, root: &Root<'_>, entrypoint: Entrypoint) -> Result<Workload, GuestError> {
    let found = rootfs::find(command, root, &entrypoint.path)?;
    let origin = found.path.to_string();
    let read = |source| GuestError::Read { origin: origin.clone(), source };
    let size = found.file.metadata().map_err(read)?.len();
    let mut head = vec![0; kind::HEAD.min(usize::try_from(size).unwrap_or(kind::HEAD))];
    found.file.read_exact_at(&mut head, 0).map_err(read)?;
    Ok(match runnable_form(Kind::of(&head), &head, &origin, size)? {
        Some(form) => Workload::Wasm(Guest { file: Arc::new(found.file), form, origin, digest: None, entrypoint }),
        None => Workload::Native,
    })
}

/// The form of a guest of this kind; `None` for a native program.
fn runnable_form(kind: Kind, head: &[u8], origin: &str, size: u64) -> Result<Option<Form>, GuestError> {
    let origin = origin.to_owned();
    let (form, limit) = match kind {
        Kind::Module => (Form::Binary, kind::MAX_BINARY),
        Kind::Text => (Form::Text, kind::MAX_TEXT),
        Kind::Native => return Ok(None),
        Kind::Component => return Err(GuestError::Component { origin }),
        Kind::UnknownVersion(version) => return Err(GuestError::Version { origin, version }),
        Kind::Other => return Err(not_wasm(&origin, head)),
    };
    if size > limit {
        return Err(GuestError::TooLarge { origin, size, limit });
    }
    Ok(Some(form))
}

fn not_wasm(origin: &str, head: &[u8]) -> GuestError {
    let starts = if head.is_empty() {
        "nothing: it is empty".to_owned()
    } else {
        format!("{:?}", head[..head.len().min(8)].escape_ascii().to_string())
    };
    GuestError::NotWasm { origin: origin.to_owned(), starts }
}

/// All bytes of a guest's file. Its position is neither used nor moved: other processes share it.
///
/// # Errors
/// When it cannot be read.
pub fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
