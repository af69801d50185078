//! Tests of hosts that are lost, and of hosts that lose their forkers: each host is a process, this
//! program with other arguments.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a process that acts as a host reports to the test"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use native_container::NativeError;
use process_forker::SpawnError;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process, setrlimit,
    waitid,
};

use crate::bundle::{Bundle, SOON, children, start_forkers, wait};

/// First argument of a process that acts as a host.
const ACT: &str = "act-as-host";

/// Runs such a host, if this process is one.
pub(crate) fn act() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != ACT {
        return None;
    }
    let done = start_forkers().and_then(|()| match arguments.next().as_deref() {
        Some("start") => hold(true),
        Some("create") => hold(false),
        Some("lose-forkers") => lose_forkers(),
        Some("few-descriptors") => few_descriptors(),
        other => bail!("no such act: {other:?}"),
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Holds a container until it is killed. Its bundle goes with the test that killed it.
fn hold(start: bool) -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = if start {
        bundle.start()?
    } else {
        bundle.create()?
    };
    let cgroups: Vec<_> = bundle
        .cgroups()?
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    println!(
        "{} {} {}",
        container.pid(),
        bundle.folder.path().display(),
        cgroups.join(" ")
    );
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn lose_forkers() -> Result<()> {
    let waiting = Bundle::new(&["exit", "5"])?;
    let container = waiting.create()?;
    // One after the other: each time there is a standby.
    for _ in 0..3 {
        kill_forkers(1)?;
        let next = Bundle::new(&["exit", "0"])?;
        let created = next.create()?;
        created.start()?;
        ensure!(wait(created.pidfd())? == 0);
        created.delete()?;
    }
    // All at once.
    kill_forkers(2)?;
    let late = Bundle::new(&["exit", "0"])?;
    let error = late.create().err().context("there is no forker")?;
    ensure!(
        matches!(error, NativeError::Spawn(SpawnError::Lost(_))),
        "{error}"
    );
    ensure!(
        fs::read_dir(late.state())?.next().is_none(),
        "state is left"
    );
    container.start()?;
    ensure!(wait(container.pidfd())? == 5);
    container.delete()?;
    ensure!(waiting.cgroups()?.is_empty());
    ensure!(
        children()?.iter().all(|child| child.ends_with(") Z")),
        "{:?}",
        children()?
    );
    Ok(())
}

/// Kills the first forkers that live, and waits until they have ended, which their host is to
/// notice by itself.
fn kill_forkers(count: usize) -> Result<()> {
    let forkers = children()?
        .into_iter()
        .filter(|child| child.ends_with("(wasmedge-forker) S"));
    let pids: Vec<Pid> = forkers
        .filter_map(|child| Pid::from_raw(child.split(' ').next()?.parse().ok()?))
        .collect();
    ensure!(
        pids.len() == 2,
        "a forker and its standby: {:?}",
        children()?
    );
    for pid in pids.into_iter().take(count) {
        kill_process(pid, Signal::KILL)?;
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )?;
    }
    Ok(())
}

/// Creates a container with as few descriptors as there can be, then with one more, until it can be
/// done.
fn few_descriptors() -> Result<()> {
    let bundle = Bundle::new(&["exit", "0"])?;
    bundle.write()?;
    let usual = getrlimit(Resource::Nofile);
    let mut failures = 0;
    for limit in 4..40 {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(limit),
                maximum: usual.maximum,
            },
        )?;
        let created = bundle.create_as_written(native_container::Stdio::default());
        setrlimit(Resource::Nofile, usual)?;
        match created {
            Err(_) => {
                failures += 1;
                bundle
                    .nothing_is_left()
                    .with_context(|| format!("with {limit} descriptors"))?;
            }
            Ok(container) => {
                ensure!(failures > 3, "{failures} failures only");
                container.start()?;
                ensure!(wait(container.pidfd())? == 0);
                container.delete()?;
                return bundle.nothing_is_left();
            }
        }
    }
    bail!("40 descriptors are not enough")
}

fn host(act: &str) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args([ACT, act])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?)
}

pub(crate) fn dies_with_its_host() -> Result<()> {
    killed_host("start")
}

pub(crate) fn waiting_dies_with_its_host() -> Result<()> {
    killed_host("create")
}

fn killed_host(act: &str) -> Result<()> {
    let mut host = host(act)?;
    let mut line = String::new();
    BufReader::new(host.stdout.take().context("piped")?).read_line(&mut line)?;
    host.kill()?;
    host.wait()?;
    let mut words = line.split_whitespace();
    let (pid, folder) = words
        .next()
        .zip(words.next())
        .with_context(|| format!("the host reported {line:?}"))?;
    let began = Instant::now();
    // Its number is gone, or it is a zombie.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        if began.elapsed() > SOON {
            bail!("{pid} outlives its host by {SOON:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_dir_all(folder)?;
    for cgroup in words {
        let cgroup = std::path::Path::new(cgroup);
        fs::remove_dir(cgroup)?;
        fs::remove_dir(cgroup.parent().context("a parent")?)?;
    }
    Ok(())
}

pub(crate) fn forker_holds_nothing() -> Result<()> {
    let forker = children()?[0]
        .split(' ')
        .next()
        .context("a number")?
        .to_owned();
    let mut held = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{forker}/fd"))? {
        held.push(fs::read_link(descriptor?.path())?.display().to_string());
    }
    ensure!(
        held.len() == 4 && !held.iter().any(|path| path == "/dev/full"),
        "{held:?}"
    );
    Ok(())
}

pub(crate) fn lost_forker() -> Result<()> {
    succeeds("lose-forkers")
}

pub(crate) fn lack_of_descriptors() -> Result<()> {
    succeeds("few-descriptors")
}

fn succeeds(act: &str) -> Result<()> {
    let mut host = host(act)?;
    let status = host.wait()?;
    ensure!(status.success(), "the host: {status}");
    Ok(())
}
