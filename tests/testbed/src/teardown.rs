//! Undoing what a run did, also when it is interrupted, and sweeping what a killed run left.
//!
//! ```text
//! Run::start ── sweep of dead runs ── folder + lock ── on_end(…)* ──┬─ finish / drop (end, error)
//!                                                                   ├─ SIGINT, SIGTERM, SIGHUP → exit 130
//!                                                                   ├─ keep → found again by Run::kept
//!                                                                   └─ kill -9 → the next run's sweep
//! ```
//!
//! Each run has a name of its own (`wr-<what>-<pid>`) that its cgroups, namespaces and interfaces
//! bear, so that whatever is left can be laid at its door. A run is alive while its lock file is
//! locked, or, when it was kept, while an isolated namespace that it recorded lives.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::Flock;

use crate::cache;
use crate::progress;

mod cgroups;
mod process;
mod signals;
mod sweep;

pub use process::Process;

/// Where runs keep their folders of sockets, logs and small files.
const RUNS: &str = "/run/wasmedge-runtime";
/// Where runs keep what is too big for a `/run` in memory.
const DISKS: &str = "/var/lib/wasmedge-runtime";
/// In a run's folder: locked while the run's own process lives.
const LOCK: &str = "lock";
/// In a run's folder: the run was told to outlive its process.
const KEPT: &str = "kept";
/// In a run's folder: one file for each namespace, naming its first process.
const NAMESPACES: &str = "cells";
/// In the folder of all runs: held while a run comes into being, is swept, or picks something
/// unique.
const GATE: &str = ".gate";

/// One run of a task that starts processes, mounts things or makes cgroups, and leaves nothing of
/// it behind.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
}

impl Run {
    /// Sweeps what dead runs left, then starts the run `wr-<what>-<pid>`; from here on SIGINT,
    /// SIGTERM and SIGHUP undo it and end the process with status 130.
    ///
    /// # Errors
    /// When the run's folder cannot be made or locked, or something that a dead run left cannot be
    /// removed.
    pub fn start(what: &str) -> Result<Self> {
        Self::start_in(&Places::system(), what)
    }

    /// The run that was kept for `what`, if there is one: ending it removes all it made.
    ///
    /// # Errors
    /// When another process is at work on it, or its folder cannot be read.
    pub fn kept(what: &str) -> Result<Option<Self>> {
        Self::kept_in(&Places::system(), what)
    }

    /// The run's name, unique on this machine while the run lives.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The run's folder, for sockets, logs and other small files; removed when the run ends.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// A folder on disk, made when first asked for, for what is too big for memory; removed when
    /// the run ends.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn disk_folder(&self) -> Result<PathBuf> {
        let folder = self.shared.places.disk(&self.shared.name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Has `undo` run when this run ends, before what was registered earlier is undone. If the run
    /// has been interrupted already, `undo` runs at once.
    pub fn on_end(&self, what: impl Display, undo: impl FnOnce() -> Result<()> + Send + 'static) {
        let action = Action {
            what: what.to_string(),
            undo: Box::new(undo),
        };
        let mut actions = self.shared.actions();
        match &mut *actions {
            Actions::Open(list) => list.push(action),
            Actions::Ended => action.run(),
        }
    }

    /// Records the first process of an isolated namespace, for a sweep to kill should this process
    /// die by SIGKILL.
    ///
    /// # Errors
    /// When `process` is gone already, or the record cannot be written.
    pub(crate) fn record(&self, process: &Process) -> Result<()> {
        let folder = self.folder().join(NAMESPACES);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join(process.pid().to_string());
        fs::write(&file, process.to_text()).with_context(|| format!("write {}", file.display()))
    }

    /// The first processes of this run's namespaces, living or not.
    pub(crate) fn first_processes(&self) -> Vec<Process> {
        sweep::first_processes(self.folder())
    }

    /// Ends the run and reports what could not be undone (dropping a run only prints it).
    ///
    /// # Errors
    /// When something of the run is left.
    pub fn finish(self) -> Result<()> {
        self.shared.end()
    }

    /// Lets everything that the run made live on after this process; [`Run::kept`] finds it again.
    ///
    /// # Errors
    /// When the run's folder cannot be marked; then the run ends.
    pub fn keep(self) -> Result<()> {
        let mark = self.folder().join(KEPT);
        fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))?;
        let mut actions = self.shared.actions();
        if matches!(*actions, Actions::Ended) {
            bail!("{}: interrupted, so nothing of it was kept", self.name());
        }
        *actions = Actions::Ended;
        self.shared.unlock();
        Ok(())
    }

    fn start_in(places: &Places, what: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let gate = places.gate()?;
        let swept = sweep::dead_runs(places)?;
        for name in &swept {
            progress::say(format_args!("  removed what the dead run {name} had left"));
        }
        let number = match COUNT.fetch_add(1, Ordering::Relaxed) {
            0 => String::new(),
            count => format!("-{count}"),
        };
        let name = format!("wr-{what}-{}{number}", std::process::id());
        let folder = places.run(&name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let lock = cache::lock(&folder.join(LOCK))?;
        drop(gate);
        Self::open(places.clone(), name, lock)
    }

    fn kept_in(places: &Places, what: &str) -> Result<Option<Self>> {
        let _gate = places.gate()?;
        for name in places.names()? {
            let is_it = name
                .strip_prefix("wr-")
                .and_then(|rest| rest.strip_prefix(what))
                .is_some_and(|rest| {
                    rest.strip_prefix('-').is_some_and(|number| {
                        number.chars().all(|c| c.is_ascii_digit() || c == '-')
                    })
                });
            if !is_it || !places.run(&name).join(KEPT).exists() {
                continue;
            }
            let Some(lock) = sweep::try_lock(&places.run(&name).join(LOCK))? else {
                bail!("{name}: another process is at work on it; try again when that has ended");
            };
            return Self::open(places.clone(), name, lock).map(Some);
        }
        Ok(None)
    }

    fn open(places: Places, name: String, lock: Flock<File>) -> Result<Self> {
        let folder = places.run(&name);
        let shared = Arc::new(Shared {
            places,
            name,
            folder,
            lock: Mutex::new(Some(lock)),
            actions: Mutex::new(Actions::Open(Vec::new())),
        });
        signals::watch_over(&shared)?;
        Ok(Self { shared })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.shared.end() {
            progress::say(format_args!("warning: {error:#}"));
        }
        // The thread that got the signal ends the process, with the status that says so.
        signals::wait_if_interrupted();
    }
}

