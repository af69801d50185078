//! Private pid, mount and optional network namespaces. Processes and mounts die with their
//! first process.
//!
//! The first process reads a pipe from this process: when this process ends for any reason, the
//! pipe closes, the first process ends, and the kernel kills all processes inside and drops every
//! mount. Commands enter with `nsenter`. The first process of a kept namespace waits forever
//! instead, and is killed by the pid that its run has recorded.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, last_lines};
use crate::requirements::{self, Need};
use crate::teardown::{Process, Run};
use crate::wait;

mod network;

/// Timeout for a namespace to come up, and for its processes to be gone.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(20);

/// The network of an isolated namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The machine's network.
    Host,
    /// A private network: `lo`, and `eth0` at [`IsolatedNamespace::address`], which only this
    /// machine reaches.
    Private,
}

/// The lifetime of an isolated namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until its run ends or this process dies.
    Process,
    /// Until its run ends; it outlives this process if the run is kept.
    Kept,
}

/// Options of an isolated namespace.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceOptions {
    /// Its network.
    pub network: Network,
    /// Its lifetime.
    pub lifetime: Lifetime,
}

/// An isolated namespace; clones refer to the same one. It is stopped when its run ends.
#[derive(Debug, Clone)]
pub struct IsolatedNamespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    first: Process,
    mounts: PathBuf,
    network: Option<network::Link>,
    folder: PathBuf,
    /// The `unshare` process with this process's end of the pipe; none in a namespace that was
    /// reopened.
    unshare: Mutex<Option<Child>>,
}

impl IsolatedNamespace {
    /// Starts an isolated namespace that belongs to `run`.
    ///
    /// # Errors
    /// Fails if the namespaces cannot be made.
    pub fn start(run: &Run, options: NamespaceOptions) -> Result<Self> {
        requirements::install(&[
            Need {
                package: "util-linux",
                provides: "unshare",
            },
            Need {
                package: "util-linux",
                provides: "nsenter",
            },
            Need {
                package: "mount",
                provides: "mount",
            },
            Need {
                package: "iproute2",
                provides: "ip",
            },
        ])?;
        let log = run.folder().join("namespace.log");
        let mut unshare = spawn_unshare(options, &log)?;
        let first = match first_process(&mut unshare, &log) {
            Ok(first) => first,
            Err(error) => {
                let _ = unshare.kill();
                let _ = unshare.wait();
                return Err(error);
            }
        };
        let mounts = fs::read_link(format!("/proc/{}/ns/mnt", first.pid()))
            .context("read which mount namespace the namespace has")?;
        let folder = run.folder().to_owned();
        let mut inner = Inner {
            first,
            mounts,
            network: None,
            folder,
            unshare: Mutex::new(Some(unshare)),
        };
        let linked = run.record(&first).and_then(|()| match options.network {
            Network::Host => Ok(None),
            Network::Private => network::connect(first.pid()).map(Some),
        });
        match linked {
            Ok(link) => inner.network = link,
            Err(error) => {
                inner.stop()?;
                return Err(error);
            }
        }
        if let Some(link) = &inner.network {
            link.record(run.folder())?;
        }
        let isolated = Self {
            inner: Arc::new(inner),
        };
        let handle = isolated.clone();
        run.on_end("stop the namespace", move || handle.stop());
        Ok(isolated)
    }

    /// Reopens the live namespace of a kept run.
    ///
    /// # Errors
    /// Fails if none of the run's namespaces is alive.
    pub fn of(run: &Run) -> Result<Self> {
        let Some(first) = run.first_processes().into_iter().find(Process::is_alive) else {
            bail!("{}: its namespace is gone", run.name());
        };
        let mounts = fs::read_link(format!("/proc/{}/ns/mnt", first.pid()))
            .context("read which mount namespace the namespace has")?;
        let network = network::Link::recorded(run.folder());
        let inner = Inner {
            first,
            mounts,
            network,
            folder: run.folder().to_owned(),
            unshare: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns the pid, outside, of the namespace's first process.
    pub fn init_pid(&self) -> i32 {
        self.inner.first.pid()
    }

    /// Returns the address at which this machine reaches servers inside: private or loopback.
    pub fn address(&self) -> Ipv4Addr {
        self.inner
            .network
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |link| link.inside)
    }

    /// Returns the address at which processes inside reach servers of this machine.
    pub fn gateway(&self) -> Ipv4Addr {
        self.inner
            .network
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |link| link.outside)
    }

