//! The containerds between the oldest and the newest: each stores other state of a running task,
//! and passes on other data of a pod.

use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, anyhow, ensure};
use test_guests::SPIN;
use testbed::containerd::Install;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};
use crate::pod_faults::live_through_a_restart;
use crate::pods_fixture::Pods;
use crate::same_config::names_are_followed_or_the_pod_refused;

tests![
    tasks_outlive_a_restart_of_each_containerd,
    pods_outlive_a_restart_of_each_containerd,
    names_of_images_with_one_id_are_followed_or_the_pod_refused_on_each_containerd,
];

/// Returns the containerds of which only the daemon was built, with this one's `ctr`. Each is about
/// as old as one of the two that all tests run on, and runs with that one.
fn others(node: &Node) -> Result<Vec<Install>> {
    let install = node.containerd.install();
    let line = |version: &str| version.split('.').next().map(str::to_owned);
    let daemons = node
        .prepared
        .daemons
        .iter()
        .filter(|(version, _)| line(version) == line(&install.version));
    let with_daemon = |(version, program): (&String, &std::path::PathBuf)| -> Result<Install> {
        let bin = node.folder()?;
        symlink(program, bin.join("containerd")).context("link the daemon")?;
        for name in ["ctr", "containerd-shim-runc-v2"] {
            symlink(install.bin.join(name), bin.join(name))
                .with_context(|| format!("link {name}"))?;
        }
        Ok(Install {
            name: format!("v{}", version.replace('.', "-")),
            version: version.clone(),
            bin,
            runc: install.runc.clone(),
        })
    };
    daemons.map(with_daemon).collect()
}

/// Returns the reason for a skipped test if there are none.
fn none_of(node: &Node) -> Verdict {
    Verdict::Skipped(format!(
        "no other daemon was built that is about as old as containerd {}",
        node.containerd.install().version
    ))
}

fn tasks_outlive_a_restart_of_each_containerd(node: &Node) -> Result<Verdict> {
    let others = others(node)?;
    if others.is_empty() {
        return Ok(none_of(node));
    }
    for install in others {
        Node::alone_with("version", &install, &node.prepared, |alone| {
            let (guest, program) = (
                alone.guest(&SPIN)?.start()?,
                alone.native(&["tick"])?.start()?,
            );
            let (host, pid) = (alone.machine().host()?, guest.pid()?);
            alone.containerd.restart()?;
            ensure!(
                guest.status()? == "RUNNING" && guest.pid()? == pid,
                "the guest is {}",
                guest.status()?
            );
            ensure!(
                program.status()? == "RUNNING" && alone.machine().host()? == host,
                "the program is {}",
                program.status()?
            );
            for (task, code) in [(guest, 143), (program, 0)] {
                let id = task.id().to_owned();
                task.kill("SIGTERM")?;
                task.wait(SETTLE_TIMEOUT)?;
                let found = task.delete()?;
                ensure!(found == code, "{id} ended with {found}");
                alone.machine().nothing_left(&id)?;
            }
            Ok(())
        })
        .with_context(|| format!("containerd {}", install.version))?;
    }
    Ok(Verdict::Holds)
}

fn pods_outlive_a_restart_of_each_containerd(node: &Node) -> Result<Verdict> {
    let others = others(node)?;
    if others.is_empty() {
        return Ok(none_of(node));
    }
    for install in others {
        let pods = Pods::start(&install, &node.prepared)?;
        let lived = live_through_a_restart(&pods);
        lived.map_err(|error| {
            anyhow!(
                "containerd {}: {error:#}\nalone, {}",
                install.version,
                pods.containerd.evidence()
            )
        })?;
        pods.finish()?;
    }
    Ok(Verdict::Holds)
}

fn names_of_images_with_one_id_are_followed_or_the_pod_refused_on_each_containerd(
    node: &Node,
) -> Result<Verdict> {
    let others = others(node)?;
    if others.is_empty() {
        return Ok(none_of(node));
    }
    for install in others {
        let pods = Pods::start(&install, &node.prepared)?;
        let checked = names_are_followed_or_the_pod_refused(&pods);
        checked.map_err(|error| {
            anyhow!(
                "containerd {}: {error:#}\nalone, {}",
                install.version,
                pods.containerd.evidence()
            )
        })?;
        pods.finish()?;
    }
    Ok(Verdict::Holds)
}
