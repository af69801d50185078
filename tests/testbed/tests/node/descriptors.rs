//! A host that may open no more files: what it cannot make leaves nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::command::Run;
use testbed::containerd::Container;
use testbed::wait;

use crate::machine::LIMIT;
use crate::node::{Node, Verdict, expect, tests};

tests![a_create_for_which_no_files_can_be_opened_leaves_nothing];

/// More files than a Create opens at once.
const ROOM: usize = 48;
/// Longer than a Create takes. Then there is room again, also for a connection that waits to be
/// accepted.
const SHORTAGE: Duration = Duration::from_millis(400);

fn a_create_for_which_no_files_can_be_opened_leaves_nothing(node: &Node) -> Result<Verdict> {
    node.alone("descriptors", |alone| {
        let stays = alone.guest(&SPIN)?.start()?;
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

/// Creates a container again and again, each time with room for one more file.
fn each_shortage(alone: &Node, template: Container) -> Result<()> {
    let (machine, tasks) = (alone.machine(), alone.tasks());
    let host = machine.host()?;
    let outside = machine.outside(host)?;
    let id = template.id().to_owned();
    let task = template.create()?;
    tasks.kill(&id, "", 9)?;
    task.wait(LIMIT)?;
    tasks.delete(&id)?;
    let rootfs = tasks.rootfs(&id)?;
    let children = machine.children(host)?.len();
    let (mut made, mut failed) = (0, 0);
    for room in 1..ROOM {
        let used = machine.descriptors(host)?.len();
        let created = std::thread::scope(|scope| {
            limit(outside, Some(used + room))?;
            let creating = scope.spawn(|| tasks.create(&id, &rootfs));
            let is_done = wait::until(
                "the Create",
                SHORTAGE,
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
            .with_context(|| format!("with room for {room} files: {created:?}"))?;
        let waited_for = || Ok((machine.children(host)?.len() == children).then_some(()));
        wait::until("no child more than before", LIMIT, waited_for, || {
            format!("{created:?}, {:?}", machine.children(host))
        })?;
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

/// Lets a process have files of numbers below `most`, or all that it may ever have.
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
