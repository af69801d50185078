//! A zygote: a forking process that was prepared, for example with an engine loaded and warm, so
//! that what it forks need not be.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Failure, SpawnError, Step as _};
use crate::fork::Child;
use crate::forkers::{Forkers, write};
use crate::process::{Forker, Role};
use crate::request::SpawnRequest;

/// Prepares a zygote. Called once in it, before it serves; the node's files can be opened here.
pub type Prepare = fn() -> Result<(), Failure>;

/// A zygote, made by a forker when it is first needed and whenever it was lost. A host can have
/// several, each with another preparation. It ends with the host, and when this is dropped.
#[derive(Debug)]
pub struct Zygote {
    forkers: Arc<Forkers>,
    prepare: Prepare,
    /// None before it is needed, and while it is lost.
    current: Mutex<Option<Forker>>,
}

impl Zygote {
    /// Describes a zygote that `prepare` prepares. No process is made yet.
    pub fn new(forkers: Arc<Forkers>, prepare: Prepare) -> Self {
        Self {
            forkers,
            prepare,
            current: Mutex::new(None),
        }
    }

    /// Makes the process unless it is there, and returns a handle of it, which becomes readable
    /// when it is lost.
    ///
    /// # Errors
    /// When it cannot be made or prepared.
    pub fn pidfd(&self) -> Result<OwnedFd, SpawnError> {
        let mut current = self.lock();
        let pidfd = self.serving(&mut current)?.pidfd();
        pidfd
            .step(|| "watch the process that forks guests")
            .map_err(SpawnError::Host)
    }

    /// Spawns a process, a child of the host.
    ///
    /// # Errors
    /// When it cannot be forked: then nothing of it is left.
    pub fn spawn(&self, request: &SpawnRequest) -> Result<Child, SpawnError> {
        let message = write(request)?;
        let mut current = self.lock();
        let spawned = self.serving(&mut current)?.spawn(&message);
        if let Err(SpawnError::Ended(_)) = spawned {
            // It may have forked before it was lost: asking another one for the same would make two
            // processes for one control socket. So the caller decides.
            *current = None;
        }
        spawned
    }

    /// Locks the process; a panic leaves one or none.
    fn lock(&self) -> MutexGuard<'_, Option<Forker>> {
        failures::lock_ignoring_poison(&self.current)
    }

    /// Returns the process, after making it if it is not there or has ended.
    fn serving<'a>(&self, current: &'a mut Option<Forker>) -> Result<&'a Forker, SpawnError> {
        if current.as_ref().is_some_and(Forker::has_ended) {
            *current = None;
        }
        match current {
            Some(zygote) => Ok(zygote),
            None => Ok(current.insert(self.make()?)),
        }
    }

    fn make(&self) -> Result<Forker, SpawnError> {
        let role = Role::Zygote(self.prepare);
        let made = Forker::spawned(role, |request| self.forkers.spawn(request));
        // A zygote without its preparation does nothing, so another forker can be asked at once.
        let made = match made {
            Err(SpawnError::Ended(_)) => {
                Forker::spawned(role, |request| self.forkers.spawn(request))
            }
            made => made,
        };
        made.map_err(|error| SpawnError::Lost(error.to_string()))
    }
}
