//! Containers that exit or are killed, further processes in them, and the host's journal.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::checks;
use crate::containerd::NAMESPACE;
use crate::fixture::{self, Container, Driver, Fixture, IMAGE, RUNTIME, nothing_left};
use crate::{machine, wait};

checks![
    ctr_runs_a_guest,
    exit_code_of_a_guest_is_reported,
    a_native_container_is_in_its_cgroup,
    sigterm_ends_a_guest_with_143,
    a_container_is_in_its_cgroup_and_deleted_leaves_nothing,
    exec_runs_a_native_program_and_a_guest,
    exec_refuses_a_root_whose_proc_is_a_symbolic_link,
    masked_files_are_the_null_device_after_a_guest_replaced_its_own,
    process_of_exec_is_confined_before_a_program_can_attach_to_it,
    other_containers_are_created_while_a_program_stops_every_process_of_one,
    journal_has_the_lines_of_the_host,
];

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

fn ctr_runs_a_guest(fixture: &Fixture, driver: Driver) -> Result<()> {
    let id = fixture.id(driver, "hello");
    let (options, cgroup) = (driver.options_file()?, driver.cgroups_path(&id));
    let first = [
        "--namespace",
        NAMESPACE,
        "run",
        "--rm",
        "--runtime",
        RUNTIME,
        "--runtime-config-path",
        &options,
    ];
    let text = fixture::ctr(
        &[
            &first[..],
            &["--cgroup", &cgroup, IMAGE, &id, "/hello.wasm"],
        ]
        .concat(),
    )?;
    ensure!(text == "hello from wasm\n", "it printed {text:?}");
    nothing_left(NAMESPACE, &id)
}

fn exit_code_of_a_guest_is_reported(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "exit", "7"])?;
    let codes = (container.wait()?, container.delete()?);
    ensure!(codes == (7, 7), "its exit codes are {codes:?}");
    Ok(())
}

fn a_native_container_is_in_its_cgroup(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/native", "sleep"])?;
    container.until_it_prints("sleeping")?;
    let cgroup = machine::cgroup_of(container.pid()?)?;
    ensure!(
        cgroup == driver.cgroup(&container.id),
        "it is in {}",
        cgroup.display()
    );
    // It handles the signal, and exits by itself.
    let code = container.end(SIGTERM)?;
    ensure!(code == 0, "exit code {code}");
    nothing_left(NAMESPACE, &container.id)
}

fn sigterm_ends_a_guest_with_143(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    container.until_it_prints("sleeping")?;
    let code = container.end(SIGTERM)?;
    ensure!(code == 143, "exit code {code}");
    Ok(())
}

fn a_container_is_in_its_cgroup_and_deleted_leaves_nothing(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    container.until_it_prints("sleeping")?;
    let pid = container.pid()?;
    let cgroup = machine::cgroup_of(pid)?;
    ensure!(
        cgroup == driver.cgroup(&container.id),
        "it is in {}",
        cgroup.display()
    );
    let units = machine::units(&format!("wasm-{}.scope", container.id))?;
    ensure!(
        units.len() == usize::from(driver == Driver::Systemd),
        "its units in systemd are: {units:?}"
    );
    let code = container.end(SIGKILL)?;
    ensure!(code == 137, "exit code {code}");
    ensure!(!machine::is_alive(pid), "process {pid} lives");
    nothing_left(NAMESPACE, &container.id)
}

fn exec_runs_a_native_program_and_a_guest(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    container.exec("guest", &["/hello.wasm"])?;
    let guest = container.end_of("guest")?;
    ensure!(
        guest == ("hello from wasm\n".to_owned(), 0),
        "the guest ended as {guest:?}"
    );
    container.exec("native", &["/native", "sleep"])?;
    let pid = fixture.containerd.state(&container.id, "native")?.pid;
    let cgroup = machine::cgroup_of(pid)?;
    ensure!(
        cgroup.starts_with(driver.cgroup(&container.id)),
        "the native program is in {}",
        cgroup.display()
    );
    machine::kill(pid)?;
    let (text, code) = container.end_of("native")?;
    ensure!(
        code == 137,
        "the native program ended with {code}, and printed {text:?}"
    );
    container.end(SIGKILL).map(drop)
}

fn guest_does(container: &Container<'_>, exec: &str, args: &[&str]) -> Result<()> {
    let args: Vec<&str> = std::iter::once("/app.wasm")
        .chain(args.iter().copied())
        .collect();
    container.exec(exec, &args)?;
    let end = container.end_of(exec)?;
    ensure!(end.1 == 0, "{args:?} ended as {end:?}");
    Ok(())
}

fn exec_refuses_a_root_whose_proc_is_a_symbolic_link(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    for (exec, args) in [
        ("a", &["mkdir", "/p"][..]),
        ("b", &["mkdir", "/p/x"]),
        ("c", &["link", "p/x/..", "/proc"]),
    ] {
        guest_does(&container, exec, args)?;
    }
    let attack = container.exec("attack", &["/native", "open", "/p/sys/kernel/core_pattern"]);
    let error = attack
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        error.contains("/proc in the container: it is a symbolic link"),
        "the error is {error:?}"
    );
    container.end(SIGKILL).map(drop)
}

