//! Artifacts that are accepted, and those that are not.

use anyhow::{Result, ensure};
use wasmtime_engine::compile::precompile;

use crate::Test;
use crate::guest::{BUILD, Guest, Report, World, with_wasi};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("artifact_of_another_build_is_refused", other_build),
    (
        "artifact_that_is_cut_off_or_changed_in_its_header_is_refused",
        damaged,
    ),
    (
        "module_and_foreign_executable_are_not_artifacts",
        not_artifacts,
    ),
    ("import_that_is_not_provided_is_named", imports),
    ("every_finished_proposal_is_compiled_and_run", proposals),
    ("guest_runs_from_an_artifact_again_and_again", again),
];

fn other_build(world: &World) -> Result<()> {
    let module = test_guests::HELLO.bytes();
    let refusal = world
        .run(&Guest::artifact(precompile(&module, "another")?))?
        .refusal()?;
    ensure!(
        refusal.starts_with("the compiled guest does not load: ")
            && refusal.contains("another")
            && refusal.contains(wasmtime_engine::VERSION),
        "{refusal}"
    );
    Ok(())
}

fn damaged(world: &World) -> Result<()> {
    let artifact = precompile(&test_guests::HELLO.bytes(), BUILD)?;
    for index in 0..64 {
        // Fields that a loader of programs would use, which Wasmtime does not read.
        let unread = matches!(index, 7..40 | 48..58);
        let mut flipped = artifact.clone();
        flipped[index] ^= 0xff;
        let report = world.run(&Guest::artifact(flipped))?.report;
        let refused = matches!(&report, Report::Refused(text) if text.contains("does not load"));
        ensure!(refused || unread, "byte {index}: {report:?}");
    }
    for length in [0, 1, 63, 64, artifact.len() / 2, artifact.len() - 1] {
        let cut = Guest::artifact(artifact[..length].to_vec());
        let refusal = world.run(&cut)?.refusal()?;
        ensure!(
            refusal.contains("does not load") || (length == 0 && refusal.contains("mapped")),
            "{length}: {refusal}"
        );
    }
    Ok(())
}

fn not_artifacts(world: &World) -> Result<()> {
    let program = std::fs::read("/proc/self/exe")?;
    for bytes in [test_guests::HELLO.bytes().to_vec(), program] {
        let refusal = world.run(&Guest::artifact(bytes))?.refusal()?;
        ensure!(refusal.contains("does not load"), "{refusal}");
    }
    Ok(())
}

fn imports(world: &World) -> Result<()> {
    let refusal = world
        .run(&Guest::binary(&test_guests::UNKNOWN_IMPORT.bytes())?)?
        .refusal()?;
    ensure!(
        refusal.contains("nowhere") && refusal.contains("nothing"),
        "{refusal}"
    );
    // WasmEdge's function of this name has other parameters.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32) (result i32)))
        (func (export "_start")))"#;
    let refusal = world.run(&Guest::text(text)?)?.refusal()?;
    ensure!(
        refusal.contains("sock_accept") && refusal.contains("type"),
        "{refusal}"
    );
    Ok(())
}

fn proposals(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(memory $second i64 1)
           (type $pair (struct (field i32) (field (mut i64))))
           (tag $tag (param i32))
           (func $tail (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (return_call $tail (i32.sub (local.get 0) (i32.const 1))))
               (else (i32.const 1))))
           (func $caught (result i32)
             (block $handler (result i32)
               (try_table (catch $tag $handler) (throw $tag (i32.const 2)))
               (i32.const 0)))
           (func $gc (result i32)
             (struct.get $pair 0 (struct.new $pair (i32.const 4) (i64.const 0))))
           (func $simd (result i32)
             (i32x4.extract_lane 1 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 8 8 8 8))))
           (func (export "_start")
             (i64.store $second (i64.const 8) (i64.const 16))
             (call $proc_exit
               (i32.add (i32.wrap_i64 (i64.load $second (i64.const 8)))
               (i32.add (call $tail (i32.const 1000000))
               (i32.add (call $caught)
               (i32.add (call $gc) (call $simd)))))))"#,
    );
    world.run(&Guest::text(&text)?)?.output(31)?;
    Ok(())
}

fn again(world: &World) -> Result<()> {
    let guest = Guest::binary(&test_guests::EXIT_42.bytes())?;
    for _ in 0..20 {
        world.run(&guest)?.output(42)?;
    }
    Ok(())
}
