//! The objects, and what changed in which order. `commit` and `commit_end` are where objects
//! change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::apply::Owners;
use crate::clock::Clock;
use crate::refusal::Refusal;
use crate::resource::Resource;

/// Changes of a kind that the server remembers for watches that start later.
const HISTORY: usize = 250;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace; empty where there are none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The resource version that it made.
    pub version: u64,
    /// What happened.
    pub happened: Happened,
    /// To which object.
    pub key: Key,
    /// The object afterwards, or as it last was.
    pub object: Arc<Value>,
    /// The object before; none if it is new.
    pub before: Option<Arc<Value>>,
    /// Who did it: the name of a connection.
    pub by: Arc<str>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// An object as the server keeps it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What clients see.
    pub object: Arc<Value>,
    /// Who said which of its fields.
    pub owners: Owners,
}

/// A page of a list, and what is to follow it.
#[derive(Debug)]
pub struct Page {
    /// The version that the whole list shows.
    pub version: u64,
    /// The objects.
    pub items: Vec<Arc<Value>>,
    /// What the next request has to say; none on the last page.
    pub next: Option<String>,
    /// Objects on later pages.
    pub remaining: usize,
}

/// Sees every change before anything else happens.
type Witness = Box<dyn FnMut(&Change) + Send>;

/// All objects.
pub struct Store {
    pub(crate) clock: Clock,
    version: u64,
    identities: u64,
    objects: BTreeMap<Key, Stored>,
    /// Where each object is, by its uid.
    places: BTreeMap<String, Key>,
    /// Where the objects are that one owns, by its uid.
    owned: BTreeMap<String, BTreeSet<Key>>,
    history: BTreeMap<Resource, VecDeque<Change>>,
    /// The newest version that watches of a kind cannot start before.
    forgotten: BTreeMap<Resource, u64>,
    pages: BTreeMap<String, (u64, Vec<Arc<Value>>)>,
    witnesses: Vec<Witness>,
    followers: Vec<mpsc::UnboundedSender<Change>>,
    news: watch::Sender<u64>,
}

impl Store {
    /// An empty one.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            // A new server's versions do not begin at 0 either, which has a meaning of its own.
            version: 100,
            identities: 0,
            objects: BTreeMap::new(),
            places: BTreeMap::new(),
            owned: BTreeMap::new(),
            history: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            pages: BTreeMap::new(),
            witnesses: Vec::new(),
            followers: Vec::new(),
            news: watch::Sender::new(100),
        }
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Tells of every new version.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Calls `witness` at every change from now on, before anybody else can see it.
    pub fn witness(&mut self, witness: impl FnMut(&Change) + Send + 'static) {
        self.witnesses.push(Box::new(witness));
    }

    /// Every change from now on.
    pub fn follow(&mut self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.followers.push(sender);
        receiver
    }

    /// The object, if there is one.
    pub fn stored(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// The object.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, key: &Key) -> Result<Arc<Value>, Refusal> {
        self.stored(key)
            .map(|stored| stored.object.clone())
            .ok_or_else(|| Refusal::not_found(key))
    }

    /// Every object of a kind, in the order of their names.
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

    /// The object with this uid.
    pub fn with_uid(&self, uid: &str) -> Option<(Key, Arc<Value>)> {
        let key = self.places.get(uid)?;
        Some((key.clone(), self.get(key).ok()?))
    }

    /// The objects that the one with this uid owns.
    pub fn owned_by(&self, uid: &str) -> Vec<(Key, Arc<Value>)> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), self.get(key).ok()?)))
            .collect()
    }

    /// A list's first page.
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

    /// A list's first page as it was some versions ago, as far back as the server remembers.
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

    /// A list's next page, which shows the same version as the first.
    ///
    /// # Errors
    /// When the server has forgotten the list.
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

    /// Changes of a kind after a version.
    ///
    /// # Errors
    /// When some of them are forgotten.
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

    /// Forgets every change until now, as a compaction does: watches cannot resume, lists cannot go
    /// on.
    pub fn compact(&mut self) {
        for (resource, changes) in &mut self.history {
            changes.clear();
            self.forgotten.insert(*resource, self.version);
        }
        self.pages.clear();
    }

    /// Forgets every object of a kind, as Kubernetes forgets Events after a while; no watch is
    /// told.
    pub fn forget_all(&mut self, resource: Resource) {
        self.objects.retain(|key, _| key.resource != resource);
        self.places.retain(|_, key| key.resource != resource);
        self.history.remove(&resource);
        self.forgotten.insert(resource, self.version);
    }

    /// A number that was never given before.
    pub(crate) fn next_identity(&mut self) -> u64 {
        self.identities += 1;
        self.identities
    }

    /// Notes who says which field, where no field changed.
    pub(crate) fn note_owners(&mut self, key: &Key, owners: Owners) {
        if let Some(stored) = self.objects.get_mut(key) {
            stored.owners = owners;
        }
    }

    /// Writes down a new object or another state of one.
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
        let happened = if before.is_some() {
            Happened::Modified
        } else {
            Happened::Added
        };
        self.tell(Change {
            version: self.version,
            happened,
            key: key.clone(),
            object: object.clone(),
            before,
            by: by.clone(),
        });
        object
    }

    /// Writes down that an object is gone, which was `last` at the end.
    pub(crate) fn commit_end(&mut self, key: &Key, last: Value, by: &Arc<str>) -> Arc<Value> {
        let object = self.stamp(last);
        self.unfile(key);
        let before = self.objects.remove(key).map(|stored| stored.object);
        let happened = Happened::Deleted;
        self.tell(Change {
            version: self.version,
            happened,
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

    fn tell(&mut self, change: Change) {
        for witness in &mut self.witnesses {
            witness(&change);
        }
        self.followers
            .retain(|follower| follower.send(change.clone()).is_ok());
        let history = self.history.entry(change.key.resource).or_default();
        if history.len() == HISTORY
            && let Some(oldest) = history.pop_front()
        {
            self.forgotten.insert(change.key.resource, oldest.version);
        }
        history.push_back(change);
        self.news.send_replace(self.version);
    }
}

/// The uids of an object's owners.
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
    /// Where an object of a kind is.
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