fn masked_files_are_the_null_device_after_a_guest_replaced_its_own(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    guest_does(&container, "a", &["remove", "/dev/null"])?;
    guest_does(
        &container,
        "b",
        &["link", "../proc/sys/kernel/core_pattern", "/dev/null"],
    )?;
    container.exec("masked", &["/native", "device", "/proc/timer_list"])?;
    let masked = container.end_of("masked")?;
    ensure!(
        masked == ("1:3\n".to_owned(), 0),
        "a masked file is {masked:?}"
    );
    container.end(SIGKILL).map(drop)
}

/// A line of `/native attach`: the bounding capabilities of a process, and whether a filter of
/// system calls holds for it.
fn allowed(line: &str) -> Result<(u64, bool)> {
    let word = |key: &str| {
        line.split_once(key)
            .and_then(|(_, rest)| rest.split_whitespace().next())
    };
    let bounding = word("CapBnd:").with_context(|| format!("no capabilities in {line:?}"))?;
    Ok((
        u64::from_str_radix(bounding, 16)?,
        word("Seccomp:") == Some("2"),
    ))
}

fn process_of_exec_is_confined_before_a_program_can_attach_to_it(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run_changed(driver, &["/app.wasm", "sleep", "600"], |spec| {
        for set in ["bounding", "effective", "permitted"] {
            if let Some(names) = spec["process"]["capabilities"][set].as_array_mut() {
                names.push("CAP_SYS_PTRACE".into());
            }
        }
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["acct"], "action": "SCMP_ACT_ERRNO" }],
        });
    })?;
    container.exec("attacker", &["/native", "attach", "/seen"])?;
    let file = format!("/proc/{}/root/seen", container.pid()?);
    let seen = || fs::read_to_string(&file).unwrap_or_default();
    let begun = || Ok(seen().lines().next().map(str::to_owned));
    let (own, filtered) = allowed(&wait::until("the attacker to begin", begun, seen)?)?;
    ensure!(filtered, "the attacker is under no filter: {}", seen());
    for number in 0..8 {
        for (kind, words, expected) in [
            ("native", &["/native", "exit", "7"][..], 7),
            ("guest", &["/hello.wasm"], 0),
        ] {
            let exec = format!("{kind}{number}");
            container.exec(&exec, words)?;
            let end = container.end_of(&exec)?;
            ensure!(end.1 == expected, "{words:?} ended as {end:?}");
        }
    }
    machine::kill(fixture.containerd.state(&container.id, "attacker")?.pid)?;
    let lines = seen();
    container.end_of("attacker")?;
    let attached: Vec<&str> = lines
        .lines()
        .filter(|line| line.starts_with("attached"))
        .collect();
    ensure!(
        !attached.is_empty(),
        "the attacker attached to nothing, so this shows nothing: {lines}"
    );
    for line in attached {
        let (capabilities, filtered) = allowed(line)?;
        ensure!(
            capabilities & !own == 0,
            "it attached to a process with more capabilities than {own:x}: {line}"
        );
        ensure!(filtered, "it attached to a process without filters: {line}");
    }
    container.end(SIGKILL).map(drop)
}

fn other_containers_are_created_while_a_program_stops_every_process_of_one(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    container.exec("attacker", &["/native", "stop"])?;
    thread::scope(|scope| {
        let mut started = Vec::new();
        for number in 0..8 {
            let (container, exec) = (&container, format!("stopped{number}"));
            let words: &[&str] = if number % 2 == 0 {
                &["/native", "exit", "0"]
            } else {
                &["/hello.wasm"]
            };
            started.push(scope.spawn(move || {
                let result = container.exec(&exec, words);
                (exec, result.map_err(|error| format!("{error:#}")))
            }));
        }
        let other = fixture.run(driver, &["/app.wasm", "exit", "7"])?;
        let codes = (other.wait()?, other.delete()?);
        ensure!(codes == (7, 7), "another container ended as {codes:?}");
        for thread in started {
            let (exec, result) = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            // Whether the attacker was fast enough does not matter.
            let fits = result
                .as_ref()
                .err()
                .is_none_or(|error| error.contains("was not ready after"));
            ensure!(fits, "the start of {exec} failed: {result:?}");
        }
        Ok(())
    })?;
    container.end(SIGKILL).map(drop)
}

fn journal_has_the_lines_of_the_host(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    let host = machine::host_of(container.pid()?)?.to_string();
    container.end(SIGKILL)?;
    let there = || Ok(Some(machine::journal_of(&container.id)?).filter(|lines| lines.len() >= 2));
    let lines = wait::until("the host's lines in the journal", there, || {
        String::from("there are none, or only one")
    })?;
    for (name, expected) in [("CONTAINERD_NAMESPACE", NAMESPACE), ("_PID", &host)] {
        ensure!(
            lines.iter().any(|line| line[name] == expected),
            "no line has {expected} as its {name}: {lines:#?}"
        );
    }
    let names_guest = |line: &Value| {
        line["GUEST_DIGEST"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    };
    ensure!(
        lines.iter().any(names_guest),
        "no line names the guest: {lines:#?}"
    );
    Ok(())
}
