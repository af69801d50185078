//! The two forkers of a host. One serves, the other is on standby; whichever is lost, the one that
//! is left forks a replacement.

use std::sync::Mutex;

use crate::error::{SpawnError, StartError, Step as _};
use crate::fork::Child;
use crate::process::{Forker, Role};
use crate::request::SpawnRequest;
use crate::wire::Message;

/// Plain processes that fork others: they hold nothing of the host but its memory at the time of
/// the fork. They end with the host, and when this is dropped.
#[derive(Debug)]
pub struct Forkers(Mutex<Pair>);

#[derive(Debug)]
struct Pair {
    /// Serves requests; none while it is lost.
    current: Option<Forker>,
    /// Takes its place; none when it was lost and could not be replaced yet.
    standby: Option<Forker>,
}

impl Forkers {
    /// Forks both from the calling process, which must have one thread. The kernel counts that
    /// thread as the parent of every process that they spawn: those that ask for it end with it.
    ///
    /// # Errors
    /// When the kernel refuses a process, or a step of its set-up fails.
    pub fn start() -> Result<Self, StartError> {
        let fork = || Forker::fork().map_err(StartError);
        Ok(Self(Mutex::new(Pair {
            current: Some(fork()?),
            standby: Some(fork()?),
        })))
    }

    /// Spawns a process, a child of this one.
    ///
    /// # Errors
    /// When it cannot be forked: then nothing of it is left.
    pub fn spawn(&self, request: &SpawnRequest) -> Result<Child, SpawnError> {
        let message = write(request)?;
        // A panic leaves a process or none in each place.
        let mut pair = failures::lock_ignoring_poison(&self.0);
        let spawned = pair.serving()?.spawn(&message);
        if let Err(SpawnError::Ended(_)) = spawned {
            // It may answer later, which would be taken for the reply to another request.
            pair.current = None;
        }
        spawned
    }
}

impl Pair {
    /// Returns the forker that serves, after replacing what was lost.
    fn serving(&mut self) -> Result<&Forker, SpawnError> {
        for forker in [&mut self.current, &mut self.standby] {
            if forker.as_ref().is_some_and(Forker::has_ended) {
                tracing::error!("a process that forks containers was lost");
                *forker = None;
            }
        }
        if self.current.is_none() {
            self.current = self.standby.take();
        }
        if self.standby.is_none()
            && let Some(current) = &self.current
        {
            match Forker::spawned(Role::Forker, |request| current.spawn(&write(request)?)) {
                Ok(standby) => self.standby = Some(standby),
                Err(SpawnError::Ended(why)) => {
                    self.current = None;
                    return Err(SpawnError::Ended(why));
                }
                Err(error) => {
                    tracing::error!(%error, "the process that forks containers has no standby");
                }
            }
        }
        let lost = || SpawnError::Lost("its standby has ended too".to_owned());
        self.current.as_ref().ok_or_else(lost)
    }
}

/// Writes a request before there is anything to undo.
pub(crate) fn write(request: &SpawnRequest) -> Result<Message, SpawnError> {
    Message::of(request.wire())
        .step(|| "write a request to fork a process")
        .map_err(SpawnError::Host)
}
