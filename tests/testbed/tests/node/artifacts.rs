//! Compiled guests: tiers, engines, the artifact store and what happens to it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use test_guests::{EXIT_42, FUNCTION, HELLO, RECURSE, SPIN, TRAP, UNKNOWN_IMPORT};
use testbed::containerd::{Container, Finished};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, expect_refusal, tests};

tests![
    first_start_waits_for_baseline_code_and_later_ones_run_optimized_code,
    start_that_does_not_wait_is_interpreted_and_compiled_in_the_background,
    start_with_compile_wait_runs_optimized_code,
    start_with_compile_never_compiles_nothing,
    guest_in_interpreter_mode_is_not_compiled,
    guests_on_wasmtime_meet_the_contract,
    traps_on_wasmtime_name_their_functions,
    wasmtime_refuses_what_it_does_not_provide,
    wasmtime_without_a_compilation_is_refused_with_the_next_step,
    damaged_artifact_is_compiled_again,
    guests_run_on_after_their_store_is_removed,
    store_that_cannot_be_used_costs_no_pod,
    settings_that_are_not_possible_fail_create_by_name,
    compiled_guest_sees_no_artifact,
];

/// The store's folder, in each test's own mount namespace.
const STORE: &str = "/var/lib/wasmedge-runtime/artifacts";
const ENGINE: &str = "runtime.wasmedge.dev/engine";
const MODE: &str = "runtime.wasmedge.dev/mode";
const COMPILE: &str = "runtime.wasmedge.dev/compile";
const COMPILE_WAIT: &str = "runtime.wasmedge.dev/compile-wait";

/// Waits for a line of the host's log with all these words.
fn logged(node: &Node, words: &[&str]) -> Result<()> {
    let found = || {
        let log = node.containerd.log()?;
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        Ok(log.lines().any(has_all).then_some(()))
    };
    wait::until(
        format_args!("a line of the host's log with {words:?}"),
        SETTLE_TIMEOUT,
        found,
        || node.containerd.evidence(),
    )
}

/// Runs a container, and checks the tier that its line in the host's log names.
fn runs_as(node: &Node, container: Container, tier: &str) -> Result<Finished> {
    let id = container.id().to_owned();
    let finished = container.run()?;
    logged(node, &[&id, &format!("tier={tier}")])?;
    Ok(finished)
}

/// Returns the store's files as a process outside of the test's mount namespace reaches them.
fn store(node: &Node) -> Result<PathBuf> {
    let pid = node.isolated.init_pid();
    let path = format!("/proc/{pid}/root{STORE}");
    ensure!(Path::new(&path).is_dir(), "{path} is not a folder");
    Ok(path.into())
}

/// Waits until the store has this many entries. A compilation may end after the last container,
/// whose log is the host's.
fn has_entries(node: &Node, count: usize) -> Result<()> {
    wait::until(
        format_args!("{count} entries in the store"),
        SETTLE_TIMEOUT,
        || Ok((entries(node)?.len() == count).then_some(())),
        || format!("{:?}\n{}", entries(node), node.containerd.evidence()),
    )
}

fn entries(node: &Node) -> Result<Vec<PathBuf>> {
    let folder = store(node)?.join("v1/entries");
    let read = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    read.map(|entry| Ok(entry?.path())).collect()
}

fn first_start_waits_for_baseline_code_and_later_ones_run_optimized_code(
    node: &Node,
) -> Result<Verdict> {
    node.alone("tiers", |node| {
        expect(
            &runs_as(node, node.guest(&HELLO)?, "baseline")?,
            0,
            "hello from wasm\n",
        )?;
        has_entries(node, 2)?;
        let later = runs_as(node, node.guest(&HELLO)?, "optimized")?;
        expect(&later, 0, "hello from wasm\n")?;
        Ok(())
    })
}

fn start_that_does_not_wait_is_interpreted_and_compiled_in_the_background(
    node: &Node,
) -> Result<Verdict> {
    node.alone("no-wait", |node| {
        let first = node.guest(&HELLO)?.annotation(COMPILE_WAIT, "0");
        expect(
            &runs_as(node, first, "interpreter")?,
            0,
            "hello from wasm\n",
        )?;
        has_entries(node, 2)?;
        let later = node.guest(&HELLO)?.annotation(COMPILE_WAIT, "0");
        expect(&runs_as(node, later, "optimized")?, 0, "hello from wasm\n")?;
        Ok(())
    })
}

fn start_with_compile_wait_runs_optimized_code(node: &Node) -> Result<Verdict> {
    node.alone("compile-wait", |node| {
        let first = node.guest(&EXIT_42)?.annotation(COMPILE, "wait");
        expect(&runs_as(node, first, "optimized")?, 42, "")?;
        ensure!(entries(node)?.len() == 1, "{:?}", entries(node)?);
        Ok(())
    })
}

fn start_with_compile_never_compiles_nothing(node: &Node) -> Result<Verdict> {
    node.alone("compile-never", |node| {
        let first = node.guest(&EXIT_42)?.annotation(COMPILE, "never");
        expect(&runs_as(node, first, "interpreter")?, 42, "")?;
        ensure!(entries(node)?.is_empty(), "{:?}", entries(node)?);
        Ok(())
    })
}

fn guest_in_interpreter_mode_is_not_compiled(node: &Node) -> Result<Verdict> {
    node.alone("interpreter", |node| {
        let guest = node.guest(&TRAP)?.annotation(MODE, "interpreter");
        let finished = runs_as(node, guest, "interpreter")?;
        expect(&finished, 134, "")?;
        ensure!(store(node).is_err(), "a store was made");
        Ok(())
    })
}

