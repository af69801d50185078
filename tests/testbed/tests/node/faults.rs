//! Failures of a part (crash, outage, full disk): the others keep running, nothing is left behind,
//! and the failure is reported.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::containerd::Task;
use testbed::wait;

use crate::events::{EventLog, topics};
use crate::machine::{RECORDS, SETTLE_TIMEOUT};
use crate::node::{Node, Verdict, expect, tests};

tests![
    guest_killed_from_outside_exits_137_and_others_keep_running,
    lost_forking_process_is_replaced,
    guests_run_on_and_a_new_host_takes_over_when_all_zygotes_are_lost,
    host_killed_during_a_create_leaves_nothing,
    zygote_killed_during_a_create_leaves_nothing,
    a_killed_host_leaves_nothing_of_any_container,
    guest_exit_during_a_containerd_outage_is_reported_afterwards,
    guest_exit_is_reported_after_half_a_minute_without_containerd,
    full_state_folder_fails_only_the_create,
    container_with_a_stalled_reader_does_not_stall_others,
];

fn guest_killed_from_outside_exits_137_and_others_keep_running(node: &Node) -> Result<Verdict> {
    let (one, other) = (node.guest(&SPIN)?.start()?, node.guest(&SPIN)?.start()?);
    let events = EventLog::follow(node)?;
    node.machine().kill(one.pid()?)?;
    one.wait(SETTLE_TIMEOUT)?;
    let id = one.id().to_owned();
    let code = one.delete()?;
    ensure!(code == 137, "exit code {code}");
    ensure!(
        topics(&events.until(&id, "delete")?) == ["exit", "delete"],
        "{:#?}",
        events.mentioning(&id)?
    );
    ensure!(
        other.status()? == "RUNNING",
        "the other one is {}",
        other.status()?
    );
    node.kill_and_delete(other)?;
    Ok(Verdict::Holds)
}

fn lost_forking_process_is_replaced(node: &Node) -> Result<Verdict> {
    node.alone("standby", |alone| {
        let (guest, program) = (
            alone.mixed(&["sleep", "600"])?.start()?,
            alone.native(&["tick"])?.start()?,
        );
        let machine = alone.machine();
        let host = machine.host()?;
        for round in 0..3 {
            for name in ["wasmedge-zygote", "wasmedge-forker"] {
                let lost = machine.child_called(name)?;
                machine.kill(lost)?;
                machine.wait_until_dead(lost)?;
            }
            // In the running containers and beside them: no request fails because of the loss.
            expect(
                &guest
                    .exec(&format!("guest-{round}"), &["/hello.wasm"])
                    .run()?,
                0,
                "hello from wasm\n",
            )?;
            expect(
                &guest
                    .exec(&format!("program-{round}"), &["/native", "args"])
                    .run()?,
                0,
                "/native\nargs\n",
            )?;
            expect(
                &program
                    .exec(&format!("beside-{round}"), &["/native", "args"])
                    .run()?,
                0,
                "/native\nargs\n",
            )?;
            expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
            expect(&alone.native(&["args"])?.run()?, 0, "/native\nargs\n")?;
        }
        ensure!(machine.host()? == host, "another host serves");
        ensure!(
            guest.status()? == "RUNNING" && program.status()? == "RUNNING",
            "{}",
            alone.containerd.evidence()
        );
        wait::until(
            "the killed processes to be reaped",
            SETTLE_TIMEOUT,
            || Ok((machine.zombies(host)? == 0).then_some(())),
            || format!("{:?}", machine.children(host)),
        )?;
        alone.kill_and_delete(guest)?;
        alone.kill_and_delete(program)
    })
}

/// Number of delays at which a process is killed, from before a Create until it is surely done, and
/// the interval between them: the launcher takes most of that time.
const KILL_STEPS: u32 = 12;
const KILL_STEP_INTERVAL: Duration = Duration::from_millis(4);

