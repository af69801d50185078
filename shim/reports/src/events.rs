//! Task events to containerd, in the order in which they happened, also across a restart of
//! containerd.
//!
//! ```text
//!  send ──► queue (bounded) ──► one task: one event at a time ──► containerd (ttrpc, Events.Forward)
//!                                  ▲                  │ away: pause, connect anew, same event again
//!                                  └──────────────────┘
//! ```
//!
//! An event is sent again when the connection broke before containerd's answer. If it broke between
//! containerd's taking the event and its answer, containerd gets it twice, but it was that
//! containerd which went away.

mod topic;
mod queue;
mod post;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use post::Post;
use queue::{Letter, Queue};
pub use topic::TaskEvent;

/// Bounds within which events wait for containerd.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long an event is kept for a containerd that is away. One that comes back later asks for
    /// the state of each task anyway.
    patience: Duration,
    /// The longest pause between two attempts to reach it.
    longest_pause: Duration,
    /// How many events are kept. A pod's life is about ten, each of a few hundred bytes.
    capacity: usize,
}

/// Bounds of a host that serves a node.
const LIMITS: Limits = Limits {
    patience: Duration::from_mins(5),
    longest_pause: Duration::from_secs(1),
    capacity: 8192,
};

/// Where a host's events go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Queue>);

/// What [`Events::flush`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// All that was sent before has left, or was given up and said so.
    All,
    /// So many events still wait for containerd.
    Left(usize),
}

impl Events {
    /// Starts to send events of containerd's `namespace` to the ttrpc socket at `address`
    /// (`TTRPC_ADDRESS` in a launcher's environment: a path, or a `unix://` URI), by a task on
    /// `runtime`. Does not connect yet.
    pub fn start(namespace: String, address: &str, runtime: &Handle) -> Self {
        Self::within(LIMITS, namespace, address, runtime)
    }

    fn within(limits: Limits, namespace: String, address: &str, runtime: &Handle) -> Self {
        let queue = Arc::new(Queue::new(namespace, limits.capacity));
        runtime.spawn(Post::new(limits, address).deliver(Arc::clone(&queue)));
        Self(queue)
    }

    /// Sends `event` after all that were sent before, with the time of now. Never blocks.
    pub fn send<E: TaskEvent>(&self, event: &E) {
        self.0.push(Letter::new(self.0.namespace(), event));
    }

    /// Waits until all that was sent before has left, but no longer than `limit`.
    pub async fn flush(&self, limit: Duration) -> Flushed {
        let mut waiting = self.0.waiting();
        // An error is a queue that is gone, and this is one of its owners.
        let _ = tokio::time::timeout(limit, waiting.wait_for(|count| *count == 0)).await;
        match *waiting.borrow() {
            0 => Flushed::All,
            left => Flushed::Left(left),
        }
    }
}
