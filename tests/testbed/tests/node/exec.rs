//! Further processes in a container, as for `kubectl exec` and exec probes.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::containerd::Task;
use tonic::Code;

use crate::events::{EventLog, topics};
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};
use crate::tasks::Phase;

tests![
    exec_runs_a_linux_program_of_the_containers_files,
    exec_runs_another_guest_of_the_containers_files,
    exec_runs_the_containers_own_guest_again,
    exec_finds_a_guest_by_a_relative_path,
    exit_code_of_an_exec_process_is_reported,
    an_exec_process_reads_its_input,
    a_linux_program_finds_its_streams_in_dev,
    a_linux_program_sees_the_containers_processes_and_a_guest_does_not,
    an_exec_process_has_its_own_environment,
    missing_exec_program_is_named_and_the_container_keeps_running,
    exec_process_that_failed_to_start_has_an_exit_and_is_deleted,
    exec_runs_a_program_in_a_native_container,
    exec_processes_share_the_containers_namespaces_and_cgroup,
    exec_process_publishes_each_event_once,
    exec_process_is_killed_and_deleted_without_its_container,
    exec_processes_die_with_their_container,
    twelve_exec_processes_run_at_once,
];

fn container(node: &Node) -> Result<Task> {
    node.mixed(&["sleep", "600"])?
        .env("OF", "container")
        .start()
}

/// Checks that the container is still running, then kills and deletes it.
fn finish(node: &Node, task: Task) -> Result<Verdict> {
    let status = task.status()?;
    ensure!(
        status == "RUNNING",
        "the container is {status}:
{}",
        node.containerd.log_of(task.id())?
    );
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn exec_runs_a_linux_program_of_the_containers_files(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    expect(
        &task.exec("native", &["/native", "args", "a b"]).run()?,
        0,
        "/native\nargs\na b\n",
    )?;
    finish(node, task)
}

fn exec_runs_another_guest_of_the_containers_files(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    expect(
        &task.exec("hello", &["/hello.wasm"]).run()?,
        0,
        "hello from wasm\n",
    )?;
    finish(node, task)
}

fn exec_runs_the_containers_own_guest_again(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    expect(
        &task.exec("again", &["/app.wasm", "args", "x"]).run()?,
        0,
        "/app.wasm\nargs\nx\n",
    )?;
    let finished = task
        .exec(
            "files",
            &["/app.wasm", "write", "/data/file", "of an exec process"],
        )
        .run()?;
    expect(&finished, 0, "")?;
    expect(
        &task
            .exec("look", &["/native", "read", "/data/file"])
            .run()?,
        0,
        "of an exec process",
    )?;
    finish(node, task)
}

fn exec_finds_a_guest_by_a_relative_path(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let finished = task
        .exec("relative", &["exit.wasm"])
        .flag("--cwd")
        .flag("/bin")
        .run()?;
    expect(&finished, 42, "")?;
    finish(node, task)
}

fn exit_code_of_an_exec_process_is_reported(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    expect(&task.exec("guest", &["/bin/exit.wasm"]).run()?, 42, "")?;
    expect(
        &task.exec("program", &["/native", "exit", "3"]).run()?,
        3,
        "",
    )?;
    let trapped = task.exec("trap", &["/app.wasm", "trap"]).run()?;
    ensure!(
        trapped.code == 134,
        "a trap gave {}: {}",
        trapped.code,
        trapped.stderr
    );
    finish(node, task)
}

fn an_exec_process_reads_its_input(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let input = test_guests::pattern(100_000);
    for args in [&["/app.wasm", "cat"][..], &["/native", "read", "-"]] {
        let finished = task
            .exec(args[0].trim_start_matches('/'), args)
            .input(input.clone())
            .run()?;
        ensure!(
            finished.code == 0 && finished.stdout == input,
            "{args:?}: {}, {} bytes",
            finished.code,
            finished.stdout.len()
        );
    }
    finish(node, task)
}

/// Checks the default links in `/dev` of OCI's runtime specification (config-linux, default
/// devices).
fn a_linux_program_finds_its_streams_in_dev(node: &Node) -> Result<Verdict> {
    for task in [container(node)?, node.native(&["tick"])?.start()?] {
        for path in ["/dev/stdin", "/dev/fd/0"] {
            let finished = task
                .exec(&node.id("dev"), &["/native", "read", path])
                .input("typed")
                .run()?;
            expect(&finished, 0, "typed")?;
        }
        finish(node, task)?;
    }
    Ok(Verdict::Holds)
}

fn a_linux_program_sees_the_containers_processes_and_a_guest_does_not(
    node: &Node,
) -> Result<Verdict> {
    let task = container(node)?;
    let seen = task
        .exec("program", &["/native", "read", "/proc/1/comm"])
        .run()?;
    ensure!(
        seen.code == 0 && seen.text().starts_with("wasm:"),
        "{}: {} {}",
        seen.code,
        seen.text(),
        seen.stderr
    );
    // Masked paths of the spec stay masked, and read-only ones cannot change the node.
    expect(
        &task
            .exec("masked", &["/native", "read", "/proc/keys"])
            .run()?,
        0,
        "",
    )?;
    let hidden = task
        .exec("guest", &["/app.wasm", "read", "/proc/1/comm"])
        .run()?;
    ensure!(
        hidden.code != 0 && hidden.stdout.is_empty(),
        "a guest reads {}",
        hidden.text()
    );
    finish(node, task)
}

fn an_exec_process_has_its_own_environment(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    // `ctr` gives it the container's environment.
    expect(
        &task.exec("env", &["/app.wasm", "env"]).run()?,
        0,
        "IMAGE=mixed\nOF=container\n",
    )?;
    let finished = task.exec("native-env", &["/native", "env"]).run()?;
    let text = finished.text();
    let own: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("HOME="))
        .collect();
    ensure!(
        own == ["IMAGE=mixed", "OF=container"],
        "its environment is {text:?}"
    );
    finish(node, task)
}