/// Starts containers one after the other and kills `victim`, each time a little later. A container
/// that fails (at least `fewest` do) leaves nothing, and the next one runs.
fn killed_in_the_middle(
    node: &Node,
    what: &str,
    fewest: u32,
    victim: fn(&Node) -> Result<i32>,
) -> Result<Verdict> {
    node.alone(what, |alone| {
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        let template = alone.guest(&HELLO)?;
        let id = template.id().to_owned();
        // Containers without `ctr`, which takes longer than all delays.
        let task = template.create()?;
        alone.tasks().kill(&id, "", 9)?;
        task.wait(SETTLE_TIMEOUT)?;
        alone.tasks().delete(&id)?;
        let rootfs = alone.tasks().rootfs(&id)?;
        let mut failed = 0;
        for moment in 0..KILL_STEPS {
            // The start of a new host is not part of the test.
            expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
            let machine = alone.machine();
            let lost = victim(alone)?;
            let outside = nix::unistd::Pid::from_raw(machine.outside(lost)?);
            let created = std::thread::scope(|scope| {
                let killer = scope.spawn(move || {
                    let since = Instant::now();
                    while since.elapsed() < KILL_STEP_INTERVAL * moment {
                        std::thread::yield_now();
                    }
                    nix::sys::signal::kill(outside, nix::sys::signal::Signal::SIGKILL)
                });
                let created = alone.tasks().create(&id, &rootfs);
                killer
                    .join()
                    .map_err(|_| anyhow::anyhow!("the killer panicked"))?
                    .context("kill it")?;
                anyhow::Ok(created)
            })?;
            machine.wait_until_dead(lost)?;
            failed += u32::from(created.is_err());
            // The container may have been started in time, or have survived the loss.
            let gone = || {
                let _ = alone.tasks().kill(&id, "", 9);
                let deleted = alone
                    .tasks()
                    .delete(&id)
                    .err()
                    .is_none_or(|refusal| refusal.code == tonic::Code::NotFound);
                Ok(deleted.then_some(()))
            };
            wait::until("the container to be gone", SETTLE_TIMEOUT, gone, || {
                alone.containerd.evidence()
            })?;
            machine
                .nothing_left(&id)
                .with_context(|| format!("killed at moment {moment}"))?;
            for host in machine.hosts()? {
                let waited_for = || Ok((machine.zombies(host)? == 0).then_some(()));
                wait::until(
                    "ended processes to be reaped",
                    SETTLE_TIMEOUT,
                    waited_for,
                    || format!("{:?}", machine.children(host)),
                )?;
            }
        }
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        ensure!(failed >= fewest, "{failed} of {KILL_STEPS} failed");
        Ok(())
    })
}

fn host_killed_during_a_create_leaves_nothing(node: &Node) -> Result<Verdict> {
    killed_in_the_middle(node, "host-middle", 1, |alone| alone.machine().host())
}

fn zygote_killed_during_a_create_leaves_nothing(node: &Node) -> Result<Verdict> {
    // Before and after the fork its loss has no effect.
    killed_in_the_middle(node, "zygote-middle", 0, |alone| alone.machine().zygote())
}

fn guests_run_on_and_a_new_host_takes_over_when_all_zygotes_are_lost(
    node: &Node,
) -> Result<Verdict> {
    node.alone("zygote", |alone| {
        let task = alone.guest(&SPIN)?.start()?;
        let machine = alone.machine();
        let host = machine.host()?;
        // The processes that would fork a replacement are killed first.
        let (forkers, zygote) = (
            machine.children_called("wasmedge-forker")?,
            machine.zygote()?,
        );
        ensure!(forkers.len() == 2, "the forkers are {forkers:?}");
        for forker in forkers {
            machine.kill(forker)?;
            machine.wait_until_dead(forker)?;
        }
        machine.kill(zygote)?;
        let reported = || {
            Ok(alone
                .containerd
                .log()?
                .contains("this host takes no more containers")
                .then_some(()))
        };
        wait::until("the loss to be reported", SETTLE_TIMEOUT, reported, || {
            alone.containerd.evidence()
        })?;
        ensure!(
            task.status()? == "RUNNING",
            "the running guest is {}",
            task.status()?
        );
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        let other = alone.guest(&SPIN)?.start()?;
        let hosts = machine.hosts()?;
        ensure!(
            hosts.len() == 2 && hosts.contains(&host),
            "the hosts are {hosts:?}, the first one is {host}"
        );
        ensure!(
            machine.parent_of(other.pid()?)? != host,
            "the new guest is the first host's"
        );
        alone.kill_and_delete(task)?;
        // The first host has nothing left to do.
        machine.wait_until_dead(host)?;
        alone.kill_and_delete(other)?;
        Ok(())
    })
}

