//! The objects and their history. All changes go through `commit` and `commit_end`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::apply::Owners;
use crate::clock::Clock;
use crate::refusal::Refusal;
use crate::resource::Resource;

/// Changes of a kind that are kept for watches that start later.
const MAX_HISTORY: usize = 250;

/// The key of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The new resource version.
    pub version: u64,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The object.
    pub key: Key,
    /// The object after the change, or its last state.
    pub object: Arc<Value>,
    /// The object before; none if it is new.
    pub before: Option<Arc<Value>>,
    /// The name of the connection.
    pub by: Arc<str>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed.
    Deleted,
}

/// A stored object.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The object that clients see.
    pub object: Arc<Value>,
    /// The managers of its fields.
    pub owners: Owners,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The version of the list.
    pub version: u64,
    /// The objects.
    pub items: Vec<Arc<Value>>,
    /// The continue token; none on the last page.
    pub next: Option<String>,
    /// Objects on later pages.
    pub remaining: usize,
}

/// A callback for every change, before clients see it.
type Observer = Box<dyn FnMut(&Change) + Send>;

/// All objects.
pub struct Store {
    pub(crate) clock: Clock,
    version: u64,
    identities: u64,
    objects: BTreeMap<Key, Stored>,
    /// The key of each object, by uid.
    places: BTreeMap<String, Key>,
    /// The keys of owned objects, by the owner's uid.
    owned: BTreeMap<String, BTreeSet<Key>>,
    history: BTreeMap<Resource, VecDeque<Change>>,
    /// The oldest version from which watches of a kind can start.
    forgotten: BTreeMap<Resource, u64>,
    pages: BTreeMap<String, (u64, Vec<Arc<Value>>)>,
    observers: Vec<Observer>,
    followers: Vec<mpsc::UnboundedSender<Change>>,
    versions: watch::Sender<u64>,
}

