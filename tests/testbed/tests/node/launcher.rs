//! Launchers that are killed or fail half-way: nothing is left, and the next launcher finishes the
//! work.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::prepared::Prepared;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};

tests![
    launcher_killed_before_its_work_fails_one_container,
    launcher_killed_at_any_moment_leaves_at_most_one_host,
    launcher_killed_after_its_work_fails_one_container,
    clean_up_of_a_killed_launcher_is_finished_by_the_next_one,
    local_user_cannot_take_the_lock_of_launchers,
];

const LAUNCHER: &str = "containerd-shim-wasmedge-v1";

/// Runs `body` on a containerd with the launcher replaced by a script of `sh`: `$REAL` is the
/// launcher, `$VERB` its command, and `script` runs only while the file `$ARMED` exists.
fn with_script(
    node: &Node,
    what: &str,
    script: &str,
    body: impl FnOnce(&Node, &dyn Fn(bool) -> Result<()>) -> Result<()>,
) -> Result<Verdict> {
    let bundle = node.folder()?;
    // The launcher finds its bundle by its own path, so only its file name differs.
    let bin = bundle.join("bin");
    fs::create_dir(&bin).with_context(|| format!("make {}", bin.display()))?;
    let armed = bundle.join("armed");
    let real = node.prepared.shims().join(LAUNCHER);
    let text = format!(
        "#!/bin/sh\nREAL={}\nVERB=none\nfor word in \"$@\"; do case $word in start|delete) \
         VERB=$word ;; esac; done\n\
         if [ -e {} ]; then\n{script}\nfi\nexec $REAL \"$@\"\n",
        real.display(),
        armed.display()
    );
    let file = bin.join(LAUNCHER);
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} a program", file.display()))?;
    let arm = move |is_armed: bool| -> Result<()> {
        if is_armed {
            fs::write(&armed, "")
        } else {
            fs::remove_file(&armed)
        }
        .with_context(|| format!("arm or disarm {}", armed.display()))
    };
    let prepared = Arc::new(Prepared {
        bundle: PathBuf::from(&bundle),
        ..Prepared::clone(&node.prepared)
    });
    Node::alone_with(what, node.containerd.install(), &prepared, |alone| {
        body(alone, &arm)
    })
}

/// Checks that one container fails now, and that later ones run.
fn one_fails(alone: &Node, arm: &dyn Fn(bool) -> Result<()>) -> Result<()> {
    let stays = alone.guest(&SPIN)?.start()?;
    let host = alone.machine().host()?;
    arm(true)?;
    let container = alone.guest(&HELLO)?;
    let id = container.id().to_owned();
    let finished = container.run()?;
    ensure!(
        finished.code != 0 && finished.stdout.is_empty(),
        "it ran: {}",
        finished.text()
    );
    arm(false)?;
    alone.machine().nothing_left(&id)?;
    expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
    ensure!(
        stays.status()? == "RUNNING" && alone.machine().host()? == host,
        "what ran before is {}",
        stays.status()?
    );
    alone.kill_and_delete(stays)
}

fn launcher_killed_before_its_work_fails_one_container(node: &Node) -> Result<Verdict> {
    with_script(
        node,
        "before",
        "[ $VERB = start ] && kill -KILL $$",
        one_fails,
    )
}

fn launcher_killed_after_its_work_fails_one_container(node: &Node) -> Result<Verdict> {
    with_script(
        node,
        "after",
        "[ $VERB = start ] && { $REAL \"$@\" >/dev/null; kill -KILL $$; }",
        one_fails,
    )
}

fn launcher_killed_at_any_moment_leaves_at_most_one_host(node: &Node) -> Result<Verdict> {
    // Killed after 0 to 9 milliseconds: before, while and after it starts the host.
    let script = "[ $VERB = start ] && \
                  { $REAL \"$@\" & child=$!; sleep 0.00$(cat $0.step); kill -KILL $child; \
                  wait $child; exit 137; }";
    with_script(node, "moments", script, |alone, arm| {
        for step in 0..10 {
            fs::write(
                alone.prepared.shims().join(format!("{LAUNCHER}.step")),
                step.to_string(),
            )
            .context("write the delay")?;
            arm(true)?;
            let container = alone.guest(&HELLO)?;
            let id = container.id().to_owned();
            // If it was quick enough, only its status shows that it was killed.
            let finished = container.run()?;
            ensure!(
                finished.code != 0,
                "step {step}: it ran: {}",
                finished.text()
            );
            arm(false)?;
            expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
            alone.machine().nothing_left(&id)?;
            let hosts = alone.machine().hosts()?;
            ensure!(hosts.len() == 1, "step {step}: the hosts are {hosts:?}");
            // In half of the cases the next step begins without a host.
            if step % 2 == 0 {
                let host = alone.machine().host()?;
                alone.machine().kill(host)?;
                alone.machine().wait_until_dead(host)?;
            }
        }
        Ok(())
    })
}

fn clean_up_of_a_killed_launcher_is_finished_by_the_next_one(node: &Node) -> Result<Verdict> {
    with_script(
        node,
        "cleaning",
        "[ $VERB = delete ] && kill -KILL $$",
        |alone, arm| {
            let task = alone.guest(&SPIN)?.start()?;
            let (id, pid) = (task.id().to_owned(), task.pid()?);
            let machine = alone.machine();
            arm(true)?;
            machine.kill(machine.host()?)?;
            machine.wait_until_dead(pid)?;
            let stopped = || {
                Ok(task
                    .status()
                    .map_or(true, |status| status == "STOPPED")
                    .then_some(()))
            };
            testbed::wait::until(
                "containerd to report the exit",
                SETTLE_TIMEOUT,
                stopped,
                || alone.containerd.evidence(),
            )?;
            arm(false)?;
            // Depending on its version, containerd repeats the command when the task is deleted or
            // when containerd is started again.
            let _ = task.delete();
            alone
                .containerd
                .ctr()
                .args(["containers", "rm", &id])
                .output()?;
            alone.containerd.restart()?;
            expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
            machine.nothing_left(&id)
        },
    )
}

fn local_user_cannot_take_the_lock_of_launchers(node: &Node) -> Result<Verdict> {
    node.alone("lock", |alone| {
        let task = alone.guest(&SPIN)?.start()?;
        let list = alone
            .isolated
            .run("find")
            .args(["/run/containerd/s", "-name", "*.lock"])
            .text()?;
        let locks: Vec<&str> = list.lines().collect();
        ensure!(locks.len() == 1, "the locks are {locks:?}");
        let as_nobody = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "flock",
            "--exclusive",
            "--nonblock",
            locks[0],
            "true",
        ];
        let output = alone.isolated.run("setpriv").args(as_nobody).output()?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && printed.contains("Permission denied"),
            "no process locks {}: {printed}",
            locks[0]
        );
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        alone.kill_and_delete(task)
    })
}
