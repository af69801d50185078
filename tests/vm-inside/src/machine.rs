//! Inspection of the machine: processes, cgroups, systemd's units, and the journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The mount point of the cgroup hierarchy.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs a program to completion, for two minutes at most, and returns its output.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new("timeout")
        .arg("120")
        .arg(program)
        .args(args)
        .output()
        .with_context(|| format!("start {program}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {}: {}\n{printed}\n{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}

/// Returns the end of the journal of containerd and its child processes.
pub(crate) fn containerd_log() -> String {
    let args = [
        "--unit=containerd",
        "--no-pager",
        "--output=cat",
        "--lines=15",
    ];
    output("journalctl", &args).unwrap_or_else(|error| format!("{error:#}"))
}

/// Returns the journal's lines with a container's id in their fields.
pub(crate) fn journal_of(id: &str) -> Result<Vec<Value>> {
    let text = output(
        "journalctl",
        &["--no-pager", "--output=json", &format!("CONTAINER_ID={id}")],
    )?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("read this line of the journal: {line}"))
        })
        .collect()
}

/// Returns the loaded units of systemd that match `pattern`.
pub(crate) fn units(pattern: &str) -> Result<Vec<String>> {
    let text = output(
        "systemctl",
        &[
            "list-units",
            "--all",
            "--plain",
            "--no-legend",
            "--no-pager",
            pattern,
        ],
    )?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Returns a property of a unit from systemd.
pub(crate) fn property(unit: &str, name: &str) -> Result<String> {
    output("systemctl", &["show", "--value", "--property", name, unit])
        .map(|text| text.trim().to_owned())
}

/// Returns whether the process is alive.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Returns the folder of a process's cgroup.
pub(crate) fn cgroup_of(pid: u32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .with_context(|| format!("{pid} has no cgroup v2: {text}"))?;
    Ok(Path::new(CGROUPS).join(path))
}

/// Returns the cgroups with `part` in their names.
pub(crate) fn cgroups_naming(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(CGROUPS)];
    while let Some(folder) = folders.pop() {
        // A cgroup that vanishes during the listing is empty.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let below = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path());
        for path in below {
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(part))
            {
                found.push(path.clone());
            }
            folders.push(path);
        }
    }
    found
}

/// Returns the lines with a folder `part` in all mount tables, of the machine and of hosts.
pub(crate) fn mounts_naming(part: &str) -> Result<Vec<String>> {
    let mark = format!("/{part}/");
    let tables = hosts()?
        .into_iter()
        .chain([1])
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default());
    Ok(tables
        .flat_map(|table| {
            table
                .lines()
                .filter(|line| line.contains(&mark))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect())
}

/// Returns the runtime's live hosts. A process that a host forked has the same command line, but
/// another parent.
pub(crate) fn hosts() -> Result<Vec<u32>> {
    let all: Vec<(u32, u32)> = processes()?
        .into_iter()
        .filter(|seen| seen.command.contains("wasmedge-host"))
        .map(|seen| (seen.pid, seen.parent))
        .collect();
    Ok(all
        .iter()
        .filter(|(_, parent)| !all.iter().any(|(pid, _)| pid == parent))
        .map(|(pid, _)| *pid)
        .collect())
}

/// Returns the host that forked the process.
pub(crate) fn host_of(process: u32) -> Result<u32> {
    let seen = read_process(process).with_context(|| format!("process {process} is gone"))?;
    let hosts = hosts()?;
    ensure!(
        hosts.contains(&seen.parent),
        "process {process} has the parent {}, and hosts are {hosts:?}",
        seen.parent
    );
    Ok(seen.parent)
}

/// A process.
#[derive(Debug)]
pub(crate) struct ProcessInfo {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) command: String,
}

/// Returns all processes.
pub(crate) fn processes() -> Result<Vec<ProcessInfo>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    // A process that ends between the listing and the read is skipped.
    Ok(pids.filter_map(read_process).collect())
}

fn read_process(pid: u32) -> Option<ProcessInfo> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(ProcessInfo {
        pid,
        parent,
        command: String::from_utf8_lossy(&command).replace('\0', " "),
    })
}

/// Kills a process with SIGKILL.
pub(crate) fn kill(pid: u32) -> Result<()> {
    output("kill", &["-KILL", &pid.to_string()]).map(drop)
}
