//! Watches: a stream of the changes that a client selects, one per line.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::call::{Form, Options, Target};
use crate::cluster::Link;
use crate::faults::{Chance, Faults};
use crate::refusal::Refusal;
use crate::selector::Selector;
use crate::store::{Change, ChangeKind, Store};

/// The interval of bookmarks.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// The timeout of a watch without one.
const DEFAULT: Duration = Duration::from_mins(30);

/// An open watch.
pub(crate) struct Watching {
    store: Arc<Mutex<Store>>,
    link: Arc<Link>,
    target: Target,
    selector: Selector,
    form: Form,
    /// Changes up to this version are in `lines` or were sent.
    version: u64,
    lines: VecDeque<Vec<u8>>,
    versions: watch::Receiver<u64>,
    /// Changes when the server ends every watch of the connection.
    epoch: watch::Receiver<u64>,
    end: Instant,
    bookmarks: bool,
    faults: Faults,
    chance: Chance,
    closing: bool,
}

impl Watching {
    /// Starts a watch.
    ///
    /// # Errors
    /// If it cannot start at the requested version.
    pub(crate) fn begin(
        store: &Arc<Mutex<Store>>,
        link: &Arc<Link>,
        target: &Target,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let selector = options.selector(target)?;
        let form = options.form();
        let faults = link.faults();
        let mut chance = link.chance();
        let locked = store
            .lock()
            .expect("no test panics while it holds the store");
        let mut lines = VecDeque::new();
        let mut closing = false;
        let start = options.number("resourceVersion").unwrap_or_default();
        let version = if start == 0 {
            let all = locked
                .all(target.resource)
                .filter(|(_, object)| selector.matches(object));
            lines.extend(all.map(|(_, object)| text("ADDED", &shown(object, form))));
            if options.has_value("sendInitialEvents", "true") {
                let mut bookmark = bookmark(target, locked.version());
                bookmark["metadata"]["annotations"] =
                    json!({ "k8s.io/initial-events-end": "true" });
                lines.push_back(text("BOOKMARK", &bookmark));
            }
            locked.version()
        } else {
            let known = locked.changes_since(target.resource, start).map(drop);
            let known = if chance.happens(faults.watch_expires) {
                Err(Refusal::expired())
            } else {
                known
            };
            // Kubernetes starts such a watch, and sends the error in it.
            if let Err(refusal) = known {
                lines.push_back(text("ERROR", &refusal.to_status()));
                closing = true;
            }
            start
        };
        let length = options
            .number("timeoutSeconds")
            .map_or(DEFAULT, Duration::from_secs);
        Ok(Self {
            store: store.clone(),
            link: link.clone(),
            target: target.clone(),
            selector,
            form,
            version,
            lines,
            versions: locked.versions(),
            epoch: link.epoch(),
            end: Instant::now() + length,
            bookmarks: options.has_value("allowWatchBookmarks", "true"),
            faults,
            chance,
            closing,
        })
    }

    /// Returns the body of the answer.
    pub(crate) fn into_stream(
        self,
    ) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send {
        stream::unfold(self, |mut watching| async move {
            let line = watching.next_line().await?;
            Some((Ok(Frame::data(Bytes::from(line))), watching))
        })
    }

    async fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            self.link.stay_connected().await;
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.closing
                || Instant::now() >= self.end
                || self.epoch.has_changed().unwrap_or(true)
            {
                return None;
            }
            self.versions.borrow_and_update();
            if let Some(line) = self.catch_up() {
                return Some(line);
            }
            if self.lines.is_empty() {
                self.wait().await;
            } else if !self.faults.event_delay.is_zero() {
                let delay = self.chance.between(Duration::ZERO, self.faults.event_delay);
                sleep(delay).await;
            }
        }
    }

    /// Takes over new changes. Returns the error line if they are not available any more.
    fn catch_up(&mut self) -> Option<Vec<u8>> {
        let locked = self
            .store
            .lock()
            .expect("no test panics while it holds the store");
        let changes = match locked.changes_since(self.target.resource, self.version) {
            Ok(changes) => changes,
            Err(refusal) => {
                self.closing = true;
                return Some(text("ERROR", &refusal.to_status()));
            }
        };
        self.version = locked.version();
        for change in changes {
            if self.closing {
                break;
            }
            if let Some(line) = seen(&change, &self.selector, self.form) {
                self.lines.push_back(line);
                // Further changes are for the next connection.
                self.closing = self.chance.happens(self.faults.watch_ends);
            }
        }
        None
    }

    /// Waits for a new version, at most until the watch ends or a bookmark is due.
    async fn wait(&mut self) {
        let due = self.end.min(Instant::now() + BOOKMARKS);
        let mut ended = self.epoch.clone();
        tokio::select! {
            changed = timeout_at(due, self.versions.changed()) => match changed {
                // The server is gone, so nothing changes any more.
                Ok(Err(_)) => sleep_until(self.end).await,
                Err(_) if self.bookmarks && due < self.end => self.lines.push_back(text("BOOKMARK",
                    &bookmark(&self.target, self.version))),
                _ => {}
            },
            // The loop checks it again, and ends.
            _ = ended.changed() => {}
        }
    }
}

/// Returns the event that a watch with a selector gets. An object that starts or stops to match is
/// added or deleted for it.
fn seen(change: &Change, selector: &Selector, form: Form) -> Option<Vec<u8>> {
    let before = change
        .before
        .as_deref()
        .is_some_and(|object| selector.matches(object));
    let after = change.kind != ChangeKind::Deleted && selector.matches(&change.object);
    let word = match (before, after) {
        (false, false) => return None,
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
    };
    Some(text(word, &shown(&change.object, form)))
}

/// An event as it is sent.
fn text(word: &str, object: &Value) -> Vec<u8> {
    format!("{{\"type\":\"{word}\",\"object\":{object}}}\n").into_bytes()
}

/// An object in the form that the client wants.
pub(crate) fn shown(object: &Value, form: Form) -> Cow<'_, Value> {
    match form {
        Form::Whole => Cow::Borrowed(object),
        Form::Metadata => Cow::Owned(
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": object["metadata"] }),
        ),
    }
}

fn bookmark(target: &Target, version: u64) -> Value {
    let Target { resource, .. } = target;
    json!({ "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": { "resourceVersion": version.to_string() } })
}
