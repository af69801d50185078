//! `wasmedge-compile`: compiles one guest with LLVM.

use std::process::ExitCode;

use compile_helper::{Refusal, Wasm};
use guest_compiler::{ARTIFACT, Backend, Tier};
use wasmedge_sdk::{CompilerOptimizationLevel, CompilerOutputFormat, WasmEdgeResult};
use wasmedge_sys::{Compiler, Config};

fn main() -> ExitCode {
    compile_helper::run(compile)
}

fn compile(wasm: &Wasm<'_>) -> Result<(), Refusal> {
    let level = match wasm.backend {
        Backend::WasmEdge(Tier::Baseline) => CompilerOptimizationLevel::O0,
        Backend::WasmEdge(Tier::Optimized) => CompilerOptimizationLevel::O2,
        Backend::Wasmtime => {
            let text = "the request is for Wasmtime's compiler";
            return Err(Refusal::Module(text.to_owned()));
        }
    };
    with_level(wasm.bytes, level).map_err(|error| Refusal::Module(error.to_string()))
}

fn with_level(bytes: &[u8], level: CompilerOptimizationLevel) -> WasmEdgeResult<()> {
    let mut config = Config::create()?;
    config.set_aot_optimization_level(level);
    config.set_aot_compiler_output_format(CompilerOutputFormat::Native);
    Compiler::create(Some(&config))?.compile_from_bytes(bytes, ARTIFACT)
}
