//! The compiler's side: a module's bytes to an artifact.

use thiserror::Error;
use wasmtime::{Engine, OptLevel, RegallocAlgorithm, Strategy};

use crate::config;

/// A module was not compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// The module is invalid, or beyond what the compiler can do.
    #[error(
        "Wasmtime cannot compile the module ({reason}): if it is malformed, rebuild the guest, or \
         push the image again if it was cut off; else run it with engine=wasmedge"
    )]
    Module {
        /// The compiler's reason, with the offset in the module.
        reason: String,
    },
    /// The compiler does not work with our settings on this machine.
    #[error("Wasmtime's compiler cannot be set up on this machine: {reason}")]
    Compiler {
        /// The compiler's reason.
        reason: String,
    },
}

/// Compiles a core module's binary form for the machine that it runs on. `build` identifies the
/// build of the runtime whose guests may load the artifact.
///
/// It takes one thread, because Wasmtime is built without parallel compilation, and neither reads
/// nor writes a file. Time and memory have no bound: the module may be hostile.
///
/// # Errors
/// If the module does not compile. Hostile bytes may also make the compiler panic.
pub fn precompile(wasm: &[u8], build: &str) -> Result<Vec<u8>, CompileError> {
    let engine = engine(build).map_err(|error| CompileError::Compiler {
        reason: format!("{error:#}"),
    })?;
    engine
        .precompile_module(wasm)
        .map_err(|error| CompileError::Module {
            reason: format!("{error:#}"),
        })
}

fn engine(build: &str) -> wasmtime::Result<Engine> {
    let mut config = config::shared(build)?;
    config.strategy(Strategy::Cranelift);
    config.cranelift_opt_level(OptLevel::Speed);
    // The faster allocator would make slower code.
    config.cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking);
    Engine::new(&config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_becomes_an_artifact_and_anything_else_an_error_with_its_place() {
        let module = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        let artifact = precompile(&module, "build").unwrap();
        assert!(artifact.starts_with(b"\x7fELF"));

        let invalid = wat::parse_str("(module (func (result i32) i64.const 1))").unwrap();
        let component = wat::parse_str("(component)").unwrap();
        for (bytes, expected) in [
            (&invalid[..], "expected i32, found i64"),
            (&component[..], "component"),
            (&module[..module.len() - 1], "offset"),
            (b"(module)", "magic"),
            (b"", "offset"),
        ] {
            let error = precompile(bytes, "build").unwrap_err();
            assert!(
                matches!(&error, CompileError::Module { reason } if reason.contains(expected)),
                "{expected}: {error}"
            );
        }
    }

    #[test]
    fn shared_memory_is_refused() {
        let threads = wat::parse_str("(module (memory 1 1 shared))").unwrap();
        let error = precompile(&threads, "build").unwrap_err().to_string();
        assert!(
            error.contains("threads") && error.contains("engine=wasmedge"),
            "{error}"
        );
    }

    #[test]
    fn build_identifier_that_no_artifact_can_hold_is_an_error() {
        let error = precompile(b"", &"b".repeat(300)).unwrap_err();
        assert!(matches!(error, CompileError::Compiler { .. }), "{error}");
    }
}
