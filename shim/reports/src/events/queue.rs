//! A bounded FIFO queue of events for containerd.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::event::Envelope;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::TaskEvent;

/// An event in containerd's form, and when it was queued.
#[derive(Debug)]
pub(super) struct PendingEvent {
    pub(super) envelope: Envelope,
    pub(super) since: Instant,
}

impl PendingEvent {
    pub(super) fn new<E: TaskEvent>(namespace: &str, event: &E) -> Self {
        let event = Any {
            // containerd looks types up by their full names, without the prefix of protobuf's own
            // libraries.
            type_url: E::descriptor().full_name().to_owned(),
            value: event
                .write_to_bytes()
                .expect("a message without required fields can be encoded"),
            ..Any::default()
        };
        let envelope = Envelope {
            timestamp: MessageField::some(SystemTime::now().into()),
            namespace: namespace.to_owned(),
            topic: E::TOPIC.to_owned(),
            event: MessageField::some(event),
            ..Envelope::default()
        };
        Self {
            envelope,
            since: Instant::now(),
        }
    }
}

/// The queue between the senders and the publishing task.
#[derive(Debug)]
pub(super) struct Queue {
    namespace: String,
    capacity: usize,
    state: Mutex<State>,
    arrived: Notify,
    /// The number of undelivered events, including the one that is being sent.
    waiting: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<PendingEvent>,
    dropped: u64,
}

impl Queue {
    pub(super) fn new(namespace: String, capacity: usize) -> Self {
        Self {
            namespace,
            capacity,
            state: Mutex::default(),
            arrived: Notify::new(),
            waiting: watch::Sender::new(0),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Appends an event. A full queue drops the oldest: its content can be requested as state, and
    /// a task's exit, which comes last, matters most.
    pub(super) fn push(&self, event: PendingEvent) {
        let mut state = self.state();
        if state.events.len() >= self.capacity
            && let Some(oldest) = state.events.pop_front()
        {
            state.dropped += 1;
            if state.dropped == 1 {
                let topic = oldest.envelope.topic;
                tracing::error!(
                    topic,
                    waiting = self.capacity,
                    "an event was dropped: the queue for containerd is full"
                );
            }
        } else {
            self.waiting.send_modify(|count| *count += 1);
        }
        state.events.push_back(event);
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for the oldest event and takes it out. It stays counted until
    /// [`Queue::mark_delivered`].
    pub(super) async fn next(&self) -> PendingEvent {
        loop {
            if let Some(event) = self.state().events.pop_front() {
                return event;
            }
            self.arrived.notified().await;
        }
    }

    /// Marks the event that was taken last as delivered, or given up.
    pub(super) fn mark_delivered(&self) {
        self.waiting.send_modify(|count| *count -= 1);
    }

    /// Returns the number of dropped events since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// Returns the number of undelivered events, as it changes.
    pub(super) fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each use leaves the state consistent, so a panic elsewhere does no harm.
        failures::lock_ignoring_poison(&self.state)
    }
}
