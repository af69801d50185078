//! The WebAssembly engine. Only the files below know which one it is.
//!
//! An engine works in two steps. [`Engine::prepare`] runs while the container is created, so that a
//! guest that can never run fails Create with a reason; no code of the guest runs in it.
//! [`Engine::run`] runs once the container is started.

use guest_sandbox::WireFd;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::outcome::Outcome;
use crate::wasi::WasiContext;

mod address_space;
pub(crate) mod inspect;
mod wasmedge;
mod wasmtime;

pub(crate) use artifact_store::EngineName;
pub(crate) use wasmedge::{LoadableCode as WasmCode, WasmEdge as Wasm};
pub(crate) use wasmtime::Wasmtime;

/// The code that a guest's process loads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Code {
    /// The module itself, which WasmEdge interprets.
    Module,
    /// Machine code for WasmEdge. The module is not read.
    WasmEdge {
        /// A detached, read-only clone of the folder with the file `artifact`: the engine opens it
        /// by a path, and the process has no other way to the artifacts.
        folder: WireFd,
    },
    /// Machine code for Wasmtime. The module is not read.
    Wasmtime {
        /// The artifact.
        file: WireFd,
    },
}

/// A WebAssembly engine. It lives in the container's process: one guest, then the process ends.
pub(crate) trait Engine {
    /// What it loads.
    type Code;
    /// A guest that is loaded and checked.
    type Prepared;

    /// Returns name and version, for `-info` and logs.
    fn version() -> String;

    /// Does once what would be repeated in every guest's process. It runs in the zygote, which has
    /// one thread: it may leave memory behind, no threads and no open files.
    fn warm();

    /// Loads the `code` of a guest and checks that everything it needs exists. Runs nothing of it.
    ///
    /// # Errors
    /// If the guest cannot run on this engine.
    fn prepare(
        code: Self::Code,
        function: &str,
        wasi: &WasiContext,
    ) -> Result<Self::Prepared, NotRunnable>;

    /// Runs the guest until it ends. Calls `instantiated` once the memory that only instantiation
    /// needs is free. The guest's call stack is bounded: exhausting it is
    /// [`Outcome::stack_exhausted`]. An engine that cannot return from there calls `end` with the
    /// outcome, which ends the process.
    fn run(
        prepared: Self::Prepared,
        instantiated: impl FnOnce(),
        end: impl FnOnce(Outcome) + Send + 'static,
    ) -> Outcome;
}

/// The reason why a guest cannot run.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum NotRunnable {
    /// The module's file cannot be read, or has grown.
    #[error("{0}")]
    Unreadable(String),
    /// The text form does not parse.
    #[error("the WebAssembly text does not parse: {0}")]
    Text(String),
    /// The binary is malformed or invalid.
    #[error(
        "the module is not valid WebAssembly ({reason}): rebuild the guest, or push the image \
         again if it was cut off"
    )]
    Invalid {
        /// The engine's reason.
        reason: String,
    },
    /// The engine failed although the module is valid, in a process with a limited address space.
    #[error(
        "the engine cannot load the module ({reason}): the module is valid, and the container's \
         RLIMIT_AS allows {limit} bytes of address \
         space; raise or remove that limit"
    )]
    AddressSpace {
        /// The limit in bytes.
        limit: u64,
        /// The engine's reason.
        reason: String,
    },
    /// An import that WASI preview 1 does not have.
    #[error(
        "the guest imports {imports}, which this runtime does not provide: it provides WASI \
         preview 1 (module wasi_snapshot_preview1); \
         build the guest for wasm32-wasip1"
    )]
    UnknownImport {
        /// `module.name` of each, at most a few.
        imports: String,
    },
    /// Imports of WasmEdge's extension of WASI with sockets, on another engine.
    #[error(
        "the guest imports {imports}: sockets, which WasmEdge alone provides; \
         run it with engine=wasmedge"
    )]
    Sockets {
        /// `module.name` of each, at most a few.
        imports: String,
    },
    /// An import has another type than what this runtime provides.
    #[error(
        "the guest does not link ({reason}): build it for wasm32-wasip1, or run it with \
         engine=wasmedge if it was built for WasmEdge's sockets"
    )]
    Link {
        /// The engine's reason, with the import.
        reason: String,
    },
    /// The entry function is not exported.
    #[error("the guest exports no function `{function}` (it exports: {exports}): {hint}")]
    NoFunction {
        /// The requested function.
        function: String,
        /// The exported functions.
        exports: String,
        /// The next step.
        hint: &'static str,
    },
    /// The entry function needs arguments.
    #[error(
        "function `{function}` of the guest takes parameters; an entry function takes none \
         (arguments reach the guest through WASI)"
    )]
    Parameters {
        /// The requested function.
        function: String,
    },
    /// Compiled code that is not of this engine, or is damaged. It is never interpreted instead.
    #[error(
        "its compiled code does not load ({reason}): the runtime removes it, and compiles the \
         guest again for its next start"
    )]
    Code {
        /// The reason.
        reason: String,
    },
    /// The engine failed to set itself up.
    #[error("the engine cannot be set up: {0}")]
    Engine(String),
}