fn guests_on_wasmtime_meet_the_contract(node: &Node) -> Result<Verdict> {
    let on_wasmtime = |container: Container| container.annotation(ENGINE, "wasmtime");
    let hello = runs_as(node, on_wasmtime(node.guest(&HELLO)?), "optimized")?;
    expect(&hello, 0, "hello from wasm\n")?;
    expect(&on_wasmtime(node.guest(&EXIT_42)?).run()?, 42, "")?;
    expect(&on_wasmtime(node.guest(&FUNCTION)?).run()?, 0, "start\n")?;
    let busy = on_wasmtime(node.guest(&SPIN)?).start()?;
    busy.kill("SIGTERM")?;
    busy.wait(SETTLE_TIMEOUT)?;
    let code = busy.delete()?;
    ensure!(code == 143, "a busy guest ended with {code} after SIGTERM");
    Ok(Verdict::Holds)
}

fn traps_on_wasmtime_name_their_functions(node: &Node) -> Result<Verdict> {
    for (guest, words) in [(&TRAP, "unreachable"), (&RECURSE, "call stack")] {
        let finished = node.guest(guest)?.annotation(ENGINE, "wasmtime").run()?;
        expect(&finished, 134, "")?;
        ensure!(
            finished.stderr.contains(words),
            "standard error does not name {words}:\n{}",
            finished.stderr
        );
    }
    Ok(Verdict::Holds)
}

fn wasmtime_refuses_what_it_does_not_provide(node: &Node) -> Result<Verdict> {
    let guest = node.guest(&UNKNOWN_IMPORT)?.annotation(ENGINE, "wasmtime");
    expect_refusal(&guest.run()?, &["nowhere.nothing"])?;
    // The probe has WasmEdge's sockets.
    let guest = node.probe(&["args"])?.annotation(ENGINE, "wasmtime");
    expect_refusal(&guest.run()?, &["sock_open", "engine=wasmedge"])
}

fn wasmtime_without_a_compilation_is_refused_with_the_next_step(node: &Node) -> Result<Verdict> {
    node.alone("wasmtime-never", |node| {
        let guest = node.guest(&HELLO)?.annotation(ENGINE, "wasmtime");
        let finished = guest.annotation(COMPILE, "never").run()?;
        ensure!(
            finished.code != 0 && finished.stderr.contains("compile=tiered"),
            "exit code {}:\n{}",
            finished.code,
            finished.stderr
        );
        Ok(())
    })
}

fn damaged_artifact_is_compiled_again(node: &Node) -> Result<Verdict> {
    node.alone("damaged", |node| {
        let first = node.guest(&HELLO)?.annotation(COMPILE, "wait");
        expect(&runs_as(node, first, "optimized")?, 0, "hello from wasm\n")?;
        let [entry] = &entries(node)?[..] else {
            anyhow::bail!("the store has not one entry: {:?}", entries(node)?);
        };
        let artifact = entry.join("code/artifact");
        let mut bytes = fs::read(&artifact).context("read the artifact")?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&artifact, bytes).context("damage the artifact")?;
        let later = node.guest(&HELLO)?.annotation(COMPILE, "wait");
        expect(&runs_as(node, later, "optimized")?, 0, "hello from wasm\n")?;
        logged(node, &["damaged"])
    })
}

fn guests_run_on_after_their_store_is_removed(node: &Node) -> Result<Verdict> {
    node.alone("removed-store", |node| {
        let task = node.guest(&SPIN)?.start()?;
        fs::remove_dir_all(store(node)?).context("remove the store")?;
        ensure!(task.status()? == "RUNNING", "{}", task.status()?);
        expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        node.kill_and_delete(task)
    })
}

fn store_that_cannot_be_used_costs_no_pod(node: &Node) -> Result<Verdict> {
    node.alone("unusable-store", |node| {
        let folder = Path::new("/var/lib/wasmedge-runtime");
        node.isolated
            .run("mount")
            .args(["-o", "remount,noexec"])
            .arg(folder)
            .done()?;
        let finished = runs_as(node, node.guest(&HELLO)?, "baseline")?;
        expect(&finished, 0, "hello from wasm\n")?;
        logged(node, &["artifact store", "noexec"])?;
        let on_wasmtime = node.guest(&EXIT_42)?.annotation(ENGINE, "wasmtime");
        expect(&on_wasmtime.run()?, 42, "")?;
        Ok(())
    })
}

fn settings_that_are_not_possible_fail_create_by_name(node: &Node) -> Result<Verdict> {
    for (annotation, value, named) in [
        (ENGINE, "v8", "wasmtime"),
        (COMPILE_WAIT, "soon", "compile-wait"),
        ("runtime.wasmedge.dev/motor", "x", "unknown setting"),
    ] {
        let finished = node.guest(&HELLO)?.annotation(annotation, value).run()?;
        ensure!(
            finished.code != 0
                && finished.stderr.contains(named)
                && finished.stderr.contains(annotation),
            "{annotation}={value}: exit code {}:\n{}",
            finished.code,
            finished.stderr
        );
    }
    Ok(Verdict::Holds)
}

fn compiled_guest_sees_no_artifact(node: &Node) -> Result<Verdict> {
    let listed = node.probe(&["ls", "/"])?.run()?;
    ensure!(
        listed.code == 0 && !listed.text().contains("artifact"),
        "exit code {}:\n{}{}",
        listed.code,
        listed.text(),
        listed.stderr
    );
    Ok(Verdict::Holds)
}