fn missing_exec_program_is_named_and_the_container_keeps_running(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    for missing in ["/nowhere", "/nowhere.wasm", "nothing"] {
        let finished = task.exec("missing", &[missing]).run()?;
        ensure!(
            finished.code != 0 && finished.stdout.is_empty(),
            "{missing} ran: {}",
            finished.text()
        );
        ensure!(
            finished.stderr.contains(missing),
            "the message does not name {missing}: {}",
            finished.stderr
        );
    }
    expect(&task.exec("then", &["/native", "exit", "0"]).run()?, 0, "")?;
    finish(node, task)
}

fn exec_process_that_failed_to_start_has_an_exit_and_is_deleted(node: &Node) -> Result<Verdict> {
    let tasks = node.tasks();
    let task = container(node)?;
    let id = task.id();
    let process =
        |program: &str| json!({ "user": { "uid": 0, "gid": 0 }, "args": [program], "cwd": "/" });
    tasks.exec(id, "vain", &process("/nowhere"))?;
    tasks.exec(id, "unwanted", &process("/native"))?;
    ensure!(
        tasks.start(id, "vain").is_err(),
        "a program that is not there was started"
    );
    let early = tasks.kill(id, "unwanted", 15);
    ensure!(
        early
            .as_ref()
            .is_err_and(|refusal| refusal.code == Code::FailedPrecondition),
        "an exec process that is not started gets a signal: {early:?}"
    );
    tasks.kill(id, "unwanted", 9)?;
    for (exec, code) in [("vain", 126), ("unwanted", 137)] {
        let end = tasks.wait(id, exec)?;
        ensure!(end.code == code, "{exec} ended with {end:?}");
        let again = tasks.kill(id, exec, 9);
        ensure!(
            again
                .as_ref()
                .is_err_and(|refusal| refusal.code == Code::NotFound),
            "{exec} is killed once more: {again:?}"
        );
        tasks.delete_exec(id, exec)?;
    }
    finish(node, task)
}

fn exec_runs_a_program_in_a_native_container(node: &Node) -> Result<Verdict> {
    let task = node.native(&["tick"])?.start()?;
    expect(
        &task.exec("one", &["/native", "args", "x"]).run()?,
        0,
        "/native\nargs\nx\n",
    )?;
    expect(&task.exec("two", &["/native", "exit", "9"]).run()?, 9, "")?;
    let missing = task.exec("three", &["/nowhere"]).run()?;
    ensure!(
        missing.code != 0 && missing.stderr.contains("/nowhere"),
        "{}: {}",
        missing.code,
        missing.stderr
    );
    finish(node, task)
}

