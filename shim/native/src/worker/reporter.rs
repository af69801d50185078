//! The reporter of a worker, and of the container's process until it is started: it sends replies.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::reply::Reply;

/// A process's end of the task's control socket. A fork of the worker has a copy.
pub(super) struct Reporter(Mutex<Option<OwnedFd>>);

impl Reporter {
    pub(super) fn new(control: OwnedFd) -> Self {
        Self(Mutex::new(Some(control)))
    }

    /// Sends a reply. There is nothing to do about a host that is gone.
    pub(super) fn send(&self, reply: &Reply) {
        self.with(|control| drop(reply.send(control.as_fd())));
    }

    pub(super) fn is_host_gone(&self) -> bool {
        let mut gone = false;
        self.with(|control| {
            let mut ends = [PollFd::new(control, PollFlags::empty())];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            gone =
                poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().contains(PollFlags::HUP);
        });
        gone
    }

    /// Closes this process's end.
    pub(super) fn close(&self) {
        failures::lock_ignoring_poison(&self.0).take();
    }

    fn with(&self, act: impl FnOnce(&OwnedFd)) {
        failures::lock_ignoring_poison(&self.0).as_ref().map(act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::control_socket;

    #[test]
    fn host_is_gone_when_its_end_is_closed() {
        let (ours, theirs) = control_socket().unwrap();
        let reporter = Reporter::new(theirs);
        assert!(!reporter.is_host_gone());
        drop(ours);
        assert!(reporter.is_host_gone());
        reporter.send(&Reply::done(Ok(1)));
        reporter.close();
        assert!(!reporter.is_host_gone(), "it is unknown after the close");
    }
}
