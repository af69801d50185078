//! The settings that compiled code depends on, for both sides.
//!
//! Every setting that Wasmtime compares when it loads an artifact is set here, also where it is the
//! default: defaults depend on cargo features, and the two sides are built with different ones.

use std::num::NonZeroUsize;

use wasmtime::{
    Collector, Config, Inlining, ModuleVersionStrategy, Result, WasmBacktraceDetails, WasmFeatures,
};

use crate::VERSION;

/// Bytes of a guest's call stack. WasmEdge's interpreter allows as many for the values of calls.
pub const STACK_BYTES: usize = 32 << 20;
/// Bytes that functions of the host may take on the same stack, below the guest's frames.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Maximum number of frames in the text of a trap.
const MAX_FRAMES: usize = 20;
/// Bytes of addresses for each memory of 32 bits, which so never moves and needs no bounds checks.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Bytes of guard pages around each memory: accesses with a constant offset below it need no bounds
/// check.
const MEMORY_GUARD: u64 = 32 << 20;
/// Bytes of addresses for the growth of a memory that had to move.
const MEMORY_GROWTH: u64 = 2 << 30;

/// Returns the settings for artifacts of the runtime's build `build`. An artifact of another build
/// is refused: Wasmtime alone would compare its major version, and a patch may correct a
/// miscompilation.
///
/// # Errors
/// If `build` is longer than about two hundred bytes.
pub(crate) fn shared(build: &str) -> Result<Config> {
    let mut config = Config::new();
    config.module_version(ModuleVersionStrategy::Custom(format!("{VERSION} {build}")))?;

    // The finished proposals. Without threads: Wasmtime corrects errors of shared memories in the
    // newest version only, and WASI preview 1 cannot start a thread.
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(
        WasmFeatures::WASM3
            .union(WasmFeatures::GC_TYPES)
            .difference(WasmFeatures::THREADS),
        true,
    );
    config.collector(Collector::Copying);
    config.concurrency_support(false);
    config.relaxed_simd_deterministic(false);

    // A guest is stopped by a signal to its process. Code that counts or polls is slower by half.
    config.consume_fuel(false);
    config.epoch_interruption(false);

    // A trap names functions and offsets. What only debuggers and profilers of the host would read
    // is left out.
    config.generate_address_map(true);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES));
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.debug_info(false);
    config.debug_symbols(false);
    config.native_unwind_info(false);

    config.signals_based_traps(true);
    config.memory_reservation(MEMORY_RESERVATION);
    config.memory_guard_size(MEMORY_GUARD);
    config.memory_reservation_for_growth(MEMORY_GROWTH);
    config.memory_may_move(true);
    config.guard_before_linear_memory(true);
    config.gc_heap_reservation(MEMORY_RESERVATION);
    config.gc_heap_guard_size(MEMORY_GUARD);
    config.gc_heap_reservation_for_growth(MEMORY_GROWTH);
    config.gc_heap_may_move(true);
    config.memory_init_cow(true);
    config.table_lazy_init(true);
    config.compiler_inlining(Inlining::No);

    config.max_wasm_stack(STACK_BYTES);
    config.async_stack_size(STACK_BYTES + HOST_STACK_BYTES);
    config.async_stack_zeroing(false);
    Ok(config)
}

#[cfg(test)]
#[cfg(all(feature = "compile", feature = "run"))]
mod tests {
    use wasmtime::{Engine, Module};

    use crate::compile::precompile;

    fn load(change: impl FnOnce(&mut wasmtime::Config)) -> wasmtime::Result<Module> {
        let module = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        let artifact = precompile(&module, "build").unwrap();
        let mut config = super::shared("build").unwrap();
        config.enable_compiler(false);
        change(&mut config);
        let engine = Engine::new(&config).unwrap();
        #[expect(unsafe_code, reason = "machine code cannot be checked")]
        // SAFETY: the bytes are an artifact that was just made.
        unsafe {
            Module::deserialize(&engine, artifact)
        }
    }

    #[test]
    fn artifact_needs_the_cpu_features_that_it_was_compiled_for() {
        assert!(load(|_| {}).is_ok());
        let refused = load(|config| {
            #[expect(
                unsafe_code,
                reason = "a wrong answer of true would run missing instructions"
            )]
            // SAFETY: it denies every feature.
            unsafe {
                config.detect_host_feature(|_| Some(false))
            };
        });
        let reason = format!("{:#}", refused.unwrap_err());
        assert!(reason.contains("not available on the host"), "{reason}");
    }

    #[test]
    fn settings_that_change_code_must_be_equal() {
        for change in [
            (|config| _ = config.epoch_interruption(true)) as fn(&mut wasmtime::Config),
            |config| _ = config.consume_fuel(true),
            |config| _ = config.memory_reservation(1 << 20),
            |config| _ = config.memory_guard_size(1 << 16),
            |config| _ = config.signals_based_traps(false),
        ] {
            assert!(load(change).is_err());
        }
    }
}
