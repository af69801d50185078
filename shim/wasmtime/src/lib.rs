//! Wasmtime as an engine for core modules with WASI preview 1.
//!
//! | module | feature | content |
//! |---|---|---|
//! | `config` | | the settings that both sides must share |
//! | [`compile`] | `compile` | a module's bytes to an artifact, in the compile helper |
//! | [`run`] | `run` | an artifact to a running guest, in the guest's process |
//!
//! The product builds the two sides apart: the compile helper has no runtime, and a process that
//! runs guests has no compiler. They share [`VERSION`] and one function that makes their settings,
//! because Wasmtime refuses an artifact whose settings differ from its own.

#[cfg(any(feature = "compile", feature = "run"))]
mod config;

#[cfg(feature = "compile")]
pub mod compile;
#[cfg(feature = "run")]
pub mod run;

#[cfg(any(feature = "compile", feature = "run"))]
pub use config::STACK_BYTES;

/// The version of Wasmtime, with its minor and patch numbers.
pub const VERSION: &str = env!("WASMTIME_VERSION");

/// Returns name and version, for logs and for the keys of artifacts.
pub fn version() -> String {
    format!("Wasmtime {VERSION}")
}
