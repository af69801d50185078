//! Attacks on exec: a guest, an image or a program in the container prepares files or processes for
//! the next process that is started there.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::containerd::Task;
use testbed::image::Entry;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, expect_refusal, mixed_image_with, tests};

tests![
    exec_refuses_a_root_whose_proc_is_a_symbolic_link,
    create_refuses_an_image_whose_proc_is_a_symbolic_link,
    masked_files_are_the_null_device_after_a_guest_replaced_its_own,
    process_of_exec_is_confined_before_a_program_can_attach_to_it,
    exec_returns_while_a_program_stops_every_process_of_the_container,
    executable_of_the_host_cannot_be_written_from_a_pod,
];

/// A kernel parameter of the node: a write to it gives root on the node.
const CORE_PATTERN: &str = "sys/kernel/core_pattern";

/// Runs a guest in the container that changes its files.
fn guest_does(node: &Node, task: &Task, args: &[&str]) -> Result<()> {
    let args: Vec<&str> = std::iter::once("/app.wasm")
        .chain(args.iter().copied())
        .collect();
    expect(&task.exec(&node.id("guest"), &args).run()?, 0, "").map(drop)
}

fn exec_refuses_a_root_whose_proc_is_a_symbolic_link(node: &Node) -> Result<Verdict> {
    let task = node.mixed(&["sleep", "600"])?.start()?;
    // The first program finds its folder, or creates it.
    expect(
        &task
            .exec("first", &["/native", "read", "/proc/keys"])
            .run()?,
        0,
        "",
    )?;
    for args in [
        &["remove", "/proc"][..],
        &["mkdir", "/p"],
        &["mkdir", "/p/x"],
        &["link", "p/x/..", "/proc"],
    ] {
        guest_does(node, &task, args)?;
    }
    for path in ["/p", "/proc"].map(|folder| format!("{folder}/{CORE_PATTERN}")) {
        let finished = task
            .exec(&node.id("attack"), &["/native", "open", &path])
            .run()?;
        ensure!(
            finished.code != 0 && finished.stdout.is_empty(),
            "{path} can be written: {}",
            finished.text()
        );
        ensure!(
            finished
                .stderr
                .contains("/proc in the container: it is a symbolic link"),
            "the error is {}",
            finished.stderr
        );
    }
    // After the folder is restored, exec works again.
    for args in [&["remove", "/proc"][..], &["mkdir", "/proc"]] {
        guest_does(node, &task, args)?;
    }
    expect(
        &task
            .exec("then", &["/native", "read", "/proc/keys"])
            .run()?,
        0,
        "",
    )?;
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn create_refuses_an_image_whose_proc_is_a_symbolic_link(node: &Node) -> Result<Verdict> {
    let files = vec![
        Entry::folder("/p", 0o755),
        Entry::folder("/p/x", 0o755),
        Entry::link("/proc", "p/x/.."),
    ];
    let image = node.image(&mixed_image_with(&node.prepared, "proc-link", files)?)?;
    let finished = node
        .containerd
        .container(&image, &node.id("proc-link"))
        .args(["/app.wasm", "args"])
        .run()?;
    expect_refusal(&finished, &["mask /proc/", "leads through a symbolic link"])
}

fn masked_files_are_the_null_device_after_a_guest_replaced_its_own(node: &Node) -> Result<Verdict> {
    let image = node.image(&mixed_image_with(
        &node.prepared,
        "with-proc",
        vec![Entry::folder("/proc", 0o755)],
    )?)?;
    for root in ["writable", "read-only"] {
        let container =
            node.containerd
                .container(&image, &node.id("null"))
                .args(["/app.wasm", "sleep", "600"]);
        let task = if root == "read-only" {
            container.flag("--read-only")
        } else {
            container
        }
        .start()?;
        guest_does(node, &task, &["remove", "/dev/null"])?;
        guest_does(
            node,
            &task,
            &["link", &format!("../proc/{CORE_PATTERN}"), "/dev/null"],
        )?;
        // The guest's replacement of its device exists, and masks nothing.
        let finished = task
            .exec("own", &["/native", "device", "/dev/null"])
            .run()?;
        ensure!(
            finished.code == 1 && finished.stderr.contains("not a character device"),
            "{root}: {} {}",
            finished.text(),
            finished.stderr
        );
        expect(
            &task
                .exec("masked", &["/native", "device", "/proc/keys"])
                .run()?,
            0,
            "1:3\n",
        )?;
        let finished = task
            .exec(
                "param",
                &["/native", "open", &format!("/proc/{CORE_PATTERN}")],
            )
            .run()?;
        ensure!(
            finished.code == 1,
            "{root}: a parameter of the node can be written: {}",
            finished.text()
        );
        node.kill_and_delete(task)?;
    }
    Ok(Verdict::Holds)
}

/// Parses the capabilities in a line of the attacker's, and whether the process has a filter.
fn allowed(line: &str) -> Result<(u64, bool)> {
    let field = |key: &str| {
        line.split_once(key)
            .and_then(|(_, rest)| rest.split_whitespace().next())
    };
    let bounding = field("CapBnd:").with_context(|| format!("no capabilities in {line:?}"))?;
    Ok((
        u64::from_str_radix(bounding, 16)?,
        field("Seccomp:") == Some("2"),
    ))
}

fn process_of_exec_is_confined_before_a_program_can_attach_to_it(node: &Node) -> Result<Verdict> {
    let container = node
        .mixed(&["sleep", "600"])?
        .flag("--seccomp")
        .flag("--cap-add")
        .flag("CAP_SYS_PTRACE");
    let task = container.start()?;
    task.exec("attacker", &["/native", "attach", "/data/seen"])
        .start()?;
    let seen = || {
        let file = node.machine().of(task.pid()?, "root/data/seen");
        Ok::<_, anyhow::Error>(std::fs::read_to_string(file).unwrap_or_default())
    };
    let evidence = || seen().unwrap_or_else(|error| format!("{error:#}"));
    let begun = || Ok(seen()?.lines().next().map(str::to_owned));
    let (own, filtered) = allowed(&wait::until(
        "the attacker to begin",
        SETTLE_TIMEOUT,
        begun,
        evidence,
    )?)?;
    ensure!(filtered, "the attacker is under no filter: {}", evidence());
    for _ in 0..15 {
        for args in [&["/native", "exit", "7"][..], &["/bin/exit.wasm"]] {
            let finished = task.exec(&node.id("prey"), args).run()?;
            ensure!(
                [7, 42].contains(&finished.code),
                "{args:?} ended with {}: {}",
                finished.code,
                finished.stderr
            );
        }
    }
    node.tasks().kill(task.id(), "attacker", 9)?;
    node.tasks().wait(task.id(), "attacker")?;
    let lines = seen()?;
    let attached: Vec<&str> = lines
        .lines()
        .filter(|line| line.starts_with("attached"))
        .collect();
    ensure!(
        !attached.is_empty(),
        "the attacker attached to no process, so the test proves nothing: {lines}"
    );
    for line in attached {
        let (capabilities, filtered) = allowed(line)?;
        ensure!(
            capabilities & !own == 0,
            "it attached to a process with more capabilities than {own:x}: {line}"
        );
        ensure!(filtered, "it attached to a process without filters: {line}");
    }
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

/// More than the host's timeouts for an exec process to get its turn and to be set up
/// (`EXEC_SETUP_TIMEOUT` each), on a busy machine.
const SETUP_TIMEOUT: Duration = Duration::from_secs(90);

fn exec_returns_while_a_program_stops_every_process_of_the_container(
    node: &Node,
) -> Result<Verdict> {
    let task = node.mixed(&["sleep", "600"])?.start()?;
    task.exec("attacker", &["/native", "stop"]).start()?;
    let (tasks, id) = (node.tasks(), task.id().to_owned());
    std::thread::scope(|scope| {
        let mut started = Vec::new();
        for number in 0..24 {
            let args = if number % 2 == 0 {
                json!(["/native", "exit", "0"])
            } else {
                json!(["/hello.wasm"])
            };
            let (tasks, id, exec) = (&tasks, &id, format!("stopped-{number}"));
            tasks.exec(
                id,
                &exec,
                &json!({ "user": { "uid": 0, "gid": 0 }, "args": args, "env": [], "cwd": "/" }),
            )?;
            started.push(scope.spawn(move || {
                let began = Instant::now();
                // Whether the attacker was fast enough is irrelevant.
                let result = tasks
                    .start(id, &exec)
                    .map_err(|refusal| refusal.to_string());
                (exec, began.elapsed(), result)
            }));
        }
        // Other containers are served meanwhile.
        expect(
            &node.probe(&["args", "x"])?.run()?,
            0,
            "/app.wasm\nargs\nx\n",
        )?;
        for thread in started {
            let (exec, took, result) = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            ensure!(
                took < SETUP_TIMEOUT,
                "the start of {exec} took {took:?}: {result:?}"
            );
            let fits = result.as_ref().err().is_none_or(|error| {
                // The other exec processes may hold every permit of the pod until then.
                error.contains("was not ready after")
                    || error.contains("processes are being set up in its pod")
            });
            ensure!(fits, "the start of {exec} failed: {result:?}");
        }
        Ok(())
    })?;
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn executable_of_the_host_cannot_be_written_from_a_pod(node: &Node) -> Result<Verdict> {
    let container = node.mixed(&["sleep", "600"])?;
    let task = container.flag("--cap-add").flag("CAP_SYS_PTRACE").start()?;
    // The guest's process is forked by the host, so its executable is the host's.
    let executable = node.machine().of(task.pid()?, "exe");
    let error = OpenOptions::new()
        .append(true)
        .open(executable)
        .err()
        .context("the executable can be opened for writing")?;
    ensure!(
        error.kind() == ErrorKind::ReadOnlyFilesystem,
        "the executable of a guest's process: {error}"
    );
    let finished = task
        .exec("attacker", &["/native", "open", "/proc/1/exe"])
        .run()?;
    ensure!(
        finished.code == 1 && finished.stderr.contains("Read-only file system"),
        "a program in the pod: {} {:?}",
        finished.code,
        finished.stderr
    );
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}
