//! Guests that run to completion: exit codes, arguments, environment, standard streams.

use anyhow::{Result, ensure};
use test_guests::{BIG_STDOUT, BIG_STDOUT_LENGTH, EXIT_42, FUNCTION, HELLO, TRAP, pattern};

use testbed::image::{Blob, RootfsImage};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, reference, tests};

tests![
    a_guest_prints_and_succeeds,
    the_exit_code_of_the_guest_is_that_of_the_task,
    every_exit_code_of_one_byte_is_reported,
    trap_exits_134_and_is_named_on_standard_error,
    host_log_names_a_guest_of_the_root_by_its_digest,
    a_named_function_is_called_in_place_of_start,
    arguments_are_passed_in_order_and_argument_0_is_the_entrypoint,
    argument_with_blanks_and_other_alphabets_is_passed_unchanged,
    guest_environment_is_exactly_the_specs,
    standard_input_is_passed_and_closed,
    a_guest_without_input_reads_its_end_at_once,
    ten_megabytes_of_output_arrive_complete_and_in_order,
    standard_error_is_separate_from_standard_output,
    guest_has_a_clock_and_randomness,
];

fn a_guest_prints_and_succeeds(node: &Node) -> Result<Verdict> {
    expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")
}

fn the_exit_code_of_the_guest_is_that_of_the_task(node: &Node) -> Result<Verdict> {
    expect(&node.guest(&EXIT_42)?.run()?, 42, "")
}

fn every_exit_code_of_one_byte_is_reported(node: &Node) -> Result<Verdict> {
    for code in [1, 2, 125, 127, 255] {
        expect(&node.probe(&["exit", &code.to_string()])?.run()?, code, "")?;
    }
    Ok(Verdict::Holds)
}

fn trap_exits_134_and_is_named_on_standard_error(node: &Node) -> Result<Verdict> {
    let finished = node.guest(&TRAP)?.run()?;
    expect(&finished, 134, "")?;
    ensure!(
        finished.stderr.contains("unreachable"),
        "standard error does not name the trap:\n{}",
        finished.stderr
    );
    Ok(Verdict::Holds)
}

fn host_log_names_a_guest_of_the_root_by_its_digest(node: &Node) -> Result<Verdict> {
    let id = node.id("named-guest");
    let container = node.containerd.container(&node.image_of(&EXIT_42)?, &id);
    expect(&container.run()?, 42, "")?;
    let named = format!(
        "guest=\"{}\"",
        Blob::new("application/wasm", EXIT_42.bytes().into_owned()).digest()
    );
    let there = || Ok(node.containerd.log_of(&id)?.contains(&named).then_some(()));
    let evidence = || {
        node.containerd
            .log_of(&id)
            .unwrap_or_else(|error| format!("{error:#}"))
    };
    wait::until(
        format_args!("a line with {named}"),
        SETTLE_TIMEOUT,
        there,
        evidence,
    )?;
    Ok(Verdict::Holds)
}

fn a_named_function_is_called_in_place_of_start(node: &Node) -> Result<Verdict> {
    let mut image = RootfsImage::of_guest(&reference("named-function"), FUNCTION.bytes());
    image.entrypoint = vec!["/app.wasm#greet".to_owned()];
    let image = node.image(&image.pack()?)?;
    expect(
        &node.containerd.container(&image, &node.id("greet")).run()?,
        0,
        "greet\n",
    )?;
    expect(&node.guest(&FUNCTION)?.run()?, 0, "start\n")
}

fn arguments_are_passed_in_order_and_argument_0_is_the_entrypoint(node: &Node) -> Result<Verdict> {
    expect(
        &node.probe(&["args", "b", "a", "", "--c"])?.run()?,
        0,
        "/app.wasm\nargs\nb\na\n\n--c\n",
    )
}

fn argument_with_blanks_and_other_alphabets_is_passed_unchanged(node: &Node) -> Result<Verdict> {
    expect(
        &node
            .probe(&["args", "two words", "日本語", "\"'$HOME\\"])?
            .run()?,
        0,
        "/app.wasm\nargs\ntwo words\n日本語\n\"'$HOME\\\n",
    )
}

fn guest_environment_is_exactly_the_specs(node: &Node) -> Result<Verdict> {
    let container = node
        .probe(&["env"])?
        .env("FROM_CTR", "2")
        .env("EMPTY", "")
        .env("EQUALS", "a=b");
    expect(
        &container.run()?,
        0,
        "EMPTY=\nEQUALS=a=b\nFROM_CTR=2\nIMAGE=1\n",
    )
}

fn standard_input_is_passed_and_closed(node: &Node) -> Result<Verdict> {
    let input: Vec<u8> = pattern(200_000);
    let finished = node.probe(&["cat"])?.input(input.clone()).run()?;
    ensure!(
        finished.code == 0,
        "exit code {}; standard error:\n{}",
        finished.code,
        finished.stderr
    );
    ensure!(
        finished.stdout == input,
        "{} bytes went in, {} came out",
        input.len(),
        finished.stdout.len()
    );
    Ok(Verdict::Holds)
}

fn a_guest_without_input_reads_its_end_at_once(node: &Node) -> Result<Verdict> {
    expect(&node.probe(&["cat"])?.flag("--null-io").run()?, 0, "")
}

fn ten_megabytes_of_output_arrive_complete_and_in_order(node: &Node) -> Result<Verdict> {
    let finished = node.guest(&BIG_STDOUT)?.run()?;
    ensure!(
        finished.code == 0,
        "exit code {}; standard error:\n{}",
        finished.code,
        finished.stderr
    );
    ensure!(
        finished.stdout.len() == BIG_STDOUT_LENGTH,
        "{} of {BIG_STDOUT_LENGTH} bytes arrived",
        finished.stdout.len()
    );
    let expected = pattern(BIG_STDOUT_LENGTH);
    let differs = finished
        .stdout
        .iter()
        .zip(&expected)
        .position(|(found, expected)| found != expected);
    ensure!(
        differs.is_none(),
        "the output differs at byte {}",
        differs.unwrap_or_default()
    );
    Ok(Verdict::Holds)
}

fn standard_error_is_separate_from_standard_output(node: &Node) -> Result<Verdict> {
    let finished = node.probe(&["stderr", "a complaint"])?.run()?;
    expect(&finished, 0, "")?;
    ensure!(
        finished.stderr.contains("a complaint\n"),
        "standard error is {:?}",
        finished.stderr
    );
    Ok(Verdict::Holds)
}

fn guest_has_a_clock_and_randomness(node: &Node) -> Result<Verdict> {
    let first = node.probe(&["random", "16"])?.run()?;
    let second = node.probe(&["random", "16"])?.run()?;
    ensure!(
        first.code == 0 && first.stdout.len() == 33,
        "{} {:?}",
        first.code,
        first.text()
    );
    ensure!(
        first.stdout != second.stdout,
        "twice the same random bytes: {}",
        first.text()
    );
    let slept = node.probe(&["sleep", "0.2"])?.run()?;
    expect(&slept, 0, "sleeping\n")?;
    ensure!(
        slept.took.as_millis() >= 200,
        "it slept 0.2 s in {:?}",
        slept.took
    );
    Ok(Verdict::Holds)
}
