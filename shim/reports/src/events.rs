//! Delivery of task events to containerd, in order, also across a restart of containerd.
//!
//! ```text
//!  send ──► queue (bounded) ──► one task: one event at a time ──► containerd (ttrpc, Forward)
//!                                  ▲                  │ away: backoff, reconnect, same event again
//!                                  └──────────────────┘
//! ```
//!
//! An event is sent again if the connection breaks before containerd's reply. If containerd had
//! taken the event by then, it gets it twice, but that containerd is the one that went away.

mod topic;
mod queue;
mod publisher;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use publisher::Publisher;
use queue::{PendingEvent, Queue};
pub use topic::TaskEvent;

/// Bounds of the queue and of the delivery.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long an event is kept while containerd is away. A containerd that returns later requests
    /// the state of each task anyway.
    retry_timeout: Duration,
    /// The longest backoff between two connection attempts.
    max_backoff: Duration,
    /// The queue's capacity. A pod's life has about ten events of a few hundred bytes each.
    capacity: usize,
}

/// The bounds for a node host.
const HOST_LIMITS: Limits = Limits {
    retry_timeout: Duration::from_mins(5),
    max_backoff: Duration::from_secs(1),
    capacity: 8192,
};

/// The events of a node host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Queue>);

/// The result of [`Events::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// All earlier events were delivered, or were given up and logged.
    All,
    /// This many events still wait for containerd.
    Pending(usize),
}

impl Events {
    /// Starts a task on `runtime` that sends the events of containerd's `namespace` to the ttrpc
    /// socket at `address` (`TTRPC_ADDRESS` in a launcher's environment: a path, or a `unix://`
    /// URI). Does not connect yet.
    pub fn start(namespace: String, address: &str, runtime: &Handle) -> Self {
        Self::with_limits(HOST_LIMITS, namespace, address, runtime)
    }

    fn with_limits(limits: Limits, namespace: String, address: &str, runtime: &Handle) -> Self {
        let queue = Arc::new(Queue::new(namespace, limits.capacity));
        runtime.spawn(Publisher::new(limits, address).run(Arc::clone(&queue)));
        Self(queue)
    }

    /// Queues `event` behind all earlier ones, with the present time. Never blocks.
    pub fn send<E: TaskEvent>(&self, event: &E) {
        self.0.push(PendingEvent::new(self.0.namespace(), event));
    }

    /// Waits until all earlier events are delivered, at most for `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Flushed {
        let mut waiting = self.0.waiting();
        // An error would mean that the queue is gone, but `self` holds it.
        let _ = tokio::time::timeout(timeout, waiting.wait_for(|count| *count == 0)).await;
        match *waiting.borrow() {
            0 => Flushed::All,
            left => Flushed::Pending(left),
        }
    }
}
