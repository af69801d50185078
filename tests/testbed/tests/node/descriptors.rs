//! A host at its limit of open files: a failed Create leaves nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::command::Run;
use testbed::containerd::Container;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};

tests![create_without_free_descriptors_leaves_nothing];

/// More files than a Create opens at once.
const MAX_CREATE_FILES: usize = 48;
/// Longer than a Create takes. The limit is then raised, also for a connection that waits to be
/// accepted.
const SHORTAGE_DURATION: Duration = Duration::from_millis(400);

fn create_without_free_descriptors_leaves_nothing(node: &Node) -> Result<Verdict> {
    node.alone("descriptors", |alone| {
        // No compile helper runs while children are counted.
        let stays = alone
            .guest(&SPIN)?
            .annotation("runtime.wasmedge.dev/mode", "interpreter")
            .start()?;
        let compiled = alone
            .guest(&HELLO)?
            .annotation("runtime.wasmedge.dev/compile", "wait");
        expect(&compiled.run()?, 0, "hello from wasm\n")?;
        for template in [alone.guest(&HELLO)?, alone.native(&["args"])?] {
            each_shortage(alone, template)?;
        }
        ensure!(
            stays.status()? == "RUNNING",
            "{}",
            alone.containerd.evidence()
        );
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        stays.delete_by_force().map(drop)
    })
}

/// Creates a container repeatedly, each time with one more free descriptor.
fn each_shortage(alone: &Node, template: Container) -> Result<()> {
    let (machine, tasks) = (alone.machine(), alone.tasks());
    let host = machine.host()?;
    let outside = machine.outside(host)?;
    let id = template.id().to_owned();
    let task = template.create()?;
    tasks.kill(&id, "", 9)?;
    task.wait(SETTLE_TIMEOUT)?;
    tasks.delete(&id)?;
    let rootfs = tasks.rootfs(&id)?;
    let children = machine.children(host)?.len();
    let (mut made, mut failed) = (0, 0);
    for room in 1..MAX_CREATE_FILES {
        let used = machine.descriptors(host)?.len();
        let created = std::thread::scope(|scope| {
            limit(outside, Some(used + room))?;
            let creating = scope.spawn(|| tasks.create(&id, &rootfs));
            let is_done = wait::until(
                "the Create",
                SHORTAGE_DURATION,
                || Ok(creating.is_finished().then_some(())),
                String::new,
            );
            limit(outside, None)?;
            drop(is_done);
            creating
                .join()
                .map_err(|_| anyhow::anyhow!("asking panicked"))
        })?;
        if created.is_ok() {
            made += 1;
            tasks.kill(&id, "", 9)?;
            tasks.wait(&id, "")?;
            tasks.delete(&id)?;
        } else {
            failed += 1;
        }
        machine
            .nothing_left(&id)
            .with_context(|| format!("with {room} free descriptors: {created:?}"))?;
        let waited_for = || Ok((machine.children(host)?.len() == children).then_some(()));
        wait::until(
            "no more children than before",
            SETTLE_TIMEOUT,
            waited_for,
            || format!("{created:?}, {:?}", machine.children(host)),
        )?;
    }
    ensure!(
        made > 0 && failed > 3,
        "{made} were created and {failed} not"
    );
    alone
        .containerd
        .ctr()
        .args(["containers", "rm", &id])
        .done()
}

/// Limits the descriptors of a process to numbers below `most`, or removes the limit.
fn limit(pid: i32, most: Option<usize>) -> Result<()> {
    let prlimit = || Run::new("prlimit").args(["--pid", &pid.to_string()]);
    let all = || {
        prlimit()
            .args(["--nofile", "--output", "HARD", "--noheadings"])
            .text()
    };
    let soft = most.map_or_else(all, |most| Ok(most.to_string()))?;
    prlimit().arg(format!("--nofile={}:", soft.trim())).done()
}