    /// Returns a command that runs inside, with an empty standard input unless another is
    /// set.
    ///
    /// Its working directory is `/`; it inherits the environment unless that is cleared. The
    /// child's pid is that of `nsenter`, which passes on the exit status but no signals: end the
    /// process from inside, or stop the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entry()).arg(program).stdin(Stdio::null());
        command
    }

    /// Returns a run of a program inside.
    pub fn run(&self, program: impl AsRef<OsStr>) -> command::Run {
        command::Run::new("nsenter").args(self.entry()).arg(program)
    }

    /// Starts a server inside; its output goes to `<name>.log` in the run's folder.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Service> {
        let log = self.inner.folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let copy = file
            .try_clone()
            .with_context(|| format!("open {} twice", log.display()))?;
        // A process group of its own: Ctrl-C reaches this process only, which stops the server in
        // order.
        let child = command
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Service {
            name: name.to_owned(),
            log,
            child: Mutex::new(child),
        })
    }

    /// Mounts a tmpfs over `folder`, inside only.
    ///
    /// # Errors
    /// Fails if it cannot be mounted.
    pub fn mount_memory(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        self.run("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
            .arg(folder)
            .done()
    }

    /// Kills all processes inside and waits until they are gone. A second call does nothing.
    ///
    /// # Errors
    /// Fails if a process is still there after the timeout.
    pub fn stop(&self) -> Result<()> {
        self.inner.stop()
    }

    fn entry(&self) -> Vec<String> {
        let target = self.inner.first.pid().to_string();
        let mut words = vec![
            "--target".to_owned(),
            target,
            "--mount".to_owned(),
            "--pid".to_owned(),
        ];
        if self.inner.network.is_some() {
            words.push("--net".to_owned());
        }
        words.push("--".to_owned());
        words
    }
}

impl Inner {
    fn stop(&self) -> Result<()> {
        self.first.kill();
        if let Some(mut unshare) = self
            .unshare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            unshare.wait().context("wait for the namespace to end")?;
        }
        // The kernel reaps a namespace's processes before its first one; `nsenter` outside ends
        // shortly after.
        wait::until(
            "everything in the namespace to be gone",
            NAMESPACE_TIMEOUT,
            || Ok((!self.first.is_alive() && self.processes().is_empty()).then_some(())),
            || format!("processes left: {:?}", self.processes()),
        )
    }

    /// Returns the processes that still hold the namespace's mounts.
    fn processes(&self) -> Vec<String> {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let holds = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("ns/mnt"))
                .is_ok_and(|namespace| namespace == self.mounts)
        };
        let name = |entry: fs::DirEntry| {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} {}", entry.file_name().to_string_lossy(), command.trim())
        };
        processes.flatten().filter(holds).map(name).collect()
    }
}

/// A server inside an isolated namespace.
#[derive(Debug)]
pub struct Service {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Service {
    /// Returns the file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the last lines of its output, as evidence.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        format!(
            "the last lines of {}:\n{}",
            self.log.display(),
            last_lines(&String::from_utf8_lossy(&text), 40)
        )
    }

    /// Returns its exit status if it has ended.
    ///
    /// # Errors
    /// Fails if the status cannot be read.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
            .with_context(|| format!("ask for the status of {}", self.name))
    }

    /// Fails with the end of its log if it has ended.
    ///
    /// # Errors
    /// Fails if it has ended.
    pub fn ensure_running(&self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}\n{}", self.name, self.log_tail()),
        }
    }
}

/// Starts `unshare`, which makes the namespaces and the first process inside.
fn spawn_unshare(options: NamespaceOptions, log: &Path) -> Result<Child> {
    let log = File::create(log).with_context(|| format!("make {}", log.display()))?;
    let mut command = Command::new("unshare");
    command.args([
        "--fork",
        "--pid",
        "--mount",
        "--mount-proc",
        "--propagation=private",
        "--kill-child=KILL",
    ]);
    if options.network == Network::Private {
        command.arg("--net");
    }
    // A process that ignores SIGCHLD leaves no zombies: the kernel reaps its adopted children.
    command.args(["--", "env", "--ignore-signal=CHLD"]);
    match options.lifetime {
        Lifetime::Process => command.arg("cat").stdin(Stdio::piped()),
        Lifetime::Kept => command.args(["sleep", "infinity"]).stdin(Stdio::null()),
    };
    command
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start unshare")
}

/// Waits until the child of `unshare` has executed the program that is first in the namespace.
fn first_process(unshare: &mut Child, log: &Path) -> Result<Process> {
    let parent = i32::try_from(unshare.id()).context("the pid of unshare is out of range")?;
    wait::until(
        "the namespace's first process",
        NAMESPACE_TIMEOUT,
        || {
            if let Some(status) = unshare
                .try_wait()
                .context("ask for the status of unshare")?
            {
                bail!(
                    "unshare has ended: {status}\n{}",
                    fs::read_to_string(log).unwrap_or_default()
                );
            }
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
                .unwrap_or_default();
            let Some(pid) = children
                .split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
            else {
                return Ok(None);
            };
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // When the process has this name, its own /proc is mounted and SIGCHLD is ignored.
            if matches!(program.trim(), "cat" | "sleep") {
                Process::of(pid).map(Some)
            } else {
                Ok(None)
            }
        },
        || fs::read_to_string(log).unwrap_or_default(),
    )
}
