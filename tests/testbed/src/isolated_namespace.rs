//! A private pid, mount and (if asked) network namespace, whose processes and mounts die with its
//! first process.
//!
//! The first process reads a pipe whose other end we hold: when we end, however that happens, the
//! pipe closes, the first process ends, and the kernel kills everything inside and drops every
//! mount. What runs inside is entered with `nsenter`. A kept namespace waits forever instead, and
//! is killed by the number that its run has recorded.

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
use crate::host::{self, Need};
use crate::teardown::{Process, Run};
use crate::wait;

mod network;

/// How long an isolated namespace may take to come up, and how long to be gone.
const LIMIT: Duration = Duration::from_secs(20);

/// Whose network an isolated namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The machine's.
    Host,
    /// Its own: `lo`, and `eth0` at [`IsolatedNamespace::address`], which only this machine
    /// reaches.
    Private,
}

/// How long an isolated namespace lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until its run ends or this process dies.
    Process,
    /// Until its run ends; it outlives this process if the run is kept.
    Kept,
}

/// What an isolated namespace shall be like.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceOptions {
    /// Whose network it has.
    pub network: Network,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// An isolated namespace; copies are the same namespace. It is stopped when its run ends.
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
    /// The program that made the namespaces, with our end of the pipe; none in an isolated
    /// namespace that was found again.
    keeper: Mutex<Option<Child>>,
}

impl IsolatedNamespace {
    /// Starts an isolated namespace that belongs to `run`.
    ///
    /// # Errors
    /// When the namespaces cannot be made.
    pub fn start(run: &Run, options: NamespaceOptions) -> Result<Self> {
        host::install(&[
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
        let mut keeper = keeper(options, &log)?;
        let first = match first_process(&mut keeper, &log) {
            Ok(first) => first,
            Err(error) => {
                let _ = keeper.kill();
                let _ = keeper.wait();
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
            keeper: Mutex::new(Some(keeper)),
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

    /// The living namespace of a run that was kept.
    ///
    /// # Errors
    /// When none of its namespaces lives.
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
            keeper: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The number, outside, of the namespace's first process.
    pub fn init_pid(&self) -> i32 {
        self.inner.first.pid()
    }

    /// Where this machine reaches servers inside: the private address, or the loopback address.
    pub fn address(&self) -> Ipv4Addr {
        self.inner
            .network
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |link| link.inside)
    }

    /// Where what runs inside reaches servers of this machine.
    pub fn gateway(&self) -> Ipv4Addr {
        self.inner
            .network
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |link| link.outside)
    }

    /// A command whose process runs inside, with an empty standard input unless another is set.
    ///
    /// Its folder is `/`; the environment is ours unless cleared. The child's own number is that of
    /// `nsenter`, which hands on the status but no signals: end it from inside, or with the
    /// namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entry()).arg(program).stdin(Stdio::null());
        command
    }

    /// A run, to its end, of a program inside.
    pub fn run(&self, program: impl AsRef<OsStr>) -> command::Run {
        command::Run::new("nsenter").args(self.entry()).arg(program)
    }

    /// Starts a server inside; what it prints goes to `<name>.log` in the run's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Service> {
        let log = self.inner.folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let copy = file
            .try_clone()
            .with_context(|| format!("open {} twice", log.display()))?;
        // A group of its own: Ctrl-C is for us, who stop it in order.
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

    /// Mounts a file system in memory over `folder`, inside only.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount_memory(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        self.run("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
            .arg(folder)
            .done()
    }

    /// Kills everything inside and waits until all of it is gone. Does nothing the second time.
    ///
    /// # Errors
    /// When something is still there after a while.
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
        if let Some(mut keeper) = self
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            keeper.wait().context("wait for the namespace to end")?;
        }
        // The kernel reaps a namespace's processes before its first one; `nsenter` outside follows
        // a moment later.
        wait::until(
            "everything in the namespace to be gone",
            LIMIT,
            || Ok((!self.first.is_alive() && self.inhabitants().is_empty()).then_some(())),
            || format!("processes left: {:?}", self.inhabitants()),
        )
    }

    /// The processes that still hold the namespace's mounts.
    fn inhabitants(&self) -> Vec<String> {
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
    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output, as evidence.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        format!(
            "the last lines of {}:\n{}",
            self.log.display(),
            last_lines(&String::from_utf8_lossy(&text), 40)
        )
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
            .with_context(|| format!("ask for the status of {}", self.name))
    }

    /// Fails, with its last words, if it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn must_be_up(&self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}\n{}", self.name, self.last_words()),
        }
    }
}

/// Starts the program that makes the namespaces and, inside, the first process.
fn keeper(options: NamespaceOptions, log: &Path) -> Result<Child> {
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
    // A process that ignores SIGCHLD leaves no zombies: the kernel reaps its adopted children
    // itself.
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

/// Waits until the child of `keeper` is the program that shall be first in the namespace.
fn first_process(keeper: &mut Child, log: &Path) -> Result<Process> {
    let parent = i32::try_from(keeper.id()).context("a process number that is none")?;
    wait::until(
        "the namespace's first process",
        LIMIT,
        || {
            if let Some(status) = keeper.try_wait().context("ask for the status of unshare")? {
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
            // By the time it bears this name, its own /proc is mounted and SIGCHLD is ignored.
            if matches!(program.trim(), "cat" | "sleep") {
                Process::of(pid).map(Some)
            } else {
                Ok(None)
            }
        },
        || fs::read_to_string(log).unwrap_or_default(),
    )
}
