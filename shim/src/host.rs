//! The host: what all its containers share, and how long it lives.
//!
//! One host serves every container of a node (or namespace, or pod: the `grouping` option). It ends
//! when its last container is gone and nobody was sent to it for a while, or, once its zygote is
//! lost, as soon as its last container is gone: then a new host has taken its place already.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container_cgroup::Hierarchies;
use guest_sandbox::Zygote;
use guest_sandbox::plan::KernelFeatures;
use guest_sandbox::seccomp::FilterCache;
use host_reports::events::Events;
use host_reports::logs::Logs;
use shim_protocol::FileError;
use shim_protocol::host::{Place, Retired};
use shim_protocol::record::Records;

use crate::error::TaskError;
use crate::task::Task;
use crate::workload::hints::Hints;
use crate::workload::image::{Containerd, Kept};
use crate::workload::lookup::Lookups;
use tasks::{Closed, Reservation, Tasks};

pub mod tasks;

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
    /// What containers ran before.
    pub hints: Hints,
    /// Look-ups of programs in containers' files.
    pub lookups: Lookups,
    /// Forks guests.
    pub zygote: Zygote,
    /// Where cgroups are.
    pub hierarchies: Hierarchies,
    /// What this node has.
    pub kernel_features: KernelFeatures,
    /// Filters of system calls that were made.
    pub filters: FilterCache,
    /// The launcher of this host's bundle.
    pub launcher: PathBuf,
    /// Where this host listens.
    pub socket: PathBuf,
    /// Where containers' records are.
    pub records: Records,
    /// The most containers at once, for those that come without options of their own.
    pub max_containers: Option<NonZeroU32>,
    /// Where launchers look for it.
    pub place: Place,
    /// Its containers.
    pub tasks: Tasks<Task>,
}

impl Host {
    /// The container's task.
    ///
    /// # Errors
    /// When there is none.
    pub fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.tasks.get(id)
    }

    /// The same, after its Create if that is under way.
    ///
    /// # Errors
    /// When there is none, or it could not be created.
    pub async fn task_once_made(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.tasks.once_made(id).await
    }

    /// Takes `id` for a container that is about to be made; `limit` is the most that this host may
    /// serve.
    ///
    /// # Errors
    /// When the id is taken, the host is full, or it takes no more containers.
    pub fn reserve(
        &self,
        id: &str,
        limit: Option<u32>,
    ) -> Result<Reservation<'_, Task>, TaskError> {
        self.tasks.reserve(id, limit)
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        self.tasks.forget(id);
    }

    /// Takes no more containers: a launcher that comes now starts another host. Those that are here
    /// stay.
    pub async fn drain(self: &Arc<Self>) {
        self.tasks.close(Closed::Draining);
        if let Err(error) = self
            .in_place(|host| host.place.lock()?.retire(&host.socket))
            .await
        {
            tracing::error!("cannot make room for another host: {error:#}");
        }
    }

    /// Waits until this host is not needed any more, and leaves its place.
    pub async fn until_unneeded(self: &Arc<Self>) {
        let mut count = self.tasks.count();
        loop {
            // Fails only when the sender is gone, and that is this host's.
            let _ = count.wait_for(|count| *count == 0).await;
            if self.tasks.is_closed() {
                // The answer to the last request is still on its way.
                tokio::time::sleep(LINGER).await;
                break;
            }
            let seen = self.place.touched();
            if tokio::time::timeout(IDLE, count.changed()).await.is_err() {
                match self
                    .in_place(|host| {
                        host.place
                            .lock()?
                            .retire_unless_touched(&host.socket, seen?)
                    })
                    .await
                {
                    // Whoever comes now by a connection that he has is refused, and comes again by
                    // a launcher.
                    Ok(Retired::Yes) if self.tasks.close(Closed::Idle) == 0 => break,
                    Ok(_) => {}
                    Err(error) => tracing::error!("cannot leave the place of this host: {error:#}"),
                }
            }
        }
        self.events.flush(FAREWELL).await;
        if let Err(error) = self
            .in_place(|host| host.place.lock()?.remove(&host.socket))
            .await
        {
            tracing::warn!("cannot remove the socket of this host: {error:#}");
        }
    }

    /// Does `work` where it may block: launchers have the lock of this host's place while they
    /// start another.
    async fn in_place<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, FileError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let host = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || work(&host)).await??)
    }
}
