//! Events that wait for containerd: first in, first out, and no more than there is room for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::event::Envelope;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::TaskEvent;

/// An event as containerd takes it, and since when it waits.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) envelope: Envelope,
    pub(super) since: Instant,
}

impl Letter {
    pub(super) fn new<E: TaskEvent>(namespace: &str, event: &E) -> Self {
        let event = Any {
            // containerd knows types by their full names, without the prefix that protobuf's own
            // libraries put there.
            type_url: E::descriptor().full_name().to_owned(),
            value: event
                .write_to_bytes()
                .expect("a message without required fields can be written"),
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

/// The queue between those who send and the one task that delivers.
#[derive(Debug)]
pub(super) struct Queue {
    namespace: String,
    capacity: usize,
    state: Mutex<State>,
    arrived: Notify,
    /// How many events have not left yet, the one on its way among them.
    waiting: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    letters: VecDeque<Letter>,
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

    /// Appends `letter`. The oldest one goes where there is no room left: what it tells can be
    /// asked for, and the end of a task, which is told last, matters most.
    pub(super) fn push(&self, letter: Letter) {
        let mut state = self.state();
        if state.letters.len() >= self.capacity
            && let Some(oldest) = state.letters.pop_front()
        {
            state.dropped += 1;
            if state.dropped == 1 {
                let topic = oldest.envelope.topic;
                tracing::error!(
                    topic,
                    waiting = self.capacity,
                    "an event was dropped, for too many wait for containerd"
                );
            }
        } else {
            self.waiting.send_modify(|count| *count += 1);
        }
        state.letters.push_back(letter);
        drop(state);
        self.arrived.notify_one();
    }

    /// The oldest event, once there is one. It counts as waiting until [`Queue::has_left`].
    pub(super) async fn next(&self) -> Letter {
        loop {
            if let Some(letter) = self.state().letters.pop_front() {
                return letter;
            }
            self.arrived.notified().await;
        }
    }

    /// The event that was taken last has been delivered, or was given up.
    pub(super) fn has_left(&self) {
        self.waiting.send_modify(|count| *count -= 1);
    }

    /// How many were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// How many have not left yet, as it changes.
    pub(super) fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each use leaves it whole: a panic elsewhere does not change that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
