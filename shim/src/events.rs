//! Task events to containerd, in the order in which they happened, also across a restart of containerd.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::MessageDyn;
use containerd_shim::publisher::RemotePublisher;

/// How long an event is kept for a containerd that is away; one that comes back asks for each task's state anyway.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a task's events go. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub struct Events(Sender<Letter>);

struct Letter {
    topic: String,
    event: Box<dyn MessageDyn>,
}

impl Events {
    /// Events of `namespace`, sent through `publisher`, and through a new connection to `address` when that one fails.
    ///
    /// # Errors
    /// When the thread that sends them cannot be started.
    pub fn start(namespace: String, address: String, publisher: RemotePublisher) -> std::io::Result<Self> {
        let (sender, letters) = channel();
        let post = Post { namespace, address, publisher: Some(publisher) };
        std::thread::Builder::new().name("events".to_owned()).spawn(move || post.deliver(&letters))?;
        Ok(Self(sender))
    }

    /// Sends `event` after all that were sent before.
    pub fn send(&self, event: impl Event) {
        // Fails only when the thread is gone, and that ends with the process.
        let _ = self.0.send(Letter { topic: event.topic(), event: Box::new(event) });
    }
}

struct Post {
    namespace: String,
    address: String,
    publisher: Option<RemotePublisher>,
}

impl Post {
    fn deliver(mut self, letters: &Receiver<Letter>) {
        for letter in letters {
            let started = Instant::now();
            while let Err(error) = self.try_send(&letter) {
                if started.elapsed() > PATIENCE {
                    log::error!("event {} could not be sent for {PATIENCE:?}, given up: {error}", letter.topic);
                    break;
                }
                self.publisher = None;
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn try_send(&mut self, letter: &Letter) -> containerd_shim::Result<()> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => none.insert(RemotePublisher::new(&self.address)?),
        };
        publisher.publish(containerd_shim::Context::default(), &letter.topic, &self.namespace, letter.event.clone_box())
    }
}
