//! The server: a store behind the service that `kube::Client` takes, one connection for each
//! client.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, timeout_at};

use crate::clock::Clock;
use crate::faults::{Chance, Faults};
use crate::record::Call;
use crate::refusal::Refusal;
use crate::resource::Resource;
use crate::store::{Change, Key, Store};
use crate::write::{DryRun, Writer};

mod serve;

/// A Kubernetes API server. Its methods act at once and by no rule but those of [`Store`]; clients
/// come through [`Cluster::connect`].
#[derive(Debug, Clone)]
pub struct Cluster {
    store: Arc<Mutex<Store>>,
    calls: Arc<Mutex<Vec<Call>>>,
    clock: Clock,
}

/// A client's way to the server.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    line: Arc<Line>,
}

/// What a connection is like, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Line {
    name: Arc<str>,
    state: Mutex<LineState>,
    connected: watch::Sender<bool>,
    epoch: watch::Sender<u64>,
}

#[derive(Debug)]
struct LineState {
    faults: Faults,
    chance: Chance,
    writes: usize,
    cut: Option<(usize, Moment, oneshot::Sender<()>)>,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the server has the request.
    Before,
    /// After the server has done what it says; the client never learns it.
    After,
}

impl Cluster {
    /// A server without objects.
    pub fn start() -> Self {
        let clock = Clock::start();
        Self {
            store: Arc::new(Mutex::new(Store::new(clock))),
            calls: Arc::default(),
            clock,
        }
    }

    /// A connection of this name.
    pub fn connect(&self, name: &str) -> Connection {
        let line = Arc::new(Line {
            name: name.into(),
            state: Mutex::new(LineState {
                faults: Faults::default(),
                chance: Chance::new(0),
                writes: 0,
                cut: None,
            }),
            connected: watch::Sender::new(true),
            epoch: watch::Sender::new(0),
        });
        let front = serve::Front {
            store: self.store.clone(),
            calls: self.calls.clone(),
            clock: self.clock,
            line: line.clone(),
        };
        Connection {
            client: Client::new(front, "default"),
            line,
        }
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The objects.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store
            .lock()
            .expect("no test fails while it holds the store")
    }

    /// Every request until now.
    pub fn calls(&self) -> Vec<Call> {
        self.recorded().clone()
    }

    /// Forgets the requests until now.
    pub fn forget_calls(&self) {
        self.recorded().clear();
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls
            .lock()
            .expect("nothing fails while it holds the calls")
    }

    /// Creates an object, whose kind it says itself.
    ///
    /// # Errors
    /// As for a client.
    pub fn create(&self, object: Value) -> Result<Arc<Value>, Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let resource = Resource::of(&version, &kind)
            .ok_or_else(|| Refusal::no_such_path(&format!("{version} {kind}")))?;
        let metadata = &object["metadata"];
        let key = Key::new(
            resource,
            &text(&metadata["namespace"]),
            &text(&metadata["name"]),
        );
        self.store().create(&key, object, &writer(), DryRun::No)
    }

    /// The object, if there is one.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.store().get(key).ok()
    }

    /// Every object of a kind.
    pub fn all(&self, resource: Resource) -> Vec<Arc<Value>> {
        self.store()
            .all(resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Changes an object past every rule.
    ///
    /// # Errors
    /// When there is none.
    pub fn edit(&self, key: &Key, change: impl FnOnce(&mut Value)) -> Result<Arc<Value>, Refusal> {
        self.store().edit(key, change, &writer().by)
    }

    /// Changes what is wanted of an object, as `kubectl edit` does.
    ///
    /// # Errors
    /// As for a client.
    pub fn update(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Value>, Refusal> {
        let mut store = self.store();
        let mut object = Value::clone(&*store.get(key)?);
        change(&mut object);
        store.update(key, object, &writer(), DryRun::No)
    }

    /// Deletes an object, as `kubectl delete` does: in the background.
    ///
    /// # Errors
    /// As for a client.
    pub fn delete(&self, key: &Key) -> Result<Arc<Value>, Refusal> {
        let options = serde_json::json!({ "propagationPolicy": "Background" });
        self.store().delete(key, &options, &writer(), DryRun::No)
    }

    /// Every change from now on.
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Change> {
        self.store().follow()
    }

    /// Waits until `holds` says so.
    ///
    /// # Errors
    /// What it says instead after `limit`.
    pub async fn until(
        &self,
        limit: Duration,
        mut holds: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let end = Instant::now() + limit;
        let mut news = self.store().news();
        loop {
            news.borrow_and_update();
            let Err(why) = holds() else { return Ok(()) };
            if Instant::now() >= end {
                return Err(format!("not after {} s: {why}", limit.as_secs()));
            }
            // Not all that a test waits for is in the store: look now and then.
            let next = end.min(Instant::now() + Duration::from_secs(10));
            // Either way there is something to look at.
            let _ = timeout_at(next, news.changed()).await;
        }
    }

    /// Calls `witness` at every change from now on, before anybody else can see it. It must not use
    /// the cluster.
    pub fn witness(&self, witness: impl FnMut(&Change) + Send + 'static) {
        self.store().witness(witness);
    }
}

/// The test itself.
fn writer() -> Writer {
    Writer {
        by: "test".into(),
        manager: "test".to_owned(),
        subresource: String::new(),
    }
}

impl Connection {
    /// A client that uses this connection.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What goes wrong from now on; nothing but a few milliseconds of latency at first.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.line.state();
        state.chance = Chance::new(faults.seed);
        state.faults = faults;
    }

    /// Cuts it: no request reaches the server, no answer and no event the client.
    pub fn cut(&self) {
        self.line.connected.send_replace(false);
    }

    /// Ends a cut. What was under way goes on.
    pub fn mend(&self) {
        self.line.connected.send_replace(true);
    }

    /// Cuts it at the `n`th change that is requested from now on, the first being 1. The answer
    /// tells when that was.
    pub fn cut_at_write(&self, n: usize, moment: Moment) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.line.state();
        state.cut = Some((state.writes + n, moment, sender));
        receiver
    }

    /// Changes that were requested until now.
    pub fn writes(&self) -> usize {
        self.line.state().writes
    }

    /// Ends every watch that is under way.
    pub fn end_watches(&self) {
        self.line.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state
            .lock()
            .expect("nothing fails while it holds a line")
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Chance of its own for what goes on beside other requests.
    pub(crate) fn chance(&self) -> Chance {
        Chance::new(self.state().chance.number())
    }

    pub(crate) fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// Waits until the connection is not cut.
    pub(crate) async fn stay_connected(&self) {
        let mut connected = self.connected.subscribe();
        connected
            .wait_for(|connected| *connected)
            .await
            .expect("the line itself holds the sender");
    }

    /// Counts a change; when to cut the connection if this is the one to cut it at.
    fn count_write(&self) -> Option<Moment> {
        let mut state = self.state();
        state.writes += 1;
        let writes = state.writes;
        let (_, moment, sender) = state.cut.take_if(|(n, ..)| *n == writes)?;
        drop(state);
        // Whoever set this may no longer care.
        let _ = sender.send(());
        self.connected.send_replace(false);
        Some(moment)
    }
}
