//! Arguments, environment, exit codes and traps.

use anyhow::{Result, ensure};
use wasmtime_engine::STACK_BYTES;

use crate::Test;
use crate::guest::{Guest, Report, World, with_wasi};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("arguments_and_environment_arrive_exactly", context_arrives),
    ("every_exit_code_is_reported_whole", exit_codes),
    ("functions_are_called_in_their_order", calls),
    ("trap_names_the_functions_and_the_cause", traps),
    ("names_in_a_trap_are_on_one_line_and_bounded", names),
    ("endless_recursion_exhausts_the_stack", recursion),
    ("guest_that_calls_fifty_thousand_deep_ends_well", deep),
    ("start_function_may_trap_or_exit", start_function),
    ("pointer_outside_of_the_memory_is_a_trap", bad_pointer),
    ("memory_that_cannot_be_had_is_refused_to_the_guest", growth),
    (
        "guest_without_addresses_for_its_memory_is_not_run",
        addresses,
    ),
];

fn context_arrives(world: &World) -> Result<()> {
    let all = with_wasi(
        r#"(func $show
             (call $print (i32.const 2048) (i32.load (i32.const 84))))
           (func (export "_start")
             (drop (call $args_sizes_get (i32.const 80) (i32.const 84)))
             (drop (call $args_get (i32.const 1024) (i32.const 2048)))
             (call $number (i32.load (i32.const 80)))
             (call $show)
             (drop (call $environ_sizes_get (i32.const 80) (i32.const 84)))
             (drop (call $environ_get (i32.const 1024) (i32.const 2048)))
             (call $number (i32.load (i32.const 80)))
             (call $show))"#,
    );
    let guest = Guest::text(&all)?;
    let output = world.run(&guest)?.output(0)?;
    ensure!(output == "1\nguest\x000\n", "{output:?}");
    let output = world
        .run(
            &guest
                .args(&["/app.wasm", "b", "", "a é"])
                .env(&["B=2", "A=1=x", "EMPTY=", "B=3"]),
        )?
        .output(0)?;
    let expected = "4\n/app.wasm\0b\0\0a é\x004\nB=2\0A=1=x\0EMPTY=\0B=3\0";
    ensure!(output == expected, "{output:?}");
    Ok(())
}

fn exit_codes(world: &World) -> Result<()> {
    for code in [0, 1, 42, 125, 126, 134, 255, 256, u32::MAX] {
        let text = with_wasi(&format!(
            r#"(func (export "_start") (call $proc_exit (i32.const {code})) unreachable)"#
        ));
        world.run(&Guest::text(&text)?)?.output(code)?;
    }
    Ok(())
}

fn calls(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(global $set (mut i32) (i32.const 1))
           (func (export "_initialize") (global.set $set (i32.const 7)))
           (func (export "f") (result i64 f32)
             (call $number (global.get $set)) (i64.const 1) (f32.const 1))"#,
    );
    let guest = Guest::text(&text)?;
    let output = world.run(&guest.clone().calls(&["f"]))?.output(0)?;
    ensure!(output == "1\n", "{output}");
    let output = world
        .run(&guest.clone().calls(&["_initialize", "f"]))?
        .output(0)?;
    ensure!(output == "7\n", "{output}");
    let report = world.run(&guest.calls(&["g"]))?.report;
    ensure!(
        report == Report::NotRunnable("no function `g`".to_owned()),
        "{report:?}"
    );
    Ok(())
}

