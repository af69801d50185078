//! How a worker, and the container's process until it is started, speak to the host.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::link::{self, Message};

/// The way back of a task. A fork of the worker has one of its own.
pub(super) struct Tongue(Mutex<Option<OwnedFd>>);

impl Tongue {
    pub(super) fn new(link: OwnedFd) -> Self {
        Self(Mutex::new(Some(link)))
    }

    /// A host that is gone hears nothing, and there is nobody else to tell.
    pub(super) fn say(&self, message: &Message) {
        self.with(|link| drop(link::send(link.as_fd(), message, &[])));
    }

    pub(super) fn host_is_gone(&self) -> bool {
        let mut gone = false;
        self.with(|link| {
            let mut ends = [PollFd::new(link, PollFlags::empty())];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            gone =
                poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().contains(PollFlags::HUP);
        });
        gone
    }

    /// Lets go of the way back.
    pub(super) fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with(&self, act: impl FnOnce(&OwnedFd)) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_gone_when_its_end_is_closed() {
        let (ours, theirs) = link::pair().unwrap();
        let tongue = Tongue::new(theirs);
        assert!(!tongue.host_is_gone());
        drop(ours);
        assert!(tongue.host_is_gone());
        tongue.say(&Message::Hatched(1));
        tongue.stop();
        assert!(!tongue.host_is_gone(), "who has stopped does not know");
    }
}
