//! Inspection of an isolated namespace from outside: its processes, their namespaces and
//! descriptors, and containers' resources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testbed::containerd::Containerd;
use testbed::isolated_namespace::IsolatedNamespace;
use testbed::wait;

/// Timeout of changes that are asynchronous, on a busy machine.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The folder of the containers' records, inside the namespace.
pub(crate) const RECORDS: &str = "/run/containerd/wasmedge";

/// CRI's namespace; its container ids are unique on the machine.
const K8S: &str = "k8s.io";

/// A process in an isolated namespace, by its pid there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessInfo {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) name: String,
    pub(crate) command: String,
}

/// An isolated namespace with one containerd, seen from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    isolated: &'a IsolatedNamespace,
    namespace: &'a str,
}

impl<'a> Machine<'a> {
    /// Inspects containers of containerd's namespace `namespace`.
    pub(crate) fn new(containerd: &'a Containerd, namespace: &'a str) -> Self {
        Self {
            isolated: containerd.isolated(),
            namespace,
        }
    }

    /// Returns the path of a file of the namespace for this process.
    pub(crate) fn path(self, inside: impl AsRef<Path>) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/root{}",
            self.isolated.init_pid(),
            inside.as_ref().display()
        ))
    }

    /// Returns the path of a file below `/proc` of the process `pid`.
    pub(crate) fn of(self, pid: i32, file: &str) -> PathBuf {
        self.path(format!("/proc/{pid}/{file}"))
    }

    pub(crate) fn read(self, pid: i32, file: &str) -> Result<String> {
        let path = self.of(pid, file);
        fs::read(&path)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .with_context(|| format!("read {}", path.display()))
    }

    pub(crate) fn is_alive(self, pid: i32) -> bool {
        self.read(pid, "stat").is_ok_and(|text| {
            text.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
    }

    /// Lists all processes of the namespace.
    pub(crate) fn processes(self) -> Result<Vec<ProcessInfo>> {
        let folder = self.path("/proc");
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        // A process that ends between the listing and the read is skipped.
        Ok(pids.filter_map(|pid| self.read_process(pid).ok()).collect())
    }

    fn read_process(self, pid: i32) -> Result<ProcessInfo> {
        let stat = self.read(pid, "stat")?;
        let (name, rest) = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(") "))
            .context("the stat line has an unexpected form")?;
        let parent = rest
            .split_whitespace()
            .nth(1)
            .and_then(|part| part.parse().ok())
            .context("the stat line has no parent")?;
        Ok(ProcessInfo {
            pid,
            parent,
            name: name.to_owned(),
            command: self.read(pid, "cmdline")?.replace('\0', " "),
        })
    }

    /// Returns the pid of a process's parent.
    pub(crate) fn parent_of(self, pid: i32) -> Result<i32> {
        self.read_process(pid).map(|seen| seen.parent)
    }

    pub(crate) fn children(self, pid: i32) -> Result<Vec<ProcessInfo>> {
        Ok(self
            .processes()?
            .into_iter()
            .filter(|seen| seen.parent == pid)
            .collect())
    }

    /// Returns the live hosts. The processes that they fork have the same command line, but another
    /// parent.
    pub(crate) fn hosts(self) -> Result<Vec<i32>> {
        let all = self.processes()?;
        let marks = format!("-namespace {} ", self.namespace);
        let of_host = |seen: &&ProcessInfo| {
            seen.command.contains("wasmedge-host") && seen.command.contains(&marks)
        };
        let is_forked = |seen: &ProcessInfo| {
            all.iter()
                .filter(of_host)
                .any(|other| other.pid == seen.parent)
        };
        Ok(all
            .iter()
            .filter(of_host)
            .filter(|seen| !is_forked(seen))
            .map(|seen| seen.pid)
            .collect())
    }

    /// Returns the only host.
    pub(crate) fn host(self) -> Result<i32> {
        match self.hosts()?[..] {
            [host] => Ok(host),
            ref hosts => bail!("there are {} hosts, not one: {hosts:?}", hosts.len()),
        }
    }

    /// Returns the zygote, which forks guests.
    pub(crate) fn zygote(self) -> Result<i32> {
        self.child_called("wasmedge-zygote")
    }

    /// Returns the host's child of this name.
    pub(crate) fn child_called(self, name: &str) -> Result<i32> {
        let children = self.children(self.host()?)?;
        let found = children.iter().find(|child| child.name == name);
        found
            .map(|child| child.pid)
            .with_context(|| format!("no {name} among {children:?}"))
    }

    /// Returns the pids of all children of the host of this name.
    pub(crate) fn children_called(self, name: &str) -> Result<Vec<i32>> {
        let children = self.children(self.host()?)?.into_iter();
        Ok(children
            .filter(|child| child.name == name)
            .map(|child| child.pid)
            .collect())
    }

    /// Returns the outer pid of a process of the namespace.
    pub(crate) fn outside(self, pid: i32) -> Result<i32> {
        let namespace = |process: i32| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let own = namespace(self.isolated.init_pid());
        let is_it = |process: &i32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let numbers = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .unwrap_or_default();
            numbers.split_whitespace().last() == Some(&pid.to_string())
                && namespace(*process) == own
        };
        let mut all = fs::read_dir("/proc")
            .context("list processes")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.find(is_it)
            .with_context(|| format!("no process has the pid {pid} in the namespace"))
    }

    /// Counts the children of a process that have ended and were not reaped.
    pub(crate) fn zombies(self, parent: i32) -> Result<usize> {
        Ok(self
            .children(parent)?
            .into_iter()
            .filter(|child| !self.is_alive(child.pid))
            .count())
    }

    /// Kills one process.
    pub(crate) fn kill(self, pid: i32) -> Result<()> {
        self.isolated
            .run("sh")
            .args(["-c", &format!("kill -KILL {pid}")])
            .done()
    }

    pub(crate) fn wait_until_dead(self, pid: i32) -> Result<()> {
        let state = || self.read(pid, "status").unwrap_or_default();
        wait::until(
            format_args!("process {pid} to be dead"),
            SETTLE_TIMEOUT,
            || Ok((!self.is_alive(pid)).then_some(())),
            state,
        )
    }

    /// Returns the namespace of a kind that a process is in.
    pub(crate) fn namespace_of(self, pid: i32, kind: &str) -> Result<String> {
        let link = self.of(pid, &format!("ns/{kind}"));
        fs::read_link(&link)
            .map(|name| name.display().to_string())
            .with_context(|| format!("read {}", link.display()))
    }

    /// Returns the descriptors of a process, by their numbers.
    pub(crate) fn descriptors(self, pid: i32) -> Result<Vec<(u32, String)>> {
        let folder = self.of(pid, "fd");
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let named = entries.flatten().filter_map(|entry| {
            let number = entry.file_name().to_string_lossy().parse().ok()?;
            Some((
                number,
                fs::read_link(entry.path()).ok()?.display().to_string(),
            ))
        });
        let mut all: Vec<_> = named.collect();
        all.sort();
        Ok(all)
    }

    /// Returns a number of `/proc/<pid>/status`.
    pub(crate) fn status(self, pid: i32, field: &str) -> Result<u64> {
        let text = self.read(pid, "status")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("no {field} in the status of {pid}"))
    }

    /// Returns the cgroup folders with a container's id in the name.
    pub(crate) fn cgroups(self, id: &str) -> Result<Vec<PathBuf>> {
        let text = self
            .isolated
            .run("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name", id])
            .output()?;
        // A folder of another test may vanish during the listing, and another containerd may have
        // the same id.
        let all = String::from_utf8_lossy(&text.stdout).into_owned();
        Ok(all
            .lines()
            .filter(|line| self.namespace == K8S || line.contains(self.namespace))
            .map(PathBuf::from)
            .collect())
    }

    /// Reads a file of a container's cgroup v1.
    pub(crate) fn cgroup(self, controller: &str, id: &str, file: &str) -> Result<String> {
        let all = self.cgroups(id)?;
        let found = all
            .iter()
            .find(|path| path.starts_with(format!("/sys/fs/cgroup/{controller}")));
        let path = found
            .with_context(|| format!("{id} has no cgroup of {controller}: {all:?}"))?
            .join(file);
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .with_context(|| format!("read {}", path.display()))
    }

    /// Returns the resources of a container: processes with its id, mounts, cgroups, its record and
    /// its bundle.
    pub(crate) fn resources_of(self, id: &str) -> Result<Vec<String>> {
        let mut left: Vec<String> = self
            .cgroups(id)?
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        // The host has the id of the container for which it was started; the processes that it
        // forks have the ids of their own containers.
        let is_of_host = |seen: &ProcessInfo| seen.command.contains("wasmedge-host");
        let own_name: String = format!("wasm:{id}").chars().take(15).collect();
        let names_it = |seen: &&ProcessInfo| {
            seen.name == own_name
                || !is_of_host(seen) && seen.command.split(' ').any(|part| part == id)
        };
        left.extend(
            self.processes()?
                .iter()
                .filter(names_it)
                .map(|seen| format!("{seen:?}")),
        );
        for pid in self.hosts()?.into_iter().chain([1]) {
            // A host that is exiting has released everything.
            let mounts = self.read(pid, "mountinfo").unwrap_or_default();
            left.extend(
                mounts
                    .lines()
                    .filter(|line| line.contains(&format!("/{id}/")))
                    .map(str::to_owned),
            );
        }
        left.extend(self.record(id).map(|record| record.display().to_string()));
        Ok(left)
    }

    /// Returns the folder of a container's record, which contains the data of other components: in
    /// a folder of its containerd.
    pub(crate) fn record(self, id: &str) -> Option<PathBuf> {
        let containerds = fs::read_dir(self.path(RECORDS))
            .into_iter()
            .flatten()
            .flatten();
        let records = containerds.map(|folder| folder.path().join(self.namespace).join(id));
        records.into_iter().find(|folder| folder.exists())
    }

    /// Waits until nothing of a container is left.
    pub(crate) fn nothing_left(self, id: &str) -> Result<()> {
        let left = || {
            self.resources_of(id)
                .map_or_else(|error| format!("{error:#}"), |left| left.join("\n"))
        };
        wait::until(
            format_args!("nothing of {id} to be left"),
            SETTLE_TIMEOUT,
            || Ok(self.resources_of(id)?.is_empty().then_some(())),
            left,
        )
    }

    /// Waits until a process holds only its own descriptors: it closes some just before its program
    /// runs.
    pub(crate) fn has_no_foreign_descriptors(self, pid: i32) -> Result<()> {
        let foreign = || {
            Ok(self
                .descriptors(pid)?
                .into_iter()
                .filter(|(number, what)| *number > 2 && is_foreign(what))
                .collect::<Vec<_>>())
        };
        let evidence = || {
            foreign().map_or_else(
                |error: anyhow::Error| format!("{error:#}"),
                |found| format!("{found:?}"),
            )
        };
        wait::until(
            format_args!("{pid} to hold only its own descriptors"),
            SETTLE_TIMEOUT,
            || Ok(foreign()?.is_empty().then_some(())),
            evidence,
        )
    }
}

/// Returns whether a descriptor does not belong to a guest: the engine also has some of its own.
fn is_foreign(what: &str) -> bool {
    !(what.starts_with("anon_inode:")
        || what == "/"
        || what.starts_with("/dev/")
        || what.starts_with("/memfd:"))
}
