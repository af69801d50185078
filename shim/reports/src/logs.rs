//! A subscriber for `tracing`: lines to containerd's log and to the journal.
//!
//! A line is about a container if the event, or a span around it, has the field `container`. It
//! then carries the pod and the guest of that container too ([`Logs::describe`]), and goes to the
//! FIFO `log` in the container's bundle, from which containerd copies it into its own log; so lines
//! are written as containerd's own shims write theirs. A line about no container goes to the bundle
//! that came last, or waits for the next. Where the journal runs, it gets each line as well, in
//! fields that can be searched for (`journalctl CONTAINER_ID=…`).
//!
//! | module | what |
//! |---|---|
//! | `layer` | what `tracing` tells, as lines |
//! | `line` | a line, and how containerd's log wants it |
//! | `fifo` | the `log` FIFO of one bundle |
//! | `journal` | the journal's socket |
//!
//! Not for the children of a fork: they have the locks of these modules as they were at that
//! moment.

mod layer;
mod line;
mod fifo;
mod journal;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use fifo::Fifo;
use journal::Journal;
use layer::LineLayer;
use line::Line;

/// How many lines wait for the first bundle, or for the next one while there is none.
const EARLY_LINES: usize = 64;

/// What is the same on every line of a host.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The runtime, as containerd names it (`io.containerd.wasmedge.v1`).
    pub runtime: String,
    /// containerd's namespace.
    pub namespace: String,
}

/// What is known of a container beside its id; each line about it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its pod, as `namespace/name`.
    pub pod: Option<String>,
    /// The digest of its guest.
    pub guest: Option<String>,
}

/// A host's logs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    places: Arc<Places>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Makes this process's `tracing` events lines of its logs, down to `level`.
///
/// # Errors
/// When the process has a subscriber already.
pub fn init(identity: Identity, level: LevelFilter) -> Result<Logs, TryInitError> {
    let places = Arc::new(Places::new(identity, Journal::of_this_system()));
    let (filter, level) = reload::Layer::new(level);
    tracing_subscriber::registry()
        .with(filter)
        .with(LineLayer::new(Arc::clone(&places)))
        .try_init()?;
    Ok(Logs { places, level })
}

impl Logs {
    /// From now on, writes lines down to `level`.
    pub fn set_level(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and nobody is left to be told.
        let _ = self.level.reload(level);
    }

    /// Lines about `container` go to the FIFO `log` in the folder `bundle` from now on, until
    /// [`Logs::detach`]. Without such a FIFO they go where lines about no container go.
    pub fn attach(&self, container: &str, bundle: &Path) {
        match self.places.attach(container, bundle) {
            Ok(()) => {}
            // As it is for further containers of a pod: containerd starts no launcher for them, and
            // so opens none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::debug!(container, bundle = %bundle.display(), "the container has no log \
                                                            FIFO");
            }
            Err(error) => {
                tracing::warn!(container, bundle = %bundle.display(), %error, "the container's log \
                                                            FIFO cannot be opened");
            }
        }
    }

    /// Lines about `container` say what is known of it. It must be attached; what is `None` stays
    /// as it was.
    pub fn describe(&self, container: &str, about: About) {
        self.places.describe(container, about);
    }

    /// Closes the FIFO of `container`, whose bundle is about to go. Write the last line about it
    /// before.
    pub fn detach(&self, container: &str) {
        self.places.detach(container);
    }
}

/// Where lines go.
#[derive(Debug)]
struct Places {
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bundles: HashMap<String, Bundle>,
    /// How many bundles were attached so far; tells which came last.
    attached: u64,
    /// Lines that have found no bundle yet.
    early: VecDeque<Vec<u8>>,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Bundle {
    number: u64,
    fifo: Option<Fifo>,
    about: About,
}

impl Places {
    fn new(identity: Identity, journal: Option<Journal>) -> Self {
        Self {
            identity,
            state: Mutex::new(State {
                journal,
                ..State::default()
            }),
        }
    }

    fn attach(&self, container: &str, bundle: &Path) -> std::io::Result<()> {
        let (fifo, outcome) = match Fifo::open(&bundle.join("log")) {
            Ok(fifo) => (Some(fifo), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let mut state = self.state();
        state.attached += 1;
        let mut bundle = Bundle {
            number: state.attached,
            fifo,
            about: About::default(),
        };
        if let Some(fifo) = &mut bundle.fifo {
            state.early.drain(..).for_each(|line| fifo.write(&line));
        }
        state.bundles.insert(container.to_owned(), bundle);
        outcome
    }

    fn describe(&self, container: &str, about: About) {
        if let Some(bundle) = self.state().bundles.get_mut(container) {
            bundle.about.pod = about.pod.or(bundle.about.pod.take());
            bundle.about.guest = about.guest.or(bundle.about.guest.take());
        }
    }

    fn detach(&self, container: &str) {
        self.state().bundles.remove(container);
    }

    /// Completes `line`, and writes it to where it belongs.
    fn write(&self, mut line: Line) {
        let mut state = self.state();
        let State {
            bundles,
            early,
            journal,
            ..
        } = &mut *state;
        let container = line.get("container").map(str::to_owned);
        if let Some(bundle) = container
            .as_ref()
            .and_then(|container| bundles.get(container))
        {
            line.add_missing("pod", bundle.about.pod.as_deref());
            line.add_missing("guest", bundle.about.guest.as_deref());
        }
        line.add_missing("runtime", Some(&self.identity.runtime));
        line.add_missing("namespace", Some(&self.identity.namespace));
        if let Some(journal) = journal {
            journal.write(&line);
        }
        let text = line.logfmt();
        if let Some(fifo) = destination(bundles, container.as_deref()) {
            fifo.write(&text);
            return;
        }
        if early.len() >= EARLY_LINES {
            early.pop_front();
        }
        early.push_back(text);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A line more or less is all that a panic within could have cost.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The FIFO for a line about `container`: its own, or else that of the bundle that came last.
fn destination<'a>(
    bundles: &'a mut HashMap<String, Bundle>,
    container: Option<&str>,
) -> Option<&'a mut Fifo> {
    let own = container
        .and_then(|container| bundles.get(container))
        .filter(|bundle| bundle.fifo.is_some());
    let number = match own {
        Some(bundle) => bundle.number,
        None => bundles
            .values()
            .filter(|bundle| bundle.fifo.is_some())
            .map(|bundle| bundle.number)
            .max()?,
    };
    bundles
        .values_mut()
        .find(|bundle| bundle.number == number)
        .and_then(|bundle| bundle.fifo.as_mut())
}
