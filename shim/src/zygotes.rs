//! The zygotes of a host: a process for each engine, which forks the guests that run on it.
//!
//! An engine's state is in its own zygote alone. WasmEdge's is made when the host starts; it also
//! forks the processes that run no guest: look-ups, holders of namespaces, programs of exec.

use std::sync::Arc;

use process_forker::{Failure, Forkers, Zygote};

use crate::engine::{Engine as _, EngineName, Wasm, Wasmtime};

/// The zygotes of a host.
#[derive(Debug)]
pub(crate) struct Zygotes {
    wasmedge: Arc<Zygote>,
    wasmtime: Arc<Zygote>,
}

impl Zygotes {
    /// Describes the zygotes. No process is made yet: each is made when it is first needed.
    pub(crate) fn new(forkers: &Arc<Forkers>) -> Self {
        let zygote = |prepare| Arc::new(Zygote::new(Arc::clone(forkers), prepare));
        Self {
            wasmedge: zygote(prepare_wasmedge),
            wasmtime: zygote(prepare_wasmtime),
        }
    }

    /// Returns the zygote of guests that run on `engine`.
    pub(crate) fn of(&self, engine: EngineName) -> &Arc<Zygote> {
        match engine {
            EngineName::WasmEdge => &self.wasmedge,
            EngineName::Wasmtime => &self.wasmtime,
        }
    }

    /// Returns the zygote of processes that run no guest.
    pub(crate) fn main(&self) -> &Arc<Zygote> {
        self.of(EngineName::WasmEdge)
    }
}

/// Prepares WasmEdge's zygote: it holds the engine, and nothing of the node's files.
fn prepare_wasmedge() -> Result<(), Failure> {
    Wasm::warm();
    guest_sandbox::enter_empty_root()
}

/// Prepares Wasmtime's zygote: it has none of WasmEdge's state.
fn prepare_wasmtime() -> Result<(), Failure> {
    Wasmtime::warm();
    guest_sandbox::enter_empty_root()
}
