//! A subscriber for `tracing` that writes lines to containerd's log and to the journal.
//!
//! A line belongs to a container if the event, or a span around it, has the field `container`. It
//! then also has the pod and the guest of that container ([`Logs::describe`]), and goes to the FIFO
//! `log` in the container's bundle. containerd copies that FIFO into its own log, so lines have the
//! format of containerd's own shims. Lines without a container go to the newest bundle, or wait for
//! the next one. If the journal runs, it gets each line too, in fields that can be searched for
//! (`journalctl CONTAINER_ID=…`).
//!
//! | module | contents |
//! |---|---|
//! | `layer` | events and spans of `tracing` as lines |
//! | `line` | a line, in the format of containerd's log |
//! | `fifo` | the `log` FIFO of one bundle |
//! | `journal` | the journal's socket |
//!
//! Not for forked children: there these modules' locks are in the state of the moment of the fork.

mod layer;
mod line;
mod fifo;
mod journal;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use fifo::Fifo;
use journal::Journal;
use layer::LineLayer;
use line::Line;

/// The number of lines that are kept for the first bundle, or for the next one while there is none.
const EARLY_LINE_CAPACITY: usize = 64;

/// Fields that all lines of a node host share.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The runtime's name in containerd (`io.containerd.wasmedge.v1`).
    pub runtime: String,
    /// containerd's namespace.
    pub namespace: String,
}

/// Fields that every line about a container has beside the container's id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// The pod as `namespace/name`.
    pub pod: Option<String>,
    /// The digest of the guest.
    pub guest: Option<String>,
}

/// The logs of a node host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    router: Arc<Router>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Installs the subscriber of this process, for lines down to `level`.
///
/// # Errors
/// If the process already has a subscriber.
pub fn init(identity: Identity, level: LevelFilter) -> Result<Logs, TryInitError> {
    let router = Arc::new(Router::new(identity, Journal::open()));
    let (filter, level) = reload::Layer::new(level);
    tracing_subscriber::registry()
        .with(filter)
        .with(LineLayer::new(Arc::clone(&router)))
        .try_init()?;
    Ok(Logs { router, level })
}

impl Logs {
    /// Sets the lowest level to log.
    pub fn set_level(&self, level: LevelFilter) {
        // Fails only if the subscriber is gone, and then there is nothing to set.
        let _ = self.level.reload(level);
    }

    /// Sends lines about `container` to the FIFO `log` in the folder `bundle`, until
    /// [`Logs::detach`]. Without that FIFO they go where lines without a container go.
    pub fn attach(&self, container: &str, bundle: &Path) {
        match self.router.attach(container, bundle) {
            Ok(()) => {}
            // Normal for further containers of a pod: containerd starts no launcher for them, and
            // so opens no FIFO.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::debug!(container, bundle = %bundle.display(), "the container has \
                    no log FIFO");
            }
            Err(error) => {
                tracing::warn!(container, bundle = %bundle.display(), %error, "cannot open \
                    the container's log FIFO");
            }
        }
    }

    /// Adds fields to all later lines about `container`, which must be attached. Fields that are
    /// `None` keep their value.
    pub fn describe(&self, container: &str, info: ContainerInfo) {
        self.router.describe(container, info);
    }

    /// Closes the FIFO of `container` before its bundle is removed. Log the last line about it
    /// before.
    pub fn detach(&self, container: &str) {
        self.router.detach(container);
    }
}

/// Routes lines to FIFOs and the journal.
#[derive(Debug)]
struct Router {
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bundles: HashMap<String, Bundle>,
    /// The number of bundles attached so far; orders bundles by age.
    attached: u64,
    /// Lines that wait for a bundle.
    early: VecDeque<Vec<u8>>,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Bundle {
    number: u64,
    fifo: Option<Fifo>,
    info: ContainerInfo,
}

impl Router {
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
            info: ContainerInfo::default(),
        };
        if let Some(fifo) = &mut bundle.fifo {
            state.early.drain(..).for_each(|line| fifo.write(&line));
        }
        state.bundles.insert(container.to_owned(), bundle);
        outcome
    }

    fn describe(&self, container: &str, info: ContainerInfo) {
        if let Some(bundle) = self.state().bundles.get_mut(container) {
            bundle.info.pod = info.pod.or(bundle.info.pod.take());
            bundle.info.guest = info.guest.or(bundle.info.guest.take());
        }
    }

    fn detach(&self, container: &str) {
        self.state().bundles.remove(container);
    }

    /// Completes `line` and writes it to its destinations.
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
            line.add_missing("pod", bundle.info.pod.as_deref());
            line.add_missing("guest", bundle.info.guest.as_deref());
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
        if early.len() >= EARLY_LINE_CAPACITY {
            early.pop_front();
        }
        early.push_back(text);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic inside, at most one line is lost or repeated.
        failures::lock_ignoring_poison(&self.state)
    }
}

/// Returns the FIFO for a line about `container`: its own, else that of the newest bundle.
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