/// Starts an exec process that keeps running, and returns its pid.
fn staying(node: &Node, task: &Task, exec: &str, args: &[&str]) -> Result<i32> {
    let tasks = node.tasks();
    tasks.exec(
        task.id(),
        exec,
        &json!({ "user": { "uid": 0, "gid": 0 }, "args": args, "env": [], "cwd": "/" }),
    )?;
    tasks.start(task.id(), exec)?;
    let state = tasks.state(task.id(), exec)?;
    ensure!(state.status == Phase::Running, "{exec} is {state:?}");
    i32::try_from(state.pid).context("the pid is out of range")
}

fn exec_processes_share_the_containers_namespaces_and_cgroup(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let machine = node.machine();
    let first = task.pid()?;
    for (exec, args) in [
        ("guest", &["/app.wasm", "sleep", "600"][..]),
        ("program", &["/native", "sleep"]),
    ] {
        let pid = staying(node, &task, exec, args)?;
        // A Linux program has a `/proc` that the guest must not see.
        let shared = if exec == "guest" {
            &["pid", "mnt", "ipc", "uts", "net"][..]
        } else {
            &["pid", "ipc", "uts", "net"]
        };
        for kind in shared {
            let (own, containers) = (
                machine.namespace_of(pid, kind)?,
                machine.namespace_of(first, kind)?,
            );
            ensure!(
                own == containers,
                "{exec} is in another namespace of kind {kind}: {own}, {containers}"
            );
        }
        ensure!(
            machine.read(pid, "cgroup")? == machine.read(first, "cgroup")?,
            "{exec} is in another cgroup"
        );
        ensure!(
            machine.parent_of(pid)? == machine.host()?,
            "{exec} is not the host's own child"
        );
        machine.has_no_foreign_descriptors(pid)?;
    }
    finish(node, task)
}

fn exec_process_publishes_each_event_once(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let events = EventLog::follow(node)?;
    for (args, code) in [
        (&["/native", "exit", "7"][..], 7),
        (&["/bin/exit.wasm"], 42),
    ] {
        let exec = node.id("exit");
        expect(&task.exec(&exec, args).run()?, code, "")?;
        let lines = events.until(&exec, "exit")?;
        ensure!(
            topics(&lines) == ["exec-added", "exec-started", "exit"],
            "{lines:#?}"
        );
    }
    finish(node, task)
}

fn exec_process_is_killed_and_deleted_without_its_container(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let (tasks, machine, id) = (node.tasks(), node.machine(), task.id().to_owned());
    let pid = staying(node, &task, "long", &["/app.wasm", "sleep", "600"])?;
    ensure!(
        task.status()? == "RUNNING",
        "the container is {}",
        task.status()?
    );
    tasks.kill(&id, "long", 15)?;
    let end_of = tasks.wait(&id, "long")?;
    ensure!(end_of.code == 143, "SIGTERM gave {end_of:?}");
    machine.wait_until_dead(pid)?;
    let deleted = tasks.delete_exec(&id, "long")?;
    ensure!(
        deleted == end_of,
        "wait returned {end_of:?}, delete {deleted:?}"
    );
    let again = tasks.state(&id, "long").map_err(|refusal| refusal.code);
    ensure!(again == Err(Code::NotFound), "it is still there: {again:?}");
    // The id is free again.
    staying(node, &task, "long", &["/native", "sleep"])?;
    finish(node, task)
}

fn exec_processes_die_with_their_container(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let guest = staying(node, &task, "guest", &["/app.wasm", "sleep", "600"])?;
    let program = staying(node, &task, "program", &["/native", "family"])?;
    let id = task.id().to_owned();
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    for pid in [guest, program] {
        node.machine().wait_until_dead(pid)?;
    }
    for exec in ["guest", "program"] {
        let ended = node.tasks().wait(&id, exec)?;
        ensure!(ended.code == 137, "{exec} ended with {ended:?}");
    }
    task.delete()?;
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

fn twelve_exec_processes_run_at_once(node: &Node) -> Result<Verdict> {
    let task = container(node)?;
    let all: Vec<_> = (0..12)
        .map(|number| {
            let code = number.to_string();
            let program = if number % 2 == 0 {
                "/native"
            } else {
                "/app.wasm"
            };
            let exec = task.exec(&format!("at-once-{number}"), &[program, "exit", &code]);
            std::thread::spawn(move || exec.run())
        })
        .collect();
    for (number, thread) in all.into_iter().enumerate() {
        let finished = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        ensure!(
            usize::try_from(finished.code).ok() == Some(number),
            "{number} ended with {}: {}",
            finished.code,
            finished.stderr
        );
    }
    finish(node, task)
}
