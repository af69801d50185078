//! A bundle in a temporary folder, and the visible state of its container.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use native_container::{Container, Exec, NativeError, NewContainer, Processes, Stdio, create};
use process_forker::Forkers;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, pidfd_send_signal, waitid,
};
use serde_json::{Value, json};
use testbed::cache::Cache;
use testbed::toolchain;

/// The timeout for an expected exit.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A bundle with a state folder; both and its cgroup are removed with it.
pub(crate) struct Bundle {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

/// The forkers of this process.
static FORKERS: OnceLock<Arc<Forkers>> = OnceLock::new();

/// Forks them, while this process has one thread.
pub(crate) fn start_forkers() -> Result<()> {
    let forkers = Arc::new(Forkers::start()?);
    FORKERS
        .set(forkers)
        .map_err(|_| anyhow::anyhow!("they were started before"))
}

/// The test program of containers.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAM.get().is_none() {
        let built = toolchain::native(&Cache::open()?, &test_guests::native_source())?;
        PROGRAM.get_or_init(|| built);
    }
    PROGRAM
        .get()
        .map(PathBuf::as_path)
        .context("it was set just now")
}

impl Bundle {
    /// A bundle whose program is called with `arguments`.
    pub(crate) fn new(arguments: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new()
            .prefix("native-container-")
            .tempdir()?;
        let root = folder.path().join("rootfs");
        for name in ["proc", "dev", "place", "bin"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy(program()?, root.join("bin/native"))?;
        fs::create_dir(folder.path().join("state"))?;
        let id = format!(
            "native-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut call = vec!["native"];
        call.extend(arguments);
        let namespaces =
            ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.1.0",
            "process": {
                "args": call, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin",
                "NAME=value"],
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
                "permitted": ["CAP_KILL"]},
                "noNewPrivileges": true
            },
            "root": {"path": "rootfs"},
            "hostname": "sidecar",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid",
                "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid",
                "mode=755", "size=65536k"]}
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", cgroup_parent()),
                "namespaces": namespaces
            }
        });
        Ok(Self { folder, id, config })
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    /// Creates the container, with nothing to read and nowhere to print.
    pub(crate) fn create(&self) -> Result<Container, NativeError> {
        self.create_with(Stdio::default())
    }

    pub(crate) fn create_with(&self, stdio: Stdio) -> Result<Container, NativeError> {
        self.write().expect("a temporary folder can be written to");
        self.create_as_written(stdio)
    }

    pub(crate) fn write(&self) -> std::io::Result<()> {
        fs::write(
            self.folder.path().join("config.json"),
            self.config.to_string(),
        )
    }

    pub(crate) fn create_as_written(&self, stdio: Stdio) -> Result<Container, NativeError> {
        let (id, bundle, state) = (self.id.clone(), self.folder.path().into(), self.state());
        let new = NewContainer {
            id,
            bundle,
            state,
            processes: Processes::Own,
            systemd: false,
            stdio,
        };
        create(FORKERS.get().expect("they were started first"), new)
    }

    /// Creates the container with its output in the file that is returned, and starts it.
    pub(crate) fn start(&self) -> Result<Container> {
        let container = self.create()?;
        container.start()?;
        Ok(container)
    }

    /// The folders of the container's cgroup that exist.
    pub(crate) fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for hierarchy in hierarchies()? {
            let folder = hierarchy.join(cgroup_parent()).join(&self.id);
            if folder.exists() {
                found.push(folder);
            }
        }
        Ok(found)
    }

    /// Fails if anything of the container is left.
    pub(crate) fn nothing_is_left(&self) -> Result<()> {
        let state: Vec<_> = fs::read_dir(self.state())?.collect::<Result<_, _>>()?;
        ensure!(state.is_empty(), "state is left: {state:?}");
        let cgroups = self.cgroups()?;
        ensure!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = self.root();
        ensure!(
            !mounts.contains(root.to_str().context("a readable path")?),
            "mounts are left: {mounts}"
        );
        only_the_forkers_are_left()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Of a test that failed.
        for folder in self.cgroups().unwrap_or_default() {
            for pid in fs::read_to_string(folder.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                }
            }
        }
        for hierarchy in hierarchies().unwrap_or_default() {
            // Of this test, then the parent if no other test's is in it.
            let _ = fs::remove_dir(hierarchy.join(cgroup_parent()).join(&self.id));
            let _ = fs::remove_dir(hierarchy.join(cgroup_parent()));
        }
    }
}

fn cgroup_parent() -> String {
    format!("native-container-{}", std::process::id())
}

/// Where cgroups are mounted: one folder for version 2, one for each controller for version 1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        words
            .next()?
            .starts_with("cgroup")
            .then(|| PathBuf::from(point))
    });
    Ok(points.collect())
}

/// The children of this process, with their names and states.
pub(crate) fn children() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            all.push(
                fs::read_to_string(format!("/proc/{child}/stat"))
                    .unwrap_or_default()
                    .split(' ')
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
    }
    Ok(all)
}

pub(crate) fn only_the_forkers_are_left() -> Result<()> {
    let children = children()?;
    ensure!(
        children.len() == 2,
        "other children than the forker and its standby: {children:?}"
    );
    Ok(())
}

/// Waits for the process's end as the host does: its exit code, or 128 and its signal.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> Result<i32> {
    ensure!(
        poll(
            &mut [PollFd::new(&pidfd, PollFlags::IN)],
            Some(&Timespec::try_from(SOON)?)
        )? > 0,
        "no end after {SOON:?}"
    );
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)?.context("it has ended")?;
    status
        .exit_status()
        .or(status.terminating_signal().map(|signal| 128 + signal))
        .context("neither exit nor signal")
}

/// Kills the process and waits for it.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> Result<()> {
    pidfd_send_signal(pidfd, Signal::KILL)?;
    ensure!(wait(pidfd)? == 137);
    Ok(())
}

/// Kills, waits, deletes.
pub(crate) fn end(container: &Container) -> Result<()> {
    kill(container.pidfd())?;
    Ok(container.delete()?)
}

/// What `exec` is in the container of `bundle`, with `changes` to the container's own process.
pub(crate) fn exec(
    bundle: &Bundle,
    container: &Container,
    changes: &Value,
    stdio: Stdio,
) -> Result<Exec> {
    let mut process = bundle.config["process"].clone();
    for (key, value) in changes.as_object().context("changes are an object")? {
        process[key] = value.clone();
    }
    Ok(container.exec(serde_json::from_value(process)?, stdio))
}

/// A pipe whose other end is read to its end.
pub(crate) fn pipe() -> Result<(OwnedFd, impl FnOnce() -> Result<String>)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((writer.into(), move || {
        let mut text = String::new();
        File::from(OwnedFd::from(reader)).read_to_string(&mut text)?;
        Ok(text)
    }))
}

/// The value of `key` in the process's status.
pub(crate) fn status(pid: u32, key: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .with_context(|| format!("no {key}: {status}"))?;
    Ok(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Waits until `pid` runs the test program, which it does a moment after its start.
pub(crate) fn until_it_runs(pid: u32) -> Result<()> {
    let began = Instant::now();
    while status(pid, "Name")? != "native" || status(pid, "SigCgt")?.ends_with("0000") {
        if began.elapsed() > SOON {
            bail!("{pid} is still {} after {SOON:?}", status(pid, "Name")?);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
