//! Guests that memory cannot hold: while they are loaded, and by calls without end.

use std::iter;

use anyhow::{Result, ensure};
use cri_client::config::Resources;
use cri_client::message::ContainerState;
use test_guests::{HELLO, RECURSE};
use testbed::image::{Entry, Packed, RootfsImage};

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, read, reference, tests};
use crate::pods::is;
use crate::pods_fixture::IMAGE;

tests![
    guest_that_calls_itself_without_end_traps_by_its_call_stack,
    guest_above_memory_limit_is_oom_killed_at_its_start,
    guest_above_memory_limit_says_so_in_its_log,
    container_that_was_killed_while_loading_is_deleted_without_a_start,
    exec_above_memory_limit_names_oom,
];

/// The annotation and its value with which a guest is interpreted.
const MODE: &str = "runtime.wasmedge.dev/mode";
const INTERPRETER: &str = "interpreter";

fn guest_that_calls_itself_without_end_traps_by_its_call_stack(node: &Node) -> Result<Verdict> {
    // Without a memory limit, and with one that the bound of the stack fits into.
    for limit in [None, Some("134217728")] {
        let container = node.guest(&RECURSE)?;
        let container = match limit {
            Some(bytes) => container.flag("--memory-limit").flag(bytes),
            None => container,
        };
        let finished = container.run()?;
        let said = finished.stderr.clone();
        ensure!(
            finished.code == 134 && said.contains("trap: call stack exhausted"),
            "limit {limit:?}: {} {said:?}",
            finished.code
        );
    }
    Ok(Verdict::Holds)
}

fn guest_above_memory_limit_is_oom_killed_at_its_start(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let mut config = pods.default_config();
    // Compiled code is mapped, and fits into the limit.
    config
        .annotations
        .insert(MODE.to_owned(), INTERPRETER.to_owned());
    let pod = pods.pod(config)?;
    let limits = Resources {
        cpu_shares: 0,
        memory_limit_in_bytes: 1 << 20,
    };
    let limited = pod
        .config
        .container("limited", IMAGE, &["/app.wasm", "exit", "0"])
        .limited_to(limits);
    let id = pod.run_container(limited)?;
    is(&pods, &id, ContainerState::Exited)?;
    let status = pods.cri().container(&id)?;
    ensure!(
        status.exit_code == 137 && status.reason == "OOMKilled",
        "{status:?}"
    );
    pods.cri().remove_container(&id)?;
    pods.machine().nothing_left(&id)?;
    pod.remove()?;
    Ok(Verdict::Holds)
}

/// A guest with a custom section of `bytes` bytes, which no engine needs.
fn padded(bytes: usize) -> Vec<u8> {
    let mut module = HELLO.bytes().into_owned();
    // Section 0, its length in LEB128, and an empty name.
    module.push(0);
    let mut length = bytes + 1;
    while length >= 0x80 {
        module.push(0x80 | u8::try_from(length & 0x7f).unwrap_or_default());
        length >>= 7;
    }
    module.push(u8::try_from(length).unwrap_or_default());
    module.extend(iter::repeat_n(0, bytes + 1));
    module
}

fn image_with(name: &str, first: Vec<u8>, second: Vec<u8>) -> Result<Packed> {
    let mut image = RootfsImage::of_guest(&reference(name), first);
    image.files.push(Entry::file("/large.wasm", second, 0o644));
    image.pack()
}

fn guest_above_memory_limit_says_so_in_its_log(node: &Node) -> Result<Verdict> {
    let image =
        node.image(&RootfsImage::of_guest(&reference("large"), padded(24 << 20)).pack()?)?;
    let container = || {
        let container = node.containerd.container(&image, &node.id("large"));
        container.annotation(MODE, INTERPRETER)
    };
    let finished = container().run()?;
    ensure!(
        finished.code == 0,
        "without a limit: {} {:?}",
        finished.code,
        finished.stderr
    );
    let finished = container().flag("--memory-limit").flag("20971520").run()?;
    let said = finished.stderr.clone();
    ensure!(finished.code == 137, "with one: {} {said:?}", finished.code);
    for part in [
        "out of memory",
        "to load 24.0 MiB takes more than the container's memory limit of 20.0 MiB",
        "raise resources.limits.memory",
    ] {
        ensure!(said.contains(part), "{part:?} is not in {said:?}");
    }
    Ok(Verdict::Holds)
}

fn container_that_was_killed_while_loading_is_deleted_without_a_start(
    node: &Node,
) -> Result<Verdict> {
    let task = node
        .probe(&["exit", "0"])?
        .flag("--memory-limit")
        .flag("1048576")
        .create()?;
    let id = task.id().to_owned();
    ensure!(task.status()? == "CREATED", "{}", task.status()?);
    ensure!(
        node.tasks().pids(&id)?.len() == 1,
        "the list of processes is empty"
    );
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    let code = task.delete()?;
    ensure!(code == 137, "exit code {code}");
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

fn exec_above_memory_limit_names_oom(node: &Node) -> Result<Verdict> {
    let probe = read(&node.prepared.guests.probe)?;
    let image = node.image(&image_with("small-and-large", probe, padded(24 << 20))?)?;
    let container =
        node.containerd
            .container(&image, &node.id("exec"))
            .args(["/app.wasm", "sleep", "600"]);
    let task = container.flag("--memory-limit").flag("25165824").start()?;
    let finished = task.exec("large", &["/large.wasm"]).run()?;
    let said = finished.stderr.clone();
    ensure!(
        finished.code != 0 && said.contains("out of memory"),
        "{} {said:?}",
        finished.code
    );
    ensure!(task.status()? == "RUNNING", "{}", task.status()?);
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    task.delete()?;
    Ok(Verdict::Holds)
}
