//! The host: what all its containers share, and how long it lives.
//!
//! One host serves every container of a node (or namespace, or pod: the `grouping` option). It ends when its last
//! container is gone and nobody was sent to it for a while, or, once its zygote is lost, as soon as its last container
//! is gone: then a new host has taken its place already.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use container_cgroup::Hierarchies;
use guest_sandbox::Zygote;
use guest_sandbox::plan::HostFacts;
use guest_sandbox::seccomp::FilterCache;
use host_reports::events::Events;
use host_reports::logs::Logs;
use shim_protocol::host::{Place, Retired};
use shim_protocol::record::Records;
use tokio::sync::watch;

use crate::error::{CreateError, TaskError};
use crate::guest::image::{Containerd, Kept};
use crate::task::Task;

/// How long a host without containers waits for another.
const IDLE: Duration = Duration::from_secs(10);
/// How long a host that nobody is sent to stays after its last container is gone.
const LINGER: Duration = Duration::from_secs(1);
/// How long events may take to leave a host that ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the containers of one host share.
pub struct Host {
    /// containerd's namespace.
    pub namespace: String,
    /// Where images are asked for.
    pub store: Containerd,
    /// What was learned of images.
    pub kept: Kept,
    /// Where things are told to containerd.
    pub events: Events,
    /// Where lines about containers go.
    pub logs: Logs,
    /// Forks guests.
    pub zygote: Zygote,
    /// Where cgroups are.
    pub hierarchies: Hierarchies,
    /// What this node has.
    pub facts: HostFacts,
    /// Filters of system calls that were made.
    pub filters: FilterCache,
    /// The launcher of this host's bundle.
    pub launcher: PathBuf,
    /// Where this host listens.
    pub socket: PathBuf,
    /// Where containers' records are.
    pub records: Records,
    place: Place,
    tasks: Mutex<HashMap<String, Slot>>,
    count: watch::Sender<usize>,
    draining: AtomicBool,
}

/// The parts of a [`Host`] that are made before it.
pub struct Parts {
    /// containerd's namespace.
    pub namespace: String,
    /// Where images are asked for.
    pub store: Containerd,
    /// Where things are told to containerd.
    pub events: Events,
    /// Where lines about containers go.
    pub logs: Logs,
    /// Forks guests.
    pub zygote: Zygote,
    /// Where cgroups are.
    pub hierarchies: Hierarchies,
    /// What this node has.
    pub facts: HostFacts,
    /// Filters of system calls that were made.
    pub filters: FilterCache,
    /// The launcher of this host's bundle.
    pub launcher: PathBuf,
    /// Where this host listens.
    pub socket: PathBuf,
    /// Where containers' records are.
    pub records: Records,
    /// Where launchers look for it.
    pub place: Place,
}

/// A container's id, taken from the moment its Create begins.
enum Slot {
    Making,
    Made(Arc<Task>),
}

/// Keeps an id from being used twice while its container is made.
#[must_use = "the id is free again when this is dropped"]
pub struct Reservation<'a> {
    host: &'a Host,
    id: String,
}

impl Reservation<'_> {
    /// The container exists.
    pub fn fill(self, task: Arc<Task>) {
        self.host.tasks().insert(self.id.clone(), Slot::Made(task));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut tasks = self.host.tasks();
        if matches!(tasks.get(&self.id), Some(Slot::Making)) {
            tasks.remove(&self.id);
        }
        self.host.count.send_replace(tasks.len());
    }
}

impl Host {
    /// A host without containers.
    pub fn new(parts: Parts) -> Self {
        let Parts { namespace, store, events, logs, zygote, hierarchies, facts, filters, launcher, socket, records, place } = parts;
        Self {
            namespace,
            store,
            kept: Kept::default(),
            events,
            logs,
            zygote,
            hierarchies,
            facts,
            filters,
            launcher,
            socket,
            records,
            place,
            tasks: Mutex::default(),
            count: watch::Sender::new(0),
            draining: AtomicBool::new(false),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // Every change is one insert or remove, so the map is whole even if its last holder panicked.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's task.
    ///
    /// # Errors
    /// When there is none.
    pub fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        match self.tasks().get(id) {
            Some(Slot::Made(task)) => Ok(Arc::clone(task)),
            _ => Err(TaskError::NotFound { id: id.to_owned() }),
        }
    }

    /// Takes `id` for a container that is about to be made; `limit` is the most that this host may serve.
    ///
    /// # Errors
    /// When the id is taken, the host is full, or it takes no more containers.
    pub fn reserve(&self, id: &str, limit: Option<u32>) -> Result<Reservation<'_>, TaskError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(CreateError::Draining.into());
        }
        let mut tasks = self.tasks();
        if tasks.contains_key(id) {
            return Err(TaskError::Exists { id: id.to_owned() });
        }
        if let Some(limit) = limit.filter(|limit| tasks.len() >= usize::try_from(*limit).unwrap_or(usize::MAX)) {
            return Err(CreateError::Full { limit }.into());
        }
        tasks.insert(id.to_owned(), Slot::Making);
        self.count.send_replace(tasks.len());
        Ok(Reservation { host: self, id: id.to_owned() })
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        let mut tasks = self.tasks();
        tasks.remove(id);
        self.count.send_replace(tasks.len());
    }

    /// Takes no more containers: a launcher that comes now starts another host. Those that are here stay.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if let Err(error) = self.place.lock().and_then(|place| place.retire(&self.socket)) {
            tracing::error!("cannot make room for another host: {error}");
        }
        // Wakes who waits for the last container.
        self.count.send_modify(|_| {});
    }

    /// Waits until this host is not needed any more, and leaves its place.
    pub async fn until_unneeded(self: &Arc<Self>) {
        let mut count = self.count.subscribe();
        loop {
            // Fails only when the sender is gone, and that is this host's.
            let _ = count.wait_for(|count| *count == 0).await;
            if self.draining.load(Ordering::Relaxed) {
                // The answer to the last request is still on its way.
                tokio::time::sleep(LINGER).await;
                break;
            }
            let seen = self.place.touched();
            if tokio::time::timeout(IDLE, count.changed()).await.is_err() {
                match seen.and_then(|seen| self.place.lock()?.retire_unless_touched(&self.socket, seen)) {
                    Ok(Retired::Yes) => break,
                    Ok(Retired::No) => {}
                    Err(error) => tracing::error!("cannot leave the place of this host: {error}"),
                }
            }
        }
        self.events.flush(FAREWELL).await;
        if let Err(error) = self.place.lock().and_then(|place| place.remove(&self.socket)) {
            tracing::warn!("cannot remove the socket of this host: {error}");
        }
    }
}
