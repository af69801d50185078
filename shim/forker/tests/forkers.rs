//! Forkers and zygotes, for real: this program is their host. It has one thread when it starts
//! forkers, which the usual test harness does not allow.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "a process that acts as a host reports its error to the test"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use process_forker::wire::{MAX_REPLY, MAX_REQUEST, Message};
use process_forker::{Child, Failure, Forkers, SpawnError, SpawnRequest, Zygote};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus, getrlimit, kill_process,
    setrlimit, waitid,
};

/// First argument of a process that acts as a host.
const ACT: &str = "act-as-host";

type Test = fn(&Arc<Forkers>) -> Result<()>;

/// Each runs as a host of its own.
const TESTS: &[(&str, Test)] = &[
    (
        "spawned_process_is_a_child_of_the_host_and_gets_its_task_over_its_socket",
        task_arrives,
    ),
    (
        "spawned_process_has_no_descriptor_but_its_control_socket_and_null",
        nothing_is_inherited,
    ),
    (
        "spawned_process_that_panics_exits_with_101",
        panic_is_an_exit,
    ),
    (
        "forker_holds_no_descriptor_of_its_host",
        forkers_hold_nothing,
    ),
    ("lost_forker_is_replaced_each_time", lost_forker),
    ("forkers_that_are_both_lost_are_not_replaced", lost_forkers),
    ("zygote_is_made_when_it_is_first_needed", zygote_when_needed),
    (
        "zygotes_of_different_preparation_serve_side_by_side",
        two_zygotes,
    ),
    ("lost_zygote_is_replaced_and_prepared_again", lost_zygote),
    (
        "zygote_whose_preparation_fails_is_reported_with_the_step",
        failed_preparation,
    ),
    (
        "spawn_without_free_descriptors_fails_and_leaves_nothing",
        few_descriptors,
    ),
    (
        "forkers_and_zygotes_end_when_they_are_dropped",
        ended_when_dropped,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(ACT) {
        return act(arguments.next().as_deref());
    }
    let arguments = Arguments::from_args();
    let trials = TESTS.iter().map(|&(name, _)| {
        Trial::test(name, move || {
            let program = std::env::current_exe()?;
            let output = Command::new(program).args([ACT, name]).output()?;
            if output.status.success() {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&output.stderr);
            Err(Failed::from(format!("{}: {text}", output.status)))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn act(name: Option<&str>) -> ExitCode {
    let test = TESTS.iter().find(|(each, _)| Some(*each) == name);
    let done = test.context("no such test").and_then(|(_, test)| {
        // Of a host that listens already when it forks.
        let _held = fs::File::open("/dev/full")?;
        test(&Arc::new(Forkers::start()?))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Doubles a number: a worker's entry.
#[expect(
    clippy::needless_pass_by_value,
    reason = "entries own their control sockets"
)]
fn double(control: OwnedFd) -> u8 {
    let Ok(number) = Message::receive(&control, MAX_REQUEST).and_then(Message::value::<u32>) else {
        return 1;
    };
    let sent = Message::of(&(number * 2)).and_then(|reply| reply.send(&control));
    u8::from(sent.is_err())
}

/// Sends a text about the process it runs in.
fn describe(control: OwnedFd) -> u8 {
    let mut control = UnixStream::from(control);
    let descriptors = descriptors("self").unwrap_or_default();
    let prepared = PREPARED.load(Ordering::Relaxed);
    u8::from(write!(control, "{prepared} {descriptors:?}").is_err())
}

fn panics(_: OwnedFd) -> u8 {
    std::panic::resume_unwind(Box::new(()))
}

/// What the preparation of this process's zygote has stored.
static PREPARED: AtomicU32 = AtomicU32::new(0);

#[expect(clippy::unnecessary_wraps, reason = "preparations can fail")]
fn prepare<const NUMBER: u32>() -> Result<(), Failure> {
    PREPARED.store(NUMBER, Ordering::Relaxed);
    Ok(())
}

fn fail() -> Result<(), Failure> {
    Err(Failure::of("load the engine", "it is not there"))
}

type Spawn<'a> = &'a dyn Fn(&SpawnRequest) -> Result<Child, SpawnError>;

fn doubled(spawn: Spawn<'_>) -> Result<Child> {
    let (ours, theirs) = UnixStream::pair()?;
    let request = SpawnRequest::new(double, theirs.into(), 0);
    let child = spawn(&request)?;
    drop(request);
    Message::of(&21_u32)?.send(&ours)?;
    let reply = Message::receive(&ours, MAX_REPLY)?.value::<u32>()?;
    ensure!(reply == 42, "{reply}");
    Ok(child)
}

fn described(spawn: Spawn<'_>) -> Result<String> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let request = SpawnRequest::new(describe, theirs.into(), 0);
    let child = spawn(&request)?;
    drop(request);
    let mut text = String::new();
    ours.read_to_string(&mut text)?;
    ensure!(end_of(&child)?.exit_status() == Some(0));
    Ok(text)
}

fn end_of(child: &Child) -> Result<WaitIdStatus> {
    waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?.context("it has ended")
}

fn descriptors(process: &str) -> std::io::Result<Vec<String>> {
    let mut held = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{process}/fd"))? {
        // The listed folder itself is closed by now.
        if let Ok(target) = fs::read_link(descriptor?.path()) {
            held.push(target.display().to_string());
        }
    }
    Ok(held)
}

/// The host's children of this name that live.
fn children(name: &str) -> Result<Vec<Pid>> {
    let all = fs::read_to_string("/proc/thread-self/children")?;
    let of_name = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(&format!("({name}) ")) && !stat.contains(") Z ")
    };
    let pids = all.split_whitespace().filter(of_name);
    pids.map(|pid| Pid::from_raw(pid.parse()?).context("not 0"))
        .collect()
}

/// Kills a process and waits until it has ended, which its host is to notice by itself.
fn kill(pid: Pid) -> Result<()> {
    kill_process(pid, Signal::KILL)?;
    waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )?;
    Ok(())
}

fn task_arrives(forkers: &Arc<Forkers>) -> Result<()> {
    let child = doubled(&|request| forkers.spawn(request))?;
    ensure!(end_of(&child)?.exit_status() == Some(0));
    Ok(())
}

fn nothing_is_inherited(forkers: &Arc<Forkers>) -> Result<()> {
    let zygote = Zygote::new(Arc::clone(forkers), prepare::<1>);
    for spawn in [
        &|request: &SpawnRequest| forkers.spawn(request) as _,
        &|request: &SpawnRequest| zygote.spawn(request) as _,
    ] as [Spawn<'_>; 2]
    {
        let text = described(spawn)?;
        ensure!(
            text.matches("/dev/null").count() == 3 && text.matches("socket:").count() == 1,
            "{text}"
        );
        ensure!(!text.contains("/dev/full"), "{text}");
    }
    Ok(())
}

fn panic_is_an_exit(forkers: &Arc<Forkers>) -> Result<()> {
    let (_ours, theirs) = UnixStream::pair()?;
    let child = forkers.spawn(&SpawnRequest::new(panics, theirs.into(), 0))?;
    ensure!(end_of(&child)?.exit_status() == Some(101));
    Ok(())
}

fn forkers_hold_nothing(_: &Arc<Forkers>) -> Result<()> {
    let forkers = children("wasmedge-forker")?;
    ensure!(forkers.len() == 2, "{forkers:?}");
    for forker in forkers {
        let held = descriptors(&forker.as_raw_pid().to_string())?;
        ensure!(
            held.len() == 4 && !held.iter().any(|path| path == "/dev/full"),
            "{held:?}"
        );
    }
    Ok(())
}

fn lost_forker(forkers: &Arc<Forkers>) -> Result<()> {
    for index in [0, 1, 0, 1] {
        let pids = children("wasmedge-forker")?;
        kill(*pids.get(index).context("there are two")?)?;
        end_of(&doubled(&|request| forkers.spawn(request))?)?;
        let now = children("wasmedge-forker")?;
        ensure!(now.len() == 2 && now != pids, "{now:?}");
    }
    Ok(())
}

fn lost_forkers(forkers: &Arc<Forkers>) -> Result<()> {
    for pid in children("wasmedge-forker")? {
        kill(pid)?;
    }
    let spawned = doubled(&|request| forkers.spawn(request));
    let error = spawned.err().context("no forker is left")?;
    let lost = matches!(error.downcast_ref(), Some(SpawnError::Lost(_)));
    ensure!(lost, "{error}");
    Ok(())
}

fn zygote_when_needed(forkers: &Arc<Forkers>) -> Result<()> {
    let zygote = Zygote::new(Arc::clone(forkers), prepare::<1>);
    ensure!(children("wasmedge-zygote")?.is_empty());
    let text = described(&|request| zygote.spawn(request))?;
    ensure!(text.starts_with("1 "), "{text}");
    ensure!(children("wasmedge-zygote")?.len() == 1);
    Ok(())
}

fn two_zygotes(forkers: &Arc<Forkers>) -> Result<()> {
    let one = Zygote::new(Arc::clone(forkers), prepare::<1>);
    let two = Zygote::new(Arc::clone(forkers), prepare::<2>);
    for _ in 0..2 {
        for (zygote, number) in [(&one, "1 "), (&two, "2 ")] {
            let text = described(&|request| zygote.spawn(request))?;
            ensure!(text.starts_with(number), "{text}");
        }
    }
    let text = described(&|request| forkers.spawn(request))?;
    ensure!(text.starts_with("0 "), "a plain forker: {text}");
    Ok(())
}

fn lost_zygote(forkers: &Arc<Forkers>) -> Result<()> {
    let zygote = Zygote::new(Arc::clone(forkers), prepare::<1>);
    zygote.pidfd()?;
    for _ in 0..2 {
        for name in ["wasmedge-zygote", "wasmedge-forker"] {
            kill(*children(name)?.first().context(name)?)?;
        }
        let text = described(&|request| zygote.spawn(request))?;
        ensure!(text.starts_with("1 "), "{text}");
    }
    Ok(())
}

fn failed_preparation(forkers: &Arc<Forkers>) -> Result<()> {
    let zygote = Zygote::new(Arc::clone(forkers), fail);
    let error = zygote.pidfd().err().context("its preparation fails")?;
    ensure!(matches!(error, SpawnError::Lost(_)), "{error}");
    let text = error.to_string();
    ensure!(text.contains("load the engine: it is not there"), "{text}");
    ensure!(children("wasmedge-zygote")?.is_empty(), "it is left");
    Ok(())
}

fn few_descriptors(forkers: &Arc<Forkers>) -> Result<()> {
    let usual = getrlimit(Resource::Nofile);
    let mut failures = 0;
    for limit in 3..40 {
        let (_ours, theirs) = UnixStream::pair()?;
        let request = SpawnRequest::new(double, theirs.into(), 0);
        let current = Some(limit);
        setrlimit(Resource::Nofile, Rlimit { current, ..usual })?;
        let spawned = forkers.spawn(&request);
        setrlimit(Resource::Nofile, usual)?;
        match spawned {
            Err(SpawnError::Host(_)) => failures += 1,
            Err(error) => bail!("with {limit} descriptors: {error}"),
            Ok(child) => {
                ensure!(failures > 1, "{failures} failures only");
                kill_process(number(&child)?, Signal::KILL)?;
                end_of(&child)?;
                return Ok(());
            }
        }
        let children = fs::read_to_string("/proc/thread-self/children")?;
        ensure!(children.split_whitespace().count() == 2, "{children}");
    }
    bail!("40 descriptors are not enough")
}

fn number(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.pid.try_into()?).context("not 0")
}

fn ended_when_dropped(_: &Arc<Forkers>) -> Result<()> {
    let first = children("wasmedge-forker")?;
    let forkers = Arc::new(Forkers::start()?);
    let zygote = Zygote::new(Arc::clone(&forkers), prepare::<1>);
    zygote.pidfd()?;
    ensure!(children("wasmedge-forker")?.len() == 4);
    drop(zygote);
    ensure!(children("wasmedge-zygote")?.is_empty());
    drop(forkers);
    let left = children("wasmedge-forker")?;
    ensure!(left == first, "{left:?}");
    Ok(())
}
