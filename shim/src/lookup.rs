//! Look-ups in a container's files, from the host's side: started, awaited without a thread, and
//! cancelled.
//!
//! A look-up process may never end ([`guest_sandbox::lookup`]), and each holds memory and a process
//! id. So a container and a pod have a maximum number of them, which includes processes that were
//! killed and have not exited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use guest_sandbox::Zygote;
use guest_sandbox::lookup::{Files, LookupProcess, LookupReply, NewLookup, PendingReply, look_up};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::blocking::blocking_set_up;
use crate::error::CreateError;
use crate::process;
use crate::request;
use crate::workload::digest::FileDigest;
use crate::workload::kind::Inspection;
use crate::workload::rootfs::{self, FoundFile};
use crate::workload::{CommandLine, WorkloadError};

/// The time limit of a look-up: less than the kubelet's for any request, and enough for a slow
/// network.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of look-up processes of one container.
const MAX_PER_CONTAINER: usize = 4;
/// Maximum number of look-up processes of the containers of one pod.
const MAX_PER_POD: usize = 8;

/// The container and pod that a look-up counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookupOwner<'a> {
    /// The container's id.
    pub(crate) container: &'a str,
    /// The id of its pod's sandbox; none if CRI did not create the container.
    pub(crate) pod: Option<&'a str>,
}

/// The look-up processes of a host.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    slots: Mutex<HashMap<Key, Weak<Semaphore>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Container(String),
    Pod(String),
}

/// The permits for one look-up process.
#[derive(Debug)]
struct Slot {
    _container: OwnedSemaphorePermit,
    _pod: Option<OwnedSemaphorePermit>,
}

impl Lookups {
    /// Waits for the permits of a look-up process.
    async fn slot(&self, owner: LookupOwner<'_>) -> Slot {
        let container = acquire(self.semaphore(
            Key::Container(owner.container.to_owned()),
            MAX_PER_CONTAINER,
        ))
        .await;
        let pod = match owner.pod {
            Some(pod) => Some(acquire(self.semaphore(Key::Pod(pod.to_owned()), MAX_PER_POD)).await),
            None => None,
        };
        Slot {
            _container: container,
            _pod: pod,
        }
    }

    fn semaphore(&self, key: Key, max: usize) -> Arc<Semaphore> {
        // Every change leaves the map consistent, also if its last holder panicked.
        let mut slots = failures::lock_ignoring_poison(&self.slots);
        slots.retain(|_, semaphore| semaphore.strong_count() > 0);
        if let Some(semaphore) = slots.get(&key).and_then(Weak::upgrade) {
            return semaphore;
        }
        let semaphore = Arc::new(Semaphore::new(max));
        slots.insert(key, Arc::downgrade(&semaphore));
        semaphore
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore
        .acquire_owned()
        .await
        .expect("no semaphore here is ever closed")
}

/// Looks for the file that `entrypoint` names in a container's `files`; the digest of a file in
/// `known` is not computed again.
///
/// # Errors
/// If there is no such file, it is not a program, the file system does not answer, or containerd
/// cancelled the request.
pub(crate) async fn find(
    lookups: &Lookups,
    zygote: &Arc<Zygote>,
    owner: LookupOwner<'_>,
    files: Files,
    command: CommandLine<'_>,
    entrypoint: &str,
    known: Vec<FileDigest>,
) -> Result<Result<FoundFile, WorkloadError>, CreateError> {
    let deadline = Instant::now() + LOOKUP_TIMEOUT;
    let candidates = rootfs::candidates(command, entrypoint);
    let slot = match wait(deadline, lookups.slot(owner)).await {
        Waited::Done(slot) => slot,
        waited => {
            return Err(unanswered(
                entrypoint,
                &waited,
                "earlier look-ups of this pod".to_owned(),
            ));
        }
    };
    let new = NewLookup {
        name: owner.container.to_owned(),
        files,
        cwd: command.cwd.to_owned(),
        candidates: candidates.clone(),
        known,
    };
    let (process, reply) = start(zygote, new).await?;
    let process = Running(Some((process, slot)));
    let socket = process::readable(reply.socket()).map_err(CreateError::Descriptors)?;
    match wait(deadline, socket.readable()).await {
        Waited::Done(ready) => drop(ready.map_err(CreateError::Descriptors)?),
        waited => return Err(unanswered(entrypoint, &waited, process.wait_channel())),
    }
    let reply: LookupReply<Inspection> = reply.receive()?;
    Ok(rootfs::found(command, entrypoint, &candidates, reply))
}

async fn start(
    zygote: &Arc<Zygote>,
    new: NewLookup<Vec<FileDigest>>,
) -> Result<(LookupProcess, PendingReply<Inspection>), CreateError> {
    let zygote = Arc::clone(zygote);
    blocking_set_up(move || Ok(look_up(&zygote, new)?)).await
}

enum Waited<T> {
    Done(T),
    TimedOut,
    Cancelled,
}

async fn wait<T>(deadline: Instant, event: impl Future<Output = T>) -> Waited<T> {
    tokio::select! {
        waited = timeout_at(deadline, event) => waited.map_or(Waited::TimedOut, Waited::Done),
        () = request::cancelled() => Waited::Cancelled,
    }
}

fn unanswered<T>(entrypoint: &str, waited: &Waited<T>, on: String) -> CreateError {
    let entrypoint = entrypoint.to_owned();
    match waited {
        Waited::Cancelled => WorkloadError::LookUpCancelled { entrypoint }.into(),
        Waited::Done(_) | Waited::TimedOut => WorkloadError::LookUpTimedOut {
            entrypoint,
            seconds: LOOKUP_TIMEOUT.as_secs(),
            on,
        }
        .into(),
    }
}

/// A process with its permits. Dropping it kills the process; the permits are released when it has
/// exited.
struct Running(Option<(LookupProcess, Slot)>);

impl Running {
    fn wait_channel(&self) -> String {
        let function = self
            .0
            .as_ref()
            .map(|(process, _)| process.wait_channel())
            .unwrap_or_default();
        format!(
            "the kernel, in {}",
            if function.is_empty() {
                "an unknown function"
            } else {
                &function
            }
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((process, slot)) = self.0.take() {
            tokio::spawn(reap(process, slot));
        }
    }
}

async fn reap(process: LookupProcess, slot: Slot) {
    process.kill();
    let ended = async {
        process::readable(process.pidfd())?
            .readable()
            .await?
            .retain_ready();
        process.reap()
    };
    if let Err(error) = ended.await {
        tracing::warn!("cannot wait for the exit of a look-up process: {error}");
    }
    drop(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn look_ups_of_a_container_and_a_pod_are_limited_until_they_have_exited() {
        let lookups = Lookups::default();
        let owner = |container| LookupOwner {
            container,
            pod: Some("pod"),
        };
        let is_free = async |container| {
            tokio::time::timeout(Duration::from_millis(20), lookups.slot(owner(container)))
                .await
                .ok()
        };
        let mut held = Vec::new();
        for _ in 0..MAX_PER_CONTAINER {
            held.push(lookups.slot(owner("first")).await);
        }
        assert!(is_free("first").await.is_none());
        for _ in MAX_PER_CONTAINER..MAX_PER_POD {
            held.push(lookups.slot(owner("second")).await);
        }
        assert!(is_free("third").await.is_none());
        held.pop();
        let third = is_free("third").await;
        assert!(third.is_some() && is_free("first").await.is_none());
        drop((held, third));
        assert!(is_free("first").await.is_some());
        lookups.semaphore(Key::Pod("other".to_owned()), 1);
        assert_eq!(lookups.slots.lock().unwrap().len(), 1);
    }
}