fn traps(world: &World) -> Result<()> {
    for (code, expected) in [
        ("unreachable", "unreachable"),
        (
            "(drop (i32.load (i32.const 65536)))",
            "out of bounds memory access",
        ),
        (
            "(drop (i32.load offset=0x7fffffff (i32.const -1)))",
            "out of bounds memory access",
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "integer divide by zero",
        ),
        (
            "(drop (i32.trunc_f32_s (f32.const nan)))",
            "invalid conversion to integer",
        ),
        (
            "(call_indirect (type $none) (i32.const 9))",
            "undefined element",
        ),
        (
            "(call_indirect (type $none) (i32.const 0))",
            "indirect call type mismatch",
        ),
        ("(throw $tag)", "exception"),
    ] {
        let text = format!(
            r#"(module (memory 1) (type $none (func)) (tag $tag) (table 1 funcref) (elem (i32.const 0) $other)
                (func $other (param i64))
                (func $inner {code})
                (func $outer call $inner)
                (func $_start (export "_start") call $outer))"#
        );
        let trap = world.run(&Guest::text(&text)?)?.trap()?;
        let lines: Vec<&str> = trap.lines().collect();
        ensure!(
            lines[0].contains(expected) && !lines[0].contains("wasm trap:"),
            "{trap}"
        );
        ensure!(lines.len() == 4, "{trap}");
        for (line, function) in lines[1..].iter().zip(["inner", "outer", "_start"]) {
            let beginning = format!("  at {function} (offset 0x");
            ensure!(line.starts_with(&beginning), "{trap}");
        }
    }
    Ok(())
}

fn names(world: &World) -> Result<()> {
    let name = "n".repeat(90_000);
    let text = format!(r#"(module (func $"a\1b[2J\n{name}" (export "_start") unreachable))"#);
    let trap = world.run(&Guest::text(&text)?)?.trap()?;
    ensure!(trap.lines().count() == 2 && trap.len() < 400, "{trap}");
    ensure!(trap.contains(r"at a\u{1b}[2J\nnnn"), "{trap}");
    Ok(())
}

fn recursion(world: &World) -> Result<()> {
    let report = world
        .run(&Guest::binary(&test_guests::RECURSE.bytes())?)?
        .report;
    ensure!(report == Report::StackExhausted, "{report:?}");
    let text = "(module (func $start call $start) (start $start) (func (export \"_start\")))";
    let report = world.run(&Guest::text(text)?)?.report;
    ensure!(report == Report::StackExhausted, "{report:?}");
    Ok(())
}

fn deep(world: &World) -> Result<()> {
    // Each frame holds a parameter, twelve locals and an operand.
    let text = with_wasi(
        r#"(func $deep (param i32) (result i32) (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
               (else (i32.const 0))))
           (func (export "_start") (call $proc_exit (i32.sub (call $deep (i32.const 50000)) (i32.const 49950))))"#,
    );
    world.run(&Guest::text(&text)?)?.output(50)?;
    ensure!(STACK_BYTES >= 32 << 20);
    Ok(())
}

fn start_function(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(func $start (call $proc_exit (i32.const 9))) (start $start) (func (export "_start"))"#,
    );
    world.run(&Guest::text(&text)?)?.output(9)?;
    let text = r#"(module (func $start unreachable) (start $start) (func (export "_start")))"#;
    let trap = world.run(&Guest::text(text)?)?.trap()?;
    ensure!(trap.contains("at start (offset"), "{trap}");
    let text = r#"(module (memory 1) (data (i32.const 65536) "x") (func (export "_start")))"#;
    let trap = world.run(&Guest::text(text)?)?.trap()?;
    ensure!(trap.contains("out of bounds memory access"), "{trap}");
    Ok(())
}

fn bad_pointer(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(func $_start (export "_start") (drop (call $random_get (i32.const 262140) (i32.const 64))))"#,
    );
    let trap = world.run(&Guest::text(&text)?)?.trap()?;
    ensure!(trap.contains("at _start"), "{trap}");
    Ok(())
}

fn growth(world: &World) -> Result<()> {
    let output = world
        .run(&Guest::binary(&test_guests::GROW.bytes())?)?
        .output(0)?;
    ensure!(output == "grown\n", "{output}");
    let text = with_wasi(
        r#"(func (export "_start") (call $number (i32.eq (memory.grow (i32.const 65536)) (i32.const -1))))"#,
    );
    let output = world.run(&Guest::text(&text)?)?.output(0)?;
    ensure!(output == "1\n", "{output}");
    Ok(())
}

fn addresses(world: &World) -> Result<()> {
    let guest = Guest::binary(&test_guests::HELLO.bytes())?.address_space(1 << 30);
    let finished = world.run(&guest)?;
    let text = format!("{finished:?}");
    ensure!(
        matches!(finished.report, Report::NotRunnable(reason) if reason.contains("memory")),
        "{text}"
    );
    Ok(())
}
