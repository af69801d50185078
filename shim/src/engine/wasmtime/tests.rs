//! Errors of guests that cannot run, and outcomes. No guest traps here: WasmEdge's tests run in the
//! same process, and each engine handles the signals of its own code.

use std::io::Write as _;

use wasmtime_engine::compile::precompile;

use super::*;
use crate::workload::START;

fn artifact(text: &str, build: &str) -> OwnedFd {
    let artifact = precompile(&wat::parse_str(text).unwrap(), build).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&artifact).unwrap();
    file.into()
}

fn prepare(text: &str, function: &str) -> Result<Prepared, NotRunnable> {
    Wasmtime::warm();
    let context = WasiContext {
        args: vec!["guest".to_owned()],
        env: Vec::new(),
        preopens: vec!["/:/".to_owned()],
    };
    Wasmtime::prepare(artifact(text, &Wasmtime::build()), function, &context)
}

fn run(text: &str, function: &str) -> Outcome {
    let prepared = prepare(text, function).unwrap();
    Wasmtime::run(prepared, || {}, |_| {})
}

fn refused(text: &str, function: &str) -> String {
    prepare(text, function).err().unwrap().to_string()
}

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

#[test]
fn guest_exits_with_its_code() {
    assert!(Wasmtime::version().starts_with("Wasmtime 48."));
    let exit = format!(r#"(module {EXIT} (func (export "f") (call $exit (i32.const 200))))"#);
    assert_eq!(run(&exit, "f"), Outcome::Exited(200));

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
}

#[test]
fn outcome_names_the_trap_and_the_limit_of_the_stack() {
    for (ended, expected) in [
        (Ended::Exited(7), "exited with code 7"),
        (Ended::Trapped("why".to_owned()), "trap: why"),
        (
            Ended::StackExhausted,
            "trap: call stack exhausted: the limit is 32 MiB of nested calls; look for a \
             recursion that does not end",
        ),
        (Ended::NotRunnable("why".to_owned()), "cannot run: why"),
    ] {
        assert_eq!(outcome(ended).to_string(), expected);
    }
}

#[test]
fn guest_that_can_never_run_is_refused_before_it_starts() {
    let unknown = r#"(module (import "env" "mystery" (func)) (func (export "_start")))"#;
    let text = refused(unknown, START);
    assert!(text.contains("the guest imports env.mystery"), "{text}");
    assert!(refused("(module)", START).contains("it is a library"));
    let parameter = r#"(module (func (export "f") (param i32)))"#;
    assert!(refused(parameter, "f").contains("takes parameters"));
    let other_type = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#;
    let text = refused(other_type, START);
    assert!(
        text.contains("proc_exit") && text.contains("type"),
        "{text}"
    );
}

#[test]
fn sockets_of_wasmedge_are_refused_with_the_engine_to_choose() {
    let sockets = r#"(module
        (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "sock_open_v2" (func (param i32 i32 i32) (result i32)))
        (func (export "_start")))"#;
    let text = refused(sockets, START);
    assert!(
        text.contains("sock_open_v2")
            && text.contains("engine=wasmedge")
            && !text.contains("fd_close"),
        "{text}"
    );
}

#[test]
fn artifact_of_another_build_is_refused_as_code() {
    Wasmtime::warm();
    let context = WasiContext {
        args: Vec::new(),
        env: Vec::new(),
        preopens: Vec::new(),
    };
    let other = artifact(r#"(module (func (export "_start")))"#, "other");
    let refused = Wasmtime::prepare(other, START, &context).err().unwrap();
    assert!(matches!(refused, NotRunnable::Code { .. }), "{refused}");
}
