//! The engine: the only place that knows which WebAssembly runtime it is.
//!
//! An engine works in two steps, because two things can go wrong at two times: [`Engine::prepare`]
//! runs while the container is being created, so that a guest which can never run fails Create with
//! a reason; [`Engine::run`] runs once the container is started. No code of the guest runs in the
//! first step.

use thiserror::Error;

use crate::outcome::Outcome;
use crate::wasi::WasiContext;

mod address_space;
pub mod inspect;
mod wasmedge;

pub use wasmedge::WasmEdge as Wasm;

/// A WebAssembly engine. Lives in the container's process: one guest, then the process ends.
pub trait Engine {
    /// A guest that is loaded and checked.
    type Prepared;

    /// Name and version, as `-info` and logs show them.
    fn version() -> String;

    /// Does once what every guest's process would do again. Runs in the process that those are
    /// forked from, which has one thread: it may leave memory behind, no threads and no open files.
    fn warm();

    /// Loads and validates a binary `guest` and checks that all it needs exists. Runs nothing of
    /// it.
    ///
    /// # Errors
    /// When the guest cannot run on this engine.
    fn prepare(
        guest: &[u8],
        function: &str,
        wasi: &WasiContext,
    ) -> Result<Self::Prepared, NotRunnable>;

    /// Runs the guest to its end. `instantiated` is called in between, when nothing is held any
    /// more of what only making the instance took. The guest's call stack is bounded: exhausting it
    /// is [`Outcome::stack_exhausted`]. An engine that cannot return from there calls `end` with
    /// the outcome, which ends the process.
    fn run(
        prepared: Self::Prepared,
        instantiated: impl FnOnce(),
        end: impl FnOnce(Outcome) + Send + 'static,
    ) -> Outcome;
}

/// Why a guest cannot run.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotRunnable {
    /// The text form does not parse.
    #[error("the WebAssembly text does not parse: {0}")]
    Text(String),
    /// The binary is malformed or invalid.
    #[error(
        "the module is not valid WebAssembly ({reason}): rebuild the guest, or push the image \
         again if it was cut off"
    )]
    Invalid {
        /// What the engine says.
        reason: String,
    },
    /// The engine failed although the module is valid, in a process whose address space is limited.
    #[error(
        "the engine cannot load the module ({reason}): the module is valid, and the container's \
         RLIMIT_AS allows {limit} bytes of address \
         space; raise or remove that limit"
    )]
    AddressSpace {
        /// The limit in bytes.
        limit: u64,
        /// What the engine says.
        reason: String,
    },
    /// A needed import that WASI preview 1 does not have.
    #[error(
        "the guest imports {imports}, which this runtime does not provide: it provides WASI \
         preview 1 (module wasi_snapshot_preview1); \
         build the guest for wasm32-wasip1"
    )]
    UnknownImport {
        /// `module.name` of each, at most a few.
        imports: String,
    },
    /// The entry function is not exported.
    #[error("the guest exports no function `{function}` (it exports: {exports}): {hint}")]
    NoFunction {
        /// The function asked for.
        function: String,
        /// The exported functions.
        exports: String,
        /// What to do.
        hint: &'static str,
    },
    /// The entry function needs arguments.
    #[error(
        "function `{function}` of the guest takes parameters; an entry function takes none \
         (arguments reach the guest through WASI)"
    )]
    Parameters {
        /// The function asked for.
        function: String,
    },
    /// The engine failed to set itself up.
    #[error("the engine cannot be set up: {0}")]
    Engine(String),
}
