//! The cache of the objects of one kind, from watch events and from answers to writes.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// Maximum number of remembered removed objects: more than there are events under way.
const MAX_REMOVED: usize = 4096;

/// Whether an event changes the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It does.
    Some,
    /// The value is the same, or the event is old.
    None,
}

/// Values of type `V`, each derived from an object, by the objects' names.
#[derive(Debug)]
pub struct Cache<V> {
    values: BTreeMap<String, Entry<V>>,
    /// Names in a list that is under way: objects that it does not name are gone.
    listed: Option<BTreeSet<String>>,
    complete: bool,
    /// Uids of objects that this operator removed: late events about them are ignored.
    removed: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry<V> {
    uid: String,
    version: Option<u64>,
    value: V,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            listed: None,
            complete: false,
            removed: BTreeSet::new(),
        }
    }
}

impl<V: PartialEq> Cache<V> {
    /// Returns the value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.values.get(name).map(|entry| &entry.value)
    }

    /// Returns names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.values.iter().map(|(name, entry)| (name, &entry.value))
    }

    /// Returns the values, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values().map(|entry| &entry.value)
    }

    /// Whether the watch has listed all objects once.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Applies a watch event.
    pub fn apply_event<K: Resource>(&mut self, event: Event<K>, value: impl Fn(K) -> V) -> Change {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Change::None
            }
            Event::InitApply(object) | Event::Apply(object) => self.put(object, value),
            Event::InitDone => self.finish_list(),
            Event::Delete(object) => self.apply_delete(&object.name_any(), object.uid().as_deref()),
        }
    }

    /// Stores an object that was written, by this operator or another client.
    pub fn put<K: Resource>(&mut self, object: K, value: impl Fn(K) -> V) -> Change {
        let (name, uid, version) = (
            object.name_any(),
            object.uid().unwrap_or_default(),
            version(&object),
        );
        if self.removed.contains(&uid) {
            return Change::None;
        }
        // An object that this operator writes during a list is not in the list, and exists.
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let known = self.values.get(&name).filter(|entry| entry.uid == uid);
        if known.is_some_and(|entry| entry.version.is_some() && version < entry.version) {
            return Change::None;
        }
        let entry = Entry {
            uid,
            version,
            value: value(object),
        };
        let change = if known.is_some_and(|known| known.value == entry.value) {
            Change::None
        } else {
            Change::Some
        };
        self.values.insert(name, entry);
        change
    }

    /// Removes an object that this operator deleted: later events about it are ignored.
    pub fn remove(&mut self, name: &str) {
        if let Some(entry) = self.values.remove(name) {
            if self.removed.len() >= MAX_REMOVED {
                self.removed.pop_first();
            }
            self.removed.insert(entry.uid);
        }
    }

    fn apply_delete(&mut self, name: &str, uid: Option<&str>) -> Change {
        // The deletion of an earlier object of that name does not concern the present one.
        if self
            .values
            .get(name)
            .is_none_or(|entry| uid.is_some_and(|uid| entry.uid != uid))
        {
            return Change::None;
        }
        self.values.remove(name);
        Change::Some
    }

    fn finish_list(&mut self) -> Change {
        let first = !std::mem::replace(&mut self.complete, true);
        let listed = self.listed.take().unwrap_or_default();
        let before = self.values.len();
        self.values.retain(|name, _| listed.contains(name));
        if first || self.values.len() != before {
            Change::Some
        } else {
            Change::None
        }
    }
}

/// Returns the resource version: a number that grows with each write, which Kubernetes guarantees
/// since 1.35 and etcd always provided.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn node(name: &str, uid: &str, version: u64) -> Node {
        let text = serde_json::json!({ "metadata": { "name": name, "uid": uid,
            "resourceVersion": version.to_string() } });
        serde_json::from_value(text).unwrap()
    }

    fn versions(cache: &Cache<String>) -> Vec<&str> {
        cache.values().map(String::as_str).collect()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "the value is derived from an owned object"
    )]
    fn value(node: Node) -> String {
        node.resource_version().unwrap_or_default()
    }

    #[test]
    fn late_event_does_not_replace_own_write() {
        let mut cache = Cache::default();
        cache.apply_event(Event::Apply(node("a", "1", 5)), value);
        assert_eq!(cache.put(node("a", "1", 9), value), Change::Some);
        assert_eq!(
            cache.apply_event(Event::Apply(node("a", "1", 7)), value),
            Change::None
        );
        assert_eq!(versions(&cache), ["9"]);
    }

    #[test]
    fn later_object_of_same_name_is_another_one() {
        let mut cache = Cache::default();
        cache.put(node("a", "1", 9), value);
        cache.remove("a");
        assert_eq!(
            cache.apply_event(Event::Apply(node("a", "1", 8)), value),
            Change::None
        );
        assert_eq!(
            cache.apply_event(Event::Apply(node("a", "2", 12)), value),
            Change::Some
        );
        assert_eq!(
            cache.apply_event(Event::Delete(node("a", "1", 10)), value),
            Change::None
        );
        assert_eq!(versions(&cache), ["12"]);
    }

    #[test]
    fn object_that_new_list_does_not_name_is_gone() {
        let mut cache = Cache::default();
        assert!(!cache.is_complete());
        for event in [
            Event::Init,
            Event::InitApply(node("a", "1", 1)),
            Event::InitApply(node("b", "2", 1)),
            Event::InitDone,
        ] {
            cache.apply_event(event, value);
        }
        assert!(cache.is_complete());
        cache.apply_event(Event::Init, value);
        cache.apply_event(Event::InitApply(node("b", "2", 1)), value);
        assert_eq!(
            cache.apply_event(Event::<Node>::InitDone, value),
            Change::Some
        );
        assert_eq!(versions(&cache), ["1"]);
    }
}