/// The names of the runs that live now, of this process and of others.
///
/// # Errors
/// When the folder of runs cannot be read.
pub fn alive() -> Result<Vec<String>> {
    let places = Places::system();
    let _gate = places.gate()?;
    let mut alive = Vec::new();
    for name in places.names()? {
        if sweep::is_alive(&places, &name)? {
            alive.push(name);
        }
    }
    Ok(alive)
}

/// Holds the one lock of all runs, for picking something (an address) that no two runs may share.
///
/// # Errors
/// When the lock cannot be taken.
pub(crate) fn gate() -> Result<Flock<File>> {
    Places::system().gate()
}

/// Where runs live; tests have places of their own.
#[derive(Debug, Clone)]
struct Places {
    runs: PathBuf,
    disks: PathBuf,
}

impl Places {
    fn system() -> Self {
        if nix::unistd::geteuid().is_root() {
            return Self {
                runs: RUNS.into(),
                disks: DISKS.into(),
            };
        }
        // Tests that need no root still want their children ended with them.
        let own = std::env::temp_dir().join(format!("wasmedge-runtime-{}", nix::unistd::geteuid()));
        Self {
            runs: own.join("run"),
            disks: own.join("disk"),
        }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.runs.join(name)
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.disks.join(name)
    }

    fn gate(&self) -> Result<Flock<File>> {
        fs::create_dir_all(&self.runs).with_context(|| format!("make {}", self.runs.display()))?;
        cache::lock(&self.runs.join(GATE))
    }

    /// The names of all runs that have a folder.
    fn names(&self) -> Result<Vec<String>> {
        let entries =
            fs::read_dir(&self.runs).with_context(|| format!("read {}", self.runs.display()))?;
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("wr-"))
            .collect();
        names.sort();
        Ok(names)
    }
}

/// What the run's owner and the thread that waits for signals both hold.
#[derive(Debug)]
struct Shared {
    places: Places,
    name: String,
    folder: PathBuf,
    lock: Mutex<Option<Flock<File>>>,
    actions: Mutex<Actions>,
}

impl Shared {
    fn actions(&self) -> MutexGuard<'_, Actions> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock(&self) {
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Undoes everything, last first; then removes what the run's name still stands on. Does
    /// nothing the second time.
    fn end(&self) -> Result<()> {
        let mut actions = self.actions();
        let Actions::Open(list) = std::mem::replace(&mut *actions, Actions::Ended) else {
            return Ok(());
        };
        for action in list.into_iter().rev() {
            action.run();
        }
        // Whoever looks for dead runs holds the gate, and must not find one that is half gone.
        let cleared = self
            .places
            .gate()
            .and_then(|_gate| sweep::clear(&self.places, &self.name));
        self.unlock();
        cleared.with_context(|| format!("clean up after {}", self.name))
    }
}

/// What is still to be undone.
#[derive(Debug)]
enum Actions {
    Open(Vec<Action>),
    Ended,
}

struct Action {
    what: String,
    undo: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Action {
    /// One thing that cannot be undone must not keep the others from being undone.
    fn run(self) {
        if let Err(error) = (self.undo)() {
            progress::say(format_args!("warning: {}: {error:#}", self.what));
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Action").field(&self.what).finish()
    }
}

#[cfg(test)]
mod tests;
