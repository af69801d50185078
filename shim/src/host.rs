//! The node host: the state that all its containers share, and the decision when it ends.
//!
//! One host serves every container of a node (or namespace, or pod: the `grouping` option). It ends
//! some seconds after its last container is gone if no launcher pointed to it meanwhile. Once its
//! zygote is lost it ends as soon as its last container is gone: a new host has replaced it by
//! then.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container_cgroup::Hierarchies;
use guest_sandbox::plan::KernelFeatures;
use guest_sandbox::seccomp::FilterCache;
use host_reports::events::Events;
use host_reports::logs::Logs;
use process_forker::Forkers;
use shim_protocol::FileError;
use shim_protocol::host::{HostFiles, Retired};
use shim_protocol::record::Records;

use crate::artifact::Artifacts;
use crate::error::TaskError;
use crate::lookup::Lookups;
use crate::task::Task;
use crate::workload::hints::Hints;
use crate::workload::image::{Containerd, ImageCache};
use crate::zygotes::Zygotes;
use tasks::{Closed, Reservation, Tasks};

pub(crate) mod tasks;

/// How long a host without containers waits for another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a draining host stays after its last container is gone, so that the last response is
/// sent.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(1);
/// How long a host that ends waits until its events are sent.
const EVENT_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The state that the containers of one host share.
pub(crate) struct Host {
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// containerd's image and content stores.
    pub(crate) containerd: Containerd,
    /// Layers and manifests of images.
    pub(crate) image_cache: ImageCache,
    /// The queue of events for containerd.
    pub(crate) events: Events,
    /// The log files of containers.
    pub(crate) logs: Logs,
    /// The kinds of workload that containers ran before.
    pub(crate) hints: Hints,
    /// Running look-ups of programs in containers' files.
    pub(crate) lookups: Lookups,
    /// Fork native containers and zygotes.
    pub(crate) forkers: Arc<Forkers>,
    /// Compiled guests, and their compilations.
    pub(crate) artifacts: Arc<Artifacts>,
    /// Fork guests.
    pub(crate) zygotes: Zygotes,
    /// The node's cgroup hierarchies.
    pub(crate) hierarchies: Hierarchies,
    /// Features of the running kernel.
    pub(crate) kernel_features: KernelFeatures,
    /// Compiled system call filters.
    pub(crate) filters: FilterCache,
    /// The launcher of this host's bundle.
    pub(crate) launcher: PathBuf,
    /// The socket on which this host listens.
    pub(crate) socket: PathBuf,
    /// The records of containers.
    pub(crate) records: Records,
    /// Maximum number of containers, for requests without options of their own.
    pub(crate) max_containers: Option<NonZeroU32>,
    /// The files by which launchers find this host.
    pub(crate) place: HostFiles,
    /// The containers of this host.
    pub(crate) tasks: Tasks<Task>,
}

impl Host {
    /// Returns the task of container `id`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.tasks.get(id)
    }

    /// Returns the task of container `id`; waits for a Create of it that is under way.
    ///
    /// # Errors
    /// If there is none, or it could not be created.
    pub(crate) async fn task_when_created(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.tasks.get_when_created(id).await
    }

    /// Reserves `id` for a container that is about to be created; `limit` is the maximum number of
    /// containers of this host.
    ///
    /// # Errors
    /// If the id is in use, the host is full, or it takes no more containers.
    pub(crate) fn reserve(
        &self,
        id: &str,
        limit: Option<u32>,
    ) -> Result<Reservation<'_, Task>, TaskError> {
        self.tasks.reserve(id, limit)
    }

    /// Removes the task of a deleted container.
    pub(crate) fn remove_task(&self, id: &str) {
        self.tasks.remove(id);
    }

    /// Takes no more containers: the next launcher starts another host. Existing containers stay.
    pub(crate) async fn drain(self: &Arc<Self>) {
        self.tasks.close(Closed::Draining);
        if let Err(error) = self
            .with_place(|host| host.place.lock()?.retire(&host.socket))
            .await
        {
            tracing::error!("cannot make room for another host: {error:#}");
        }
    }

    /// Waits until this host can end, and removes its socket.
    pub(crate) async fn until_unneeded(self: &Arc<Self>) {
        let mut count = self.tasks.count();
        let mut jobs = self.artifacts.jobs().count();
        loop {
            // These fail only if the sender is gone, and this host owns it.
            let _ = count.wait_for(|count| *count == 0).await;
            // A container that has ended leaves its compilation to later ones.
            let _ = jobs.wait_for(|jobs| *jobs == 0).await;
            if *count.borrow_and_update() != 0 {
                continue;
            }
            if self.tasks.is_closed() {
                // The response to the last request is still to be sent.
                tokio::time::sleep(SHUTDOWN_DELAY).await;
                break;
            }
            let seen = self.place.touched();
            if tokio::time::timeout(IDLE_TIMEOUT, count.changed())
                .await
                .is_err()
            {
                match self
                    .with_place(|host| {
                        host.place
                            .lock()?
                            .retire_unless_touched(&host.socket, seen?)
                    })
                    .await
                {
                    // From now on a Create over an open connection is refused, and containerd
                    // executes a launcher again.
                    Ok(Retired::Yes) if self.tasks.close(Closed::Idle) == 0 => break,
                    Ok(_) => {}
                    Err(error) => tracing::error!("cannot retire this host: {error:#}"),
                }
            }
        }
        self.events.flush(EVENT_FLUSH_TIMEOUT).await;
        if let Err(error) = self
            .with_place(|host| host.place.lock()?.remove(&host.socket))
            .await
        {
            tracing::warn!("cannot remove the socket of this host: {error:#}");
        }
    }

    /// Runs `work` where it may block: a launcher holds the lock of this host's place while it
    /// starts another host.
    async fn with_place<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, FileError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let host = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || work(&host)).await??)
    }
}