fn a_killed_host_leaves_nothing_of_any_container(node: &Node) -> Result<Verdict> {
    node.alone("killed", |alone| {
        let tasks = [
            alone.guest(&SPIN)?.start()?,
            alone.probe(&["sleep", "600"])?.start()?,
            alone.native(&["family"])?.start()?,
            alone.guest(&HELLO)?.create()?,
        ];
        let machine = alone.machine();
        let pids = tasks.iter().map(Task::pid).collect::<Result<Vec<_>>>()?;
        let events = EventLog::follow(alone)?;
        machine.kill(machine.host()?)?;
        for pid in pids {
            machine.wait_until_dead(pid)?;
        }
        for task in tasks {
            let id = task.id().to_owned();
            // containerd has the launcher clean up, and reports the exit itself.
            let lines = events.until(&id, "exit")?;
            ensure!(
                lines
                    .iter()
                    .any(|line| line.contains("/tasks/exit") && line.contains("137")),
                "{lines:#?}"
            );
            let stopped = || {
                Ok(task
                    .status()
                    .map_or(true, |status| status == "STOPPED")
                    .then_some(()))
            };
            wait::until(
                format_args!("task {id} to be stopped or gone"),
                SETTLE_TIMEOUT,
                stopped,
                || alone.containerd.evidence(),
            )?;
            machine.nothing_left(&id)?;
            // Whether containerd still has the task to delete depends on its version.
            let _ = task.delete();
            alone
                .containerd
                .ctr()
                .args(["containers", "rm", &id])
                .output()?;
        }
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        Ok(())
    })
}

fn guest_exit_during_a_containerd_outage_is_reported_afterwards(node: &Node) -> Result<Verdict> {
    node.alone("away", |alone| {
        let (stays, ends, program) = (
            alone.guest(&SPIN)?.start()?,
            alone.guest(&SPIN)?.start()?,
            alone.native(&["tick"])?.start()?,
        );
        let machine = alone.machine();
        let (pid, dies) = (stays.pid()?, ends.pid()?);
        let host = machine.host()?;
        alone.containerd.stop()?;
        machine.kill(dies)?;
        machine.wait_until_dead(dies)?;
        alone.containerd.start_stopped()?;
        ensure!(machine.host()? == host, "there is another host now");
        ensure!(
            stays.status()? == "RUNNING" && stays.pid()? == pid,
            "after the restart:\n{}",
            alone.containerd.evidence()
        );
        ensure!(
            program.status()? == "RUNNING",
            "after the restart:\n{}",
            alone.containerd.evidence()
        );
        ensure!(
            ends.status()? == "STOPPED",
            "the guest that has ended is {}",
            ends.status()?
        );
        let code = ends.delete()?;
        ensure!(code == 137, "its exit code is {code}");
        expect(
            &stays.exec("after", &["/app.wasm"]).flag("--detach").run()?,
            0,
            "",
        )?;
        alone.kill_and_delete(stays)?;
        alone.kill_and_delete(program)?;
        Ok(())
    })
}

fn guest_exit_is_reported_after_half_a_minute_without_containerd(node: &Node) -> Result<Verdict> {
    node.alone("late", |alone| {
        let task = alone.guest(&SPIN)?.start()?;
        let (id, pid) = (task.id().to_owned(), task.pid()?);
        alone.containerd.stop()?;
        let since = Instant::now();
        alone.machine().kill(pid)?;
        // The subscription must start at the first moment at which containerd answers: the host may
        // publish at once.
        let follower = r#"until "$@" events; do sleep 0.02; done"#;
        let ctr = alone.containerd.ctr_command();
        let mut command = alone.isolated.command("sh");
        // The arguments of `ctr` inside the namespace begin after the first `--`, which ends those
        // of `nsenter`.
        let inside = ctr.get_args().skip_while(|word| *word != "--").skip(1);
        command.args(["-c", follower, "follow"]).args(inside);
        // The duration is the subject of the test: the host must keep the events for that long.
        let passed = || Ok((since.elapsed() > Duration::from_secs(30)).then_some(()));
        wait::until("half a minute to pass", SETTLE_TIMEOUT * 3, passed, || {
            alone.containerd.evidence()
        })?;
        let follower = alone.isolated.spawn("late-events", command)?;
        alone.containerd.start_stopped()?;
        let reported = || {
            let text = std::fs::read_to_string(follower.log()).context("read the events")?;
            Ok(text
                .lines()
                .find(|line| line.contains("/tasks/exit") && line.contains(&format!("\"{id}\"")))
                .map(str::to_owned))
        };
        let line = wait::until("the exit to be published", SETTLE_TIMEOUT, reported, || {
            format!("{}\n{}", follower.log_tail(), alone.containerd.evidence())
        })?;
        ensure!(line.contains("137"), "{line}");
        let code = task.delete()?;
        ensure!(code == 137, "exit code {code}");
        Ok(())
    })
}

