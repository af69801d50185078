//! Clean-up after a run, also after an interrupt, and the sweep of killed runs.
//!
//! ```text
//! Run::start ── sweep of dead runs ── folder + lock ── on_end(…)* ──┬─ finish / drop (end, error)
//!                                                                   ├─ SIGINT, SIGTERM, SIGHUP → exit 130
//!                                                                   ├─ keep → found again by Run::kept
//!                                                                   └─ kill -9 → the next run's sweep
//! ```
//!
//! Each run has a unique name (`wr-<name>-<pid>`) that is part of its cgroups', namespaces' and
//! interfaces' names, so that everything can be attributed to its run. A run is alive while its
//! lock file is locked, or, if it was kept, while an isolated namespace that it recorded is alive.

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

/// The folder of the runs' folders, which hold sockets, logs and small files.
const RUNS: &str = "/run/wasmedge-runtime";
/// The folder for data of runs that is too big for a `/run` in memory.
const DISKS: &str = "/var/lib/wasmedge-runtime";
/// File in a run's folder: locked while the run's process lives.
const LOCK: &str = "lock";
/// File in a run's folder: marks that the run outlives its process.
const KEPT: &str = "kept";
/// Folder in a run's folder: one file for each namespace, with its first process.
const NAMESPACES: &str = "cells";
/// File in the folder of all runs: locked while a run is created, is swept, or picks a unique
/// number.
const RUNS_LOCK: &str = ".gate";

/// A run of a task that starts processes, mounts file systems or makes cgroups, and removes them
/// all at its end.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
}

impl Run {
    /// Sweeps dead runs, then starts the run `wr-<name>-<pid>`. From here on SIGINT, SIGTERM and
    /// SIGHUP clean the run up and end the process with status 130.
    ///
    /// # Errors
    /// Fails if the run's folder cannot be made or locked, or something of a dead run cannot be
    /// removed.
    pub fn start(what: &str) -> Result<Self> {
        Self::start_in(&Places::system(), what)
    }

    /// Returns the kept run of `what`, if there is one: ending it removes everything it made.
    ///
    /// # Errors
    /// Fails if another process holds it, or its folder cannot be read.
    pub fn kept(what: &str) -> Result<Option<Self>> {
        Self::kept_in(&Places::system(), what)
    }

    /// Returns the run's name, unique on this machine while the run lives.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the run's folder, for sockets, logs and other small files; removed when the run
    /// ends.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Returns a folder on disk for data that is too big for memory. It is made on first use and
    /// removed when the run ends.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn disk_folder(&self) -> Result<PathBuf> {
        let folder = self.shared.places.disk(&self.shared.name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Registers `undo` for the end of this run, before all earlier ones. If the run was
    /// interrupted already, `undo` runs at once.
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
    /// Fails if `process` has ended, or the record cannot be written.
    pub(crate) fn record(&self, process: &Process) -> Result<()> {
        let folder = self.folder().join(NAMESPACES);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join(process.pid().to_string());
        fs::write(&file, process.to_text()).with_context(|| format!("write {}", file.display()))
    }

    /// Returns the first processes of this run's namespaces, alive or not.
    pub(crate) fn first_processes(&self) -> Vec<Process> {
        sweep::first_processes(self.folder())
    }

    /// Ends the run and returns clean-up errors (dropping a run only prints them).
    ///
    /// # Errors
    /// Fails if something of the run could not be removed.
    pub fn finish(self) -> Result<()> {
        self.shared.end()
    }

    /// Leaves everything that the run made in place after this process; [`Run::kept`] finds it
    /// again.
    ///
    /// # Errors
    /// Fails if the run's folder cannot be marked; then the run ends.
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
        let runs_lock = places.lock_runs()?;
        let swept = sweep::dead_runs(places)?;
        for name in &swept {
            progress::print_line(format_args!(
                "  removed the leftovers of the dead run {name}"
            ));
        }
        let number = match COUNT.fetch_add(1, Ordering::Relaxed) {
            0 => String::new(),
            count => format!("-{count}"),
        };
        let name = format!("wr-{what}-{}{number}", std::process::id());
        let folder = places.run(&name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let lock = cache::lock(&folder.join(LOCK))?;
        drop(runs_lock);
        Self::open(places.clone(), name, lock)
    }

    fn kept_in(places: &Places, what: &str) -> Result<Option<Self>> {
        let _lock = places.lock_runs()?;
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
                bail!("{name}: another process uses it; try again when that has ended");
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
        signals::end_on_signal(&shared)?;
        Ok(Self { shared })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.shared.end() {
            progress::print_line(format_args!("warning: {error:#}"));
        }
        // The thread that received the signal ends the process with the matching status.
        signals::wait_if_interrupted();
    }
}

/// Returns the names of all live runs, of this process and of others.
///
/// # Errors
/// Fails if the folder of runs cannot be read.
pub fn living_runs() -> Result<Vec<String>> {
    let places = Places::system();
    let _lock = places.lock_runs()?;
    let mut alive = Vec::new();
    for name in places.names()? {
        if sweep::is_alive(&places, &name)? {
            alive.push(name);
        }
    }
    Ok(alive)
}

/// Locks the folder of all runs, to pick something (an address) that must be unique among runs.
///
/// # Errors
/// Fails if the lock cannot be taken.
pub(crate) fn lock_runs() -> Result<Flock<File>> {
    Places::system().lock_runs()
}

/// The folders of runs; tests have separate ones.
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
        // Runs of tests without root still end the tests' child processes.
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

    fn lock_runs(&self) -> Result<Flock<File>> {
        fs::create_dir_all(&self.runs).with_context(|| format!("make {}", self.runs.display()))?;
        cache::lock(&self.runs.join(RUNS_LOCK))
    }

    /// Returns the names of all runs that have a folder.
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

/// State that the run's owner and the signal thread share.
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

    /// Undoes everything, last first; then removes everything that bears the run's name. A second
    /// call does nothing.
    fn end(&self) -> Result<()> {
        let mut actions = self.actions();
        let Actions::Open(list) = std::mem::replace(&mut *actions, Actions::Ended) else {
            return Ok(());
        };
        for action in list.into_iter().rev() {
            action.run();
        }
        // A sweep holds the lock, and must not find a run that is half removed.
        let cleared = self
            .places
            .lock_runs()
            .and_then(|_lock| sweep::clear(&self.places, &self.name));
        self.unlock();
        cleared.with_context(|| format!("clean up after {}", self.name))
    }
}

/// The registered undo actions.
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
    /// Runs the action and prints its error: one failure must not skip the other actions.
    fn run(self) {
        if let Err(error) = (self.undo)() {
            progress::print_line(format_args!("warning: {}: {error:#}", self.what));
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
