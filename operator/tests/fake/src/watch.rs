//! Answers that go on: every change that a client wants to see, each in a line of its own.

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
use crate::cluster::Line;
use crate::faults::{Chance, Faults};
use crate::refusal::Refusal;
use crate::selector::Selector;
use crate::store::{Change, Happened, Store};

/// How often a quiet watch is told the newest version.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// How long a watch lasts that does not say.
const DEFAULT: Duration = Duration::from_mins(30);

/// A watch that is answered.
pub(crate) struct Watching {
    store: Arc<Mutex<Store>>,
    line: Arc<Line>,
    target: Target,
    selector: Selector,
    form: Form,
    /// Changes up to this version are in `lines` or were sent.
    version: u64,
    lines: VecDeque<Vec<u8>>,
    news: watch::Receiver<u64>,
    /// Changes when the server ends every watch of the connection.
    epoch: watch::Receiver<u64>,
    end: Instant,
    bookmarks: bool,
    faults: Faults,
    chance: Chance,
    closing: bool,
}

impl Watching {
    /// Begins a watch.
    ///
    /// # Errors
    /// When it cannot begin where the client wants.
    pub(crate) fn begin(
        store: &Arc<Mutex<Store>>,
        line: &Arc<Line>,
        target: &Target,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let selector = options.selector(target)?;
        let form = options.form();
        let faults = line.faults();
        let mut chance = line.chance();
        let locked = store
            .lock()
            .expect("no test fails while it holds the store");
        let mut lines = VecDeque::new();
        let mut closing = false;
        let start = options.number("resourceVersion").unwrap_or_default();
        let version = if start == 0 {
            let all = locked
                .all(target.resource)
                .filter(|(_, object)| selector.matches(object));
            lines.extend(all.map(|(_, object)| text("ADDED", &shown(object, form))));
            if options.says("sendInitialEvents", "true") {
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
            // Kubernetes begins such a watch, and then says so in it.
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
            line: line.clone(),
            target: target.clone(),
            selector,
            form,
            version,
            lines,
            news: locked.news(),
            epoch: line.epoch(),
            end: Instant::now() + length,
            bookmarks: options.says("allowWatchBookmarks", "true"),
            faults,
            chance,
            closing,
        })
    }

    /// The answer's body.
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
            self.line.stay_connected().await;
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.closing
                || Instant::now() >= self.end
                || self.epoch.has_changed().unwrap_or(true)
            {
                return None;
            }
            self.news.borrow_and_update();
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

    /// Takes over what changed; what the client is told at once if that cannot be had.
    fn catch_up(&mut self) -> Option<Vec<u8>> {
        let locked = self
            .store
            .lock()
            .expect("no test fails while it holds the store");
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
                // What comes after the end of a connection is for the next one.
                self.closing = self.chance.happens(self.faults.watch_ends);
            }
        }
        None
    }

    /// Waits for news, at most until the watch or a bookmark is due.
    async fn wait(&mut self) {
        let due = self.end.min(Instant::now() + BOOKMARKS);
        let mut ended = self.epoch.clone();
        tokio::select! {
            news = timeout_at(due, self.news.changed()) => match news {
                // The server is gone, and with it whoever could change anything.
                Ok(Err(_)) => sleep_until(self.end).await,
                Err(_) if self.bookmarks && due < self.end => self.lines.push_back(text("BOOKMARK",
                    &bookmark(&self.target, self.version))),
                _ => {}
            },
            // The loop sees it once more, and ends.
            _ = ended.changed() => {}
        }
    }
}

/// What a watch with a selector sees of a change: objects come and go for it that only changed for
/// others.
fn seen(change: &Change, selector: &Selector, form: Form) -> Option<Vec<u8>> {
    let before = change
        .before
        .as_deref()
        .is_some_and(|object| selector.matches(object));
    let after = change.happened != Happened::Deleted && selector.matches(&change.object);
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