impl Store {
    /// Creates an empty store.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            // Versions do not start at 0, which has a special meaning.
            version: 100,
            identities: 0,
            objects: BTreeMap::new(),
            places: BTreeMap::new(),
            owned: BTreeMap::new(),
            history: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            pages: BTreeMap::new(),
            observers: Vec::new(),
            followers: Vec::new(),
            versions: watch::Sender::new(100),
        }
    }

    /// Returns the newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns a channel with the newest version.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    /// Calls `observer` at every change from now on, before clients see it.
    pub fn observe(&mut self, observer: impl FnMut(&Change) + Send + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Returns a channel with every change from now on.
    pub fn subscribe(&mut self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.followers.push(sender);
        receiver
    }

    /// Returns the object, if it exists.
    pub fn stored(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// Returns the object.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn get(&self, key: &Key) -> Result<Arc<Value>, Refusal> {
        self.stored(key)
            .map(|stored| stored.object.clone())
            .ok_or_else(|| Refusal::not_found(key))
    }

    /// Returns every object of a kind, in the order of names.
    pub fn all(&self, resource: Resource) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let first = Key {
            resource,
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.resource == resource)
            .map(|(key, stored)| (key, &stored.object))
    }

    /// Returns the object with this uid.
    pub fn with_uid(&self, uid: &str) -> Option<(Key, Arc<Value>)> {
        let key = self.places.get(uid)?;
        Some((key.clone(), self.get(key).ok()?))
    }

    /// Returns the objects that this uid owns.
    pub fn owned_by(&self, uid: &str) -> Vec<(Key, Arc<Value>)> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), self.get(key).ok()?)))
            .collect()
    }

    /// Returns the first page of a list.
    pub fn list(
        &mut self,
        resource: Resource,
        wanted: impl Fn(&Value) -> bool,
        limit: Option<usize>,
    ) -> Page {
        let items = self
            .all(resource)
            .filter(|(_, object)| wanted(object))
            .map(|(_, object)| object.clone())
            .collect();
        self.page(self.version, items, limit)
    }

    /// Returns the first page of an older list, as far back as the history goes.
    pub fn list_stale(
        &mut self,
        resource: Resource,
        wanted: impl Fn(&Value) -> bool,
        limit: Option<usize>,
        ago: u64,
    ) -> Page {
        let oldest = self.forgotten.get(&resource).copied().unwrap_or_default();
        let version = self.version.saturating_sub(ago).max(oldest);
        let mut then: BTreeMap<Key, Arc<Value>> = self
            .all(resource)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for change in self
            .history
            .get(&resource)
            .into_iter()
            .flatten()
            .rev()
            .take_while(|change| change.version > version)
        {
            match &change.before {
                Some(before) => then.insert(change.key.clone(), before.clone()),
                None => then.remove(&change.key),
            };
        }
        let items = then.into_values().filter(|object| wanted(object)).collect();
        self.page(version, items, limit)
    }

    /// Returns the next page of a list, at the version of the first.
    ///
    /// # Errors
    /// If the list has expired.
    pub fn list_on(&mut self, token: &str, limit: Option<usize>) -> Result<Page, Refusal> {
        let (version, items) = self.pages.remove(token).ok_or_else(Refusal::expired)?;
        Ok(self.page(version, items, limit))
    }

    fn page(&mut self, version: u64, mut items: Vec<Arc<Value>>, limit: Option<usize>) -> Page {
        let rest = limit
            .filter(|limit| *limit > 0 && *limit < items.len())
            .map(|limit| items.split_off(limit))
            .unwrap_or_default();
        let remaining = rest.len();
        let next = (remaining > 0).then(|| {
            let token = format!("{version}-{}", self.next_identity());
            self.pages.insert(token.clone(), (version, rest));
            token
        });
        Page {
            version,
            items,
            next,
            remaining,
        }
    }

    /// Returns the changes of a kind after a version.
    ///
    /// # Errors
    /// If the history starts later.
    pub fn changes_since(&self, resource: Resource, version: u64) -> Result<Vec<Change>, Refusal> {
        if version < self.forgotten.get(&resource).copied().unwrap_or_default() {
            return Err(Refusal::expired());
        }
        let newest_first = self.history.get(&resource).into_iter().flatten().rev();
        let mut changes: Vec<Change> = newest_first
            .take_while(|change| change.version > version)
            .cloned()
            .collect();
        changes.reverse();
        Ok(changes)
    }

    /// Drops the history, like a compaction: watches cannot resume, and lists cannot continue.
    pub fn compact(&mut self) {
        for (resource, changes) in &mut self.history {
            changes.clear();
            self.forgotten.insert(*resource, self.version);
        }
        self.pages.clear();
    }

    /// Drops every object of a kind without watch events, like expired Events in Kubernetes.
    pub fn forget_all(&mut self, resource: Resource) {
        self.objects.retain(|key, _| key.resource != resource);
        self.places.retain(|_, key| key.resource != resource);
        self.history.remove(&resource);
        self.forgotten.insert(resource, self.version);
    }

    /// Returns a new unique number.
    pub(crate) fn next_identity(&mut self) -> u64 {
        self.identities += 1;
        self.identities
    }

    /// Sets the field managers of an unchanged object.
    pub(crate) fn note_owners(&mut self, key: &Key, owners: Owners) {
        if let Some(stored) = self.objects.get_mut(key) {
            stored.owners = owners;
        }
    }

    /// Stores a new object or a new state.
    pub(crate) fn commit(
        &mut self,
        key: &Key,
        object: Value,
        owners: Owners,
        by: &Arc<str>,
    ) -> Arc<Value> {
        let object = self.stamp(object);
        self.unfile(key);
        self.file(key, &object);
        let before = self
            .objects
            .insert(
                key.clone(),
                Stored {
                    object: object.clone(),
                    owners,
                },
            )
            .map(|stored| stored.object);
        let kind = if before.is_some() {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        self.notify(Change {
            version: self.version,
            kind,
            key: key.clone(),
            object: object.clone(),
            before,
            by: by.clone(),
        });
        object
    }

    /// Removes an object, whose last state is `last`.
    pub(crate) fn commit_end(&mut self, key: &Key, last: Value, by: &Arc<str>) -> Arc<Value> {
        let object = self.stamp(last);
        self.unfile(key);
        let before = self.objects.remove(key).map(|stored| stored.object);
        let kind = ChangeKind::Deleted;
        self.notify(Change {
            version: self.version,
            kind,
            key: key.clone(),
            object: object.clone(),
            before,
            by: by.clone(),
        });
        object
    }

    fn file(&mut self, key: &Key, object: &Value) {
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.places.insert(uid.to_owned(), key.clone());
        }
        for owner in owner_uids(object) {
            self.owned
                .entry(owner.to_owned())
                .or_default()
                .insert(key.clone());
        }
    }

    fn unfile(&mut self, key: &Key) {
        let Some(object) = self.objects.get(key).map(|stored| stored.object.clone()) else {
            return;
        };
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.places.remove(uid);
        }
        for owner in owner_uids(&object) {
            let Some(keys) = self.owned.get_mut(owner) else {
                continue;
            };
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(owner);
            }
        }
    }

    fn stamp(&mut self, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Arc::new(object)
    }

    fn notify(&mut self, change: Change) {
        for observer in &mut self.observers {
            observer(&change);
        }
        self.followers
            .retain(|follower| follower.send(change.clone()).is_ok());
        let history = self.history.entry(change.key.resource).or_default();
        if history.len() == MAX_HISTORY
            && let Some(oldest) = history.pop_front()
        {
            self.forgotten.insert(change.key.resource, oldest.version);
        }
        history.push_back(change);
        self.versions.send_replace(self.version);
    }
}

/// Returns the uids of an object's owners.
pub(crate) fn owner_uids(object: &Value) -> Vec<&str> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|owner| owner["uid"].as_str())
        .collect()
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("version", &self.version)
            .field("objects", &self.objects.len())
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Creates the key of an object.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{}/{}", self.resource, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.resource, self.name),
        }
    }
}
