//! The confinement of a helper, seen from inside and from outside, and its end with its host.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use guest_compiler::{CompileError, FailureKind, Stop};

use crate::acts;
use crate::host::{ACT, NewJob, cgroups, nothing_is_left};

/// How long a state of a process may take to come.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Between two looks at it.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `found` has a value; fails with what it last saw.
fn until<T>(mut found: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match found()? {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => bail!("timeout: {seen}"),
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

pub(crate) fn from_inside() -> Result<()> {
    let failed = NewJob::of(&acts::module("probe"))?.acting().failure()?;
    ensure!(failed.kind == FailureKind::Refused, "{failed:?}");
    ensure!(failed.reason.ends_with("app.wasm: nothing"), "{failed:?}");
    nothing_is_left()
}

/// Returns the status of a helper that is confined.
fn status(pid: u32) -> Result<String> {
    until(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(if status.contains("Seccomp:\t2") {
            Ok(status)
        } else {
            Err(status)
        })
    })
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let lines = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(lines.context(name.to_owned())?.trim())
}

fn open_files(pid: u32) -> Result<Vec<String>> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that was closed meanwhile is not there.
        if let Ok(target) = fs::read_link(entry?.path()) {
            open.push(target.display().to_string());
        }
    }
    Ok(open)
}

pub(crate) fn from_outside() -> Result<()> {
    let (compiling, draft) = NewJob::of(&acts::module("wait"))?.acting().start()?;
    let pid = compiling.pid();
    let status = status(pid)?;
    for (name, expected) in [
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Uid", "65534\t65534\t65534\t65534"),
        ("Gid", "65534\t65534\t65534\t65534"),
        ("Groups", ""),
    ] {
        ensure!(field(&status, name)? == expected, "{status}");
    }
    ensure!(field(&status, "NSpid")?.ends_with("\t1"), "{status}");
    let path = |name: &str| format!("/proc/{pid}/{name}");
    // The socket; the pipe, twice. The module is open until it is read.
    until(|| {
        let mut open = open_files(pid)?;
        open.sort();
        let kinds: Vec<_> = open
            .iter()
            .filter_map(|name| name.split(':').next())
            .collect();
        Ok(if kinds == ["pipe", "pipe", "socket"] {
            Ok(())
        } else {
            Err(format!("{open:?}"))
        })
    })?;
    let root: Vec<_> = fs::read_dir(path("root"))?.collect();
    ensure!(root.is_empty(), "{root:?}");
    let mounts = fs::read_to_string(path("mountinfo"))?;
    let of_draft = draft
        .path()
        .file_name()
        .context("it has a name")?
        .to_string_lossy();
    let is_draft = mounts.contains(&format!("/{of_draft} / "));
    ensure!(mounts.lines().count() == 1 && is_draft, "{mounts}");
    ensure!(fs::read(path("environ"))?.is_empty());
    for namespace in ["net", "ipc", "uts", "mnt", "pid"] {
        let link = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}"));
        ensure!(link(&pid.to_string())? != link("self")?, "{namespace}");
    }
    let limits = fs::read_to_string(path("limits"))?;
    for limit in [
        "Max core file size        0",
        "Max cpu time              300",
    ] {
        ensure!(limits.contains(limit), "{limits}");
    }
    let found = cgroups(std::process::id())?;
    ensure!(!found.is_empty());
    for cgroup in found {
        let members = fs::read_to_string(cgroup.join("cgroup.procs"))?;
        ensure!(
            members.trim() == pid.to_string(),
            "{}: {members}",
            cgroup.display()
        );
    }
    ensure!(fs::read_to_string(path("oom_score_adj"))?.trim() == "900");
    let stat = fs::read_to_string(path("stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("stat")?;
    // nice(18) and policy(40) of proc_pid_stat(5), counted from the state, which is 2.
    let fields: Vec<_> = fields.split(' ').collect();
    ensure!(fields[16] == "19" && fields[38] == "3", "{stat}");
    drop(compiling);
    drop(draft);
    nothing_is_left()
}

pub(crate) fn dies_with_host() -> Result<()> {
    let mut host = Command::new(acts::program())
        .arg(ACT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(host.stdout.take().context("piped")?).read_line(&mut line)?;
    let helper: u32 = line.trim().parse().with_context(|| line.clone())?;
    status(helper)?;
    let id = host.id();
    host.kill()?;
    host.wait()?;
    until(|| {
        // Another process reaps it.
        let stat = fs::read_to_string(format!("/proc/{helper}/stat")).unwrap_or_default();
        let lives = !stat.is_empty() && !stat.contains(") Z ");
        Ok(if lives { Err(stat) } else { Ok(()) })
    })?;
    // The folders of its cgroup are empty; the first helper of another host removes them.
    for cgroup in cgroups(id)? {
        until(|| {
            let members = fs::read_to_string(cgroup.join("cgroup.procs"))?;
            Ok(if members.is_empty() {
                Ok(())
            } else {
                Err(members)
            })
        })?;
        fs::remove_dir(cgroup)?;
    }
    Ok(())
}

pub(crate) fn cancelled() -> Result<()> {
    let (mut compiling, _draft) = NewJob::of(&acts::module("wait"))?.acting().start()?;
    let pid = compiling.pid();
    status(pid)?;
    compiling.stop(Stop::Cancelled);
    let error = compiling.wait().err().context("it was cancelled")?;
    ensure!(matches!(error, CompileError::Killed { .. }), "{error}");
    ensure!(!fs::exists(format!("/proc/{pid}"))?);
    nothing_is_left()
}
