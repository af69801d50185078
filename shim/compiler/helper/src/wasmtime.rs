//! `wasmtime-compile`: compiles one guest with Cranelift.

use std::process::ExitCode;

use compile_helper::{Failure, Refusal, Wasm, write_artifact};
use wasmtime_engine::compile::{CompileError, precompile};

fn main() -> ExitCode {
    compile_helper::run(compile)
}

fn compile(wasm: &Wasm<'_>) -> Result<(), Refusal> {
    let code = precompile(wasm.bytes, wasm.build).map_err(|error| match error {
        CompileError::Module { .. } => Refusal::Module(error.to_string()),
        CompileError::Compiler { .. } => {
            Refusal::Node(Failure::of("set up Wasmtime's compiler", error))
        }
    })?;
    write_artifact(&code)
}
