//! The server: a store behind the service that `kube::Client` uses, with one connection per client.

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

/// A fake Kubernetes API server. Its methods act at once, with the rules of [`Store`] only; clients
/// use [`Cluster::connect`].
#[derive(Debug, Clone)]
pub struct Cluster {
    store: Arc<Mutex<Store>>,
    calls: Arc<Mutex<Vec<Call>>>,
    clock: Clock,
}

/// The connection of a client.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    link: Arc<Link>,
}

/// The properties of a connection, and its planned cut.
#[derive(Debug)]
pub(crate) struct Link {
    name: Arc<str>,
    state: Mutex<LinkState>,
    connected: watch::Sender<bool>,
    epoch: watch::Sender<u64>,
}

#[derive(Debug)]
struct LinkState {
    faults: Faults,
    chance: Chance,
    writes: usize,
    cut: Option<(usize, Moment, oneshot::Sender<()>)>,
}

/// When a connection is cut at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the server has the request.
    Before,
    /// After the server executed it; the client gets no answer.
    After,
}

impl Cluster {
    /// Starts a server without objects.
    pub fn start() -> Self {
        let clock = Clock::start();
        Self {
            store: Arc::new(Mutex::new(Store::new(clock))),
            calls: Arc::default(),
            clock,
        }
    }

    /// Creates a connection with this name.
    pub fn connect(&self, name: &str) -> Connection {
        let link = Arc::new(Link {
            name: name.into(),
            state: Mutex::new(LinkState {
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
            link: link.clone(),
        };
        Connection {
            client: Client::new(front, "default"),
            link,
        }
    }

    /// Returns the server's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the objects.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store
            .lock()
            .expect("no test panics while it holds the store")
    }

    /// Returns every request until now.
    pub fn calls(&self) -> Vec<Call> {
        self.recorded().clone()
    }

    /// Drops the requests until now.
    pub fn forget_calls(&self) {
        self.recorded().clear();
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls
            .lock()
            .expect("nothing panics while it holds the calls")
    }

    /// Creates an object, of the kind that it names.
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

    /// Returns the object, if it exists.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.store().get(key).ok()
    }

    /// Returns every object of a kind.
    pub fn all(&self, resource: Resource) -> Vec<Arc<Value>> {
        self.store()
            .all(resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Changes an object without checking rules.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn edit(&self, key: &Key, change: impl FnOnce(&mut Value)) -> Result<Arc<Value>, Refusal> {
        self.store().edit(key, change, &writer().by)
    }

    /// Changes the spec of an object, like `kubectl edit`.
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

    /// Deletes an object in the background, like `kubectl delete`.
    ///
    /// # Errors
    /// As for a client.
    pub fn delete(&self, key: &Key) -> Result<Arc<Value>, Refusal> {
        let options = serde_json::json!({ "propagationPolicy": "Background" });
        self.store().delete(key, &options, &writer(), DryRun::No)
    }

    /// Returns a channel with every change from now on.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        self.store().subscribe()
    }

    /// Waits until `holds` succeeds.
    ///
    /// # Errors
    /// The last error of `holds` after `timeout`.
    pub async fn until(
        &self,
        timeout: Duration,
        mut holds: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let end = Instant::now() + timeout;
        let mut versions = self.store().versions();
        loop {
            versions.borrow_and_update();
            let Err(why) = holds() else { return Ok(()) };
            if Instant::now() >= end {
                return Err(format!("not after {} s: {why}", timeout.as_secs()));
            }
            // Some conditions are not in the store: check at intervals, too.
            let next = end.min(Instant::now() + Duration::from_secs(10));
            // Check in both cases.
            let _ = timeout_at(next, versions.changed()).await;
        }
    }

    /// Calls `observer` at every change from now on, before any client can see it. It must not use
    /// the cluster.
    pub fn observe(&self, observer: impl FnMut(&Change) + Send + 'static) {
        self.store().observe(observer);
    }
}

/// Returns the test as writer.
fn writer() -> Writer {
    Writer {
        by: "test".into(),
        manager: "test".to_owned(),
        subresource: String::new(),
    }
}

impl Connection {
    /// Creates a client with this connection.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sets the faults from now on; the default is a few milliseconds of latency.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.link.state();
        state.chance = Chance::new(faults.seed);
        state.faults = faults;
    }

    /// Cuts it: no request reaches the server, and no answer or event reaches the client.
    pub fn cut(&self) {
        self.link.connected.send_replace(false);
    }

    /// Restores it. Requests under way continue.
    pub fn restore(&self) {
        self.link.connected.send_replace(true);
    }

    /// Cuts it at the `n`th write from now on, the first being 1. The returned channel fires then.
    pub fn cut_at_write(&self, n: usize, moment: Moment) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.link.state();
        state.cut = Some((state.writes + n, moment, sender));
        receiver
    }

    /// Returns the number of writes until now.
    pub fn writes(&self) -> usize {
        self.link.state().writes
    }

    /// Ends every open watch.
    pub fn end_watches(&self) {
        self.link.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state
            .lock()
            .expect("nothing panics while it holds a link")
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Returns a random generator for concurrent work.
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
            .expect("the link itself holds the sender");
    }

    /// Counts a write. Returns when to cut the connection, if this is the write for it.
    fn count_write(&self) -> Option<Moment> {
        let mut state = self.state();
        state.writes += 1;
        let writes = state.writes;
        let (_, moment, sender) = state.cut.take_if(|(n, ..)| *n == writes)?;
        drop(state);
        // The receiver may be gone.
        let _ = sender.send(());
        self.connected.send_replace(false);
        Some(moment)
    }
}
