//! Errors of guests that cannot run. Guests that print are tested on containerd; here only those
//! run that print nothing.

use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::workload::START;

/// Returns a lock: an engine lives once in a process, in one thread, and its log and its trap
/// handler are the process's. Two tests at the same time crashed it once in a hundred runs.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ENGINE: Mutex<()> = Mutex::new(());
    failures::lock_ignoring_poison(&ENGINE)
}

fn context() -> WasiContext {
    WasiContext {
        args: vec!["guest".to_owned()],
        env: Vec::new(),
        preopens: Vec::new(),
    }
}

fn prepare(text: &str, function: &str) -> Result<PreparedGuest, NotRunnable> {
    load(wat::parse_str(text).unwrap(), function)
}

fn load(module: Vec<u8>, function: &str) -> Result<PreparedGuest, NotRunnable> {
    WasmEdge::prepare(LoadableCode::Module(module), function, &context())
}

fn run(text: &str, function: &str) -> Outcome {
    WasmEdge::run(prepare(text, function).unwrap(), || {}, unexpected)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine gives it away")]
fn unexpected(outcome: Outcome) {
    unreachable!("the process would have ended: {outcome}")
}

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

#[test]
fn each_end_of_a_guest_has_its_outcome() {
    let _alone = alone();
    assert!(WasmEdge::version().starts_with("WasmEdge 0."));
    assert_eq!(
        run(r#"(module (func (export "_start")))"#, START),
        Outcome::Exited(0)
    );
    assert_eq!(
        run(
            &format!(r#"(module {EXIT} (func (export "_start") (call $exit (i32.const 42))))"#),
            START
        ),
        Outcome::Exited(42)
    );
    assert_eq!(
        run(
            &format!(r#"(module {EXIT} (func (export "f") (call $exit (i32.const 3))))"#),
            "f"
        ),
        Outcome::Exited(3)
    );

    let Outcome::Trapped(reason) = run(r#"(module (func (export "_start") unreachable))"#, START)
    else {
        panic!("no trap")
    };
    assert!(reason.contains("unreachable"), "{reason}");

    let initialized = format!(
        r#"(module {EXIT} (global $set (mut i32) (i32.const 1))
            (func (export "_initialize") (global.set $set (i32.const 7)))
            (func (export "f") (call $exit (global.get $set))))"#
    );
    assert_eq!(
        run(&initialized, "f"),
        Outcome::Exited(7),
        "a reactor is initialized first"
    );

    let wrong_type = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#;
    assert!(matches!(run(wrong_type, START), Outcome::NotRunnable(_)));
}

#[test]
fn guest_that_can_never_run_is_refused_before_it_starts() {
    let _alone = alone();
    let unknown = r#"(module (import "env" "mystery" (func)) (func (export "_start")))"#;
    assert!(matches!(
        prepare(unknown, START).unwrap_err(),
        NotRunnable::UnknownImport { .. }
    ));
    let unknown = r#"(module (import "wasi_snapshot_preview1" "no_such_call" (func)) (func (export "_start")))"#;
    assert!(
        prepare(unknown, START)
            .unwrap_err()
            .to_string()
            .contains("wasi_snapshot_preview1.no_such_call")
    );
    assert!(matches!(
        prepare("(module)", START).unwrap_err(),
        NotRunnable::NoFunction { .. }
    ));
    // Well-formed, so that only validation can refuse it: an operand has the wrong type.
    let invalid = wat::parse_str(
        r#"(module (func (export "_start") (drop (i32.add (i64.const 1) (i32.const 1)))))"#,
    )
    .unwrap();
    assert!(matches!(
        load(invalid, START).unwrap_err(),
        NotRunnable::Invalid { .. }
    ));
}

#[test]
fn native_code_within_a_guest_is_not_loaded() {
    let _alone = alone();
    let mut module = wat::parse_str(format!(
        r#"(module {EXIT} (func (export "_start") (call $exit (i32.const 5))))"#
    ))
    .unwrap();
    // A custom section named `wasmedge`, where a compiled guest has machine code; this one has
    // arbitrary bytes.
    module.extend_from_slice(b"\0\x0d\x08wasmedgejunk");
    assert_eq!(
        WasmEdge::run(load(module, START).unwrap(), || {}, unexpected),
        Outcome::Exited(5)
    );
}

#[test]
fn guest_that_calls_fifty_thousand_deep_ends_well() {
    let _alone = alone();
    // Each frame holds a parameter, twelve locals and an operand.
    let deep = format!(
        r#"(module {EXIT}
            (func $deep (param i32) (result i32) (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
                (if (result i32) (local.get 0)
                    (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
                    (else (i32.const 0))))
            (func (export "_start") (call $exit (i32.sub (call $deep (i32.const 50000)) (i32.const 49950)))))"#
    );
    assert_eq!(run(&deep, START), Outcome::Exited(50));
}