fn full_state_folder_fails_only_the_create(node: &Node) -> Result<Verdict> {
    node.alone("full", |alone| {
        let machine = alone.machine();
        let task = alone.guest(&SPIN)?.start()?;
        let shell = |script: &str| alone.isolated.run("sh").args(["-c", script]).output();
        // A file system that has space for the existing records and for nothing more.
        let records = format!("$(echo {RECORDS}/*/{})", alone.containerd.namespace());
        shell(&format!(
            "cp -a {records} /run/t2-kept; mount -t tmpfs -o size=64k tmpfs {records}; cp -a \
             /run/t2-kept/. {records}; rm -r /run/t2-kept"
        ))?;
        shell(&format!("head -c 1000000 /dev/zero >{records}/filler"))?;
        let container = alone.guest(&HELLO)?;
        let id = container.id().to_owned();
        let finished = container.run()?;
        ensure!(
            finished.code != 0 && finished.stdout.is_empty(),
            "it ran, without a record"
        );
        ensure!(
            finished.stderr.contains(RECORDS)
                && finished.stderr.to_lowercase().contains(
                    "no \
                                                            space"
                ),
            "{}",
            finished.stderr
        );
        ensure!(
            task.status()? == "RUNNING",
            "the guest that runs is {}",
            task.status()?
        );
        shell(&format!("rm {records}/filler"))?;
        machine.nothing_left(&id)?;
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        alone.kill_and_delete(task)?;
        Ok(())
    })
}

fn container_with_a_stalled_reader_does_not_stall_others(node: &Node) -> Result<Verdict> {
    node.alone("reader", |alone| {
        // Its output goes into a FIFO with a reader that never reads.
        let fifo = node.folder()?.join("never-read");
        testbed::command::Run::new("mkfifo").arg(&fifo).done()?;
        let held = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .context("open the FIFO")?;
        let template = alone.probe(&["stdout", "10000000"])?;
        let stalled = template.id().to_owned();
        let image = template.create()?;
        alone.tasks().kill(&stalled, "", 9)?;
        image.wait(SETTLE_TIMEOUT)?;
        alone.tasks().delete(&stalled)?;
        alone.tasks().create_with_output(
            &stalled,
            &alone.tasks().rootfs(&stalled)?,
            &fifo.display().to_string(),
        )?;
        alone.tasks().start(&stalled, "")?;
        let started = Instant::now();
        for _ in 0..5 {
            expect(
                &alone.probe(&["stdout", "20"])?.run()?,
                0,
                "000000000000000\n0000",
            )?;
        }
        ensure!(
            started.elapsed() < SETTLE_TIMEOUT,
            "five containers took {:?}",
            started.elapsed()
        );
        let state = alone.tasks().state(&stalled, "")?;
        ensure!(
            state.status == crate::tasks::Phase::Running,
            "the stalled one is {state:?}"
        );
        // It can still be killed.
        let started = Instant::now();
        alone.tasks().kill(&stalled, "", 15)?;
        alone.tasks().wait(&stalled, "")?;
        ensure!(
            started.elapsed() < Duration::from_secs(6),
            "it took {:?} to end",
            started.elapsed()
        );
        let code = image.delete()?;
        ensure!(code == 143, "exit code {code}");
        drop(held);
        Ok(())
    })
}
