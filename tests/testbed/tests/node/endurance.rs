//! Many containers, a few at a time: the host must not grow.

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use test_guests::HELLO;
use testbed::wait;

use crate::machine::{Machine, SETTLE_TIMEOUT};
use crate::node::{Node, Verdict, tests};
use crate::tasks::Tasks;

tests![five_hundred_containers_leave_the_host_as_it_was];

/// Number of concurrent containers.
const CONCURRENT_CONTAINERS: u32 = 4;
/// Cycles of each: five hundred in all.
const CYCLES_PER_CONTAINER: u32 = 125;
/// After these cycles of each container, everything that is made once exists.
const WARM_UP_CYCLES: u32 = 25;
/// Growth of the host in KiB over all cycles that is allowed, as its allocator's free memory
/// varies: 4 KiB for each.
const MAX_GROWTH_KIB: u64 = 2048;

/// Resources that must not grow.
#[derive(Debug, Clone, Copy)]
struct Size {
    descriptors: usize,
    threads: u64,
    memory: u64,
    mounts: usize,
    files: usize,
    cgroups: usize,
    processes: usize,
}

impl Size {
    fn of(node: &Node, host: i32) -> Result<Self> {
        let machine = node.machine();
        let count = |arguments: &[&str]| -> Result<usize> {
            let found = node.isolated.run("find").args(arguments).output()?;
            Ok(String::from_utf8_lossy(&found.stdout).lines().count())
        };
        Ok(Self {
            descriptors: machine.descriptors(host)?.len(),
            threads: machine.status(host, "Threads")?,
            memory: machine.status(host, "VmRSS")?,
            mounts: machine.read(host, "mountinfo")?.lines().count(),
            files: count(&["/run/containerd"])?,
            cgroups: count(&[
                "/sys/fs/cgroup",
                "-path",
                &format!("*/{}/*", node.containerd.namespace()),
            ])?,
            processes: machine.processes()?.len(),
        })
    }
}

fn five_hundred_containers_leave_the_host_as_it_was(node: &Node) -> Result<Verdict> {
    node.alone("many", |alone| {
        let lanes = (0..CONCURRENT_CONTAINERS)
            .map(|_| Lane::of(alone))
            .collect::<Result<Vec<_>>>()?;
        // Keeps the host alive.
        let stays = alone.probe(&["sleep", "600"])?.start()?;
        let host = alone.machine().host()?;
        let cycle = |times: u32| -> Result<()> {
            std::thread::scope(|scope| {
                let lives = |lane: &'_ Lane| {
                    (0..times).try_for_each(|_| live(&alone.tasks(), &lane.id, &lane.rootfs))
                };
                let threads: Vec<_> = lanes
                    .iter()
                    .map(|lane| scope.spawn(move || lives(lane)))
                    .collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().map_err(|_| anyhow!("a thread panicked"))?
                })
            })
        };
        cycle(WARM_UP_CYCLES)?;
        let before = settled(alone, host)?;
        let started = Instant::now();
        cycle(CYCLES_PER_CONTAINER)?;
        let after = settled(alone, host)?;
        let growth = format!(
            "after {} containers in {:?}: {before:?} became {after:?}",
            CONCURRENT_CONTAINERS * CYCLES_PER_CONTAINER,
            started.elapsed()
        );
        ensure!(
            after.descriptors <= before.descriptors && after.mounts <= before.mounts,
            "{growth}"
        );
        ensure!(
            after.files <= before.files
                && after.cgroups <= before.cgroups
                && after.processes <= before.processes,
            "{growth}"
        );
        // The runtime's blocking threads come and go.
        ensure!(after.threads <= before.threads + 4, "{growth}");
        ensure!(after.memory <= before.memory + MAX_GROWTH_KIB, "{growth}");
        stays.kill("SIGKILL")?;
        stays.wait(SETTLE_TIMEOUT)?;
        stays.delete()?;
        Ok(())
    })
}

/// A container with a task that is created repeatedly.
struct Lane {
    id: String,
    rootfs: Vec<crate::tasks::Mount>,
}

impl Lane {
    fn of(node: &Node) -> Result<Self> {
        let template = node.guest(&HELLO)?;
        let id = template.id().to_owned();
        let task = template.start()?;
        task.wait(SETTLE_TIMEOUT)?;
        node.tasks().delete(&id)?;
        let rootfs = node.tasks().rootfs(&id)?;
        Ok(Self { id, rootfs })
    }
}

fn live(tasks: &Tasks<'_>, id: &str, rootfs: &[crate::tasks::Mount]) -> Result<()> {
    tasks.create(id, rootfs).context("create")?;
    tasks.start(id, "").context("start")?;
    let end = tasks.wait(id, "").context("wait")?;
    ensure!(end.code == 0, "{end:?}");
    tasks.delete(id).context("delete")?;
    Ok(())
}

/// Returns whether a command line is a launcher's. That of a host has the launcher's path too, as
/// an argument.
fn is_launcher(command: &str) -> bool {
    let program = command.split(' ').next();
    program.is_some_and(|program| program.ends_with("containerd-shim-wasmedge-v1"))
}

/// Returns the host's size after launchers and connections of the last container have ended.
fn settled(node: &Node, host: i32) -> Result<Size> {
    let launchers = |machine: Machine<'_>| -> Result<usize> {
        Ok(machine
            .processes()?
            .iter()
            .filter(|seen| is_launcher(&seen.command))
            .count())
    };
    let quiet = || Ok((launchers(node.machine())? == 0).then_some(()));
    wait::until("the launchers to end", SETTLE_TIMEOUT, quiet, || {
        format!("{:?}", node.machine().processes())
    })?;
    Size::of(node, host)
}
