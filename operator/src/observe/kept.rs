//! What is kept of the objects of one kind, from watch events and from answers to writes.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// How many removed objects are remembered: more than there are events on their way.
const REMEMBERED: usize = 4096;

/// Whether what was said changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It does.
    Some,
    /// It was known, or does not matter.
    None,
}

/// Values of type `V`, each made of an object, by the objects' names.
#[derive(Debug)]
pub struct Kept<V> {
    values: BTreeMap<String, Entry<V>>,
    /// Set while a watch lists anew: what it does not name is gone.
    listed: Option<BTreeSet<String>>,
    complete: bool,
    /// Objects that we removed ourselves: late events about them are no news.
    removed: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry<V> {
    uid: String,
    version: Option<u64>,
    value: V,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            listed: None,
            complete: false,
            removed: BTreeSet::new(),
        }
    }
}

impl<V: PartialEq> Kept<V> {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.values.get(name).map(|entry| &entry.value)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.values.iter().map(|(name, entry)| (name, &entry.value))
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values().map(|entry| &entry.value)
    }

    /// Whether a watch has listed everything once.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes in an event of a watch.
    pub fn hear<K: Resource>(&mut self, event: Event<K>, value: impl Fn(K) -> V) -> Change {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Change::None
            }
            Event::InitApply(object) | Event::Apply(object) => self.put(object, value),
            Event::InitDone => self.end_of_list(),
            Event::Delete(object) => self.take(&object.name_any(), object.uid().as_deref()),
        }
    }

    /// Takes in an object that somebody, or we ourselves, wrote.
    pub fn put<K: Resource>(&mut self, object: K, value: impl Fn(K) -> V) -> Change {
        let (name, uid, version) = (
            object.name_any(),
            object.uid().unwrap_or_default(),
            version(&object),
        );
        if self.removed.contains(&uid) {
            return Change::None;
        }
        // What we write while a list is being told is not in it, and there all the same.
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

    /// Takes out an object that we removed: events about it that are still on their way are no
    /// news.
    pub fn remove(&mut self, name: &str) {
        if let Some(entry) = self.values.remove(name) {
            if self.removed.len() >= REMEMBERED {
                self.removed.pop_first();
            }
            self.removed.insert(entry.uid);
        }
    }

    fn take(&mut self, name: &str, uid: Option<&str>) -> Change {
        // The end of a former object of that name says nothing of the present one.
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

    fn end_of_list(&mut self) -> Change {
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

/// Resource versions are numbers that grow with each write, as Kubernetes promises since 1.35 and
/// etcd ever did.
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

    fn versions(kept: &Kept<String>) -> Vec<&str> {
        kept.values().map(String::as_str).collect()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is kept is made of an object that is given away"
    )]
    fn value(node: Node) -> String {
        node.resource_version().unwrap_or_default()
    }

    #[test]
    fn a_late_event_does_not_undo_what_we_wrote() {
        let mut kept = Kept::default();
        kept.hear(Event::Apply(node("a", "1", 5)), value);
        assert_eq!(kept.put(node("a", "1", 9), value), Change::Some);
        assert_eq!(
            kept.hear(Event::Apply(node("a", "1", 7)), value),
            Change::None
        );
        assert_eq!(versions(&kept), ["9"]);
    }

    #[test]
    fn a_later_object_of_the_same_name_is_another_one() {
        let mut kept = Kept::default();
        kept.put(node("a", "1", 9), value);
        kept.remove("a");
        assert_eq!(
            kept.hear(Event::Apply(node("a", "1", 8)), value),
            Change::None
        );
        assert_eq!(
            kept.hear(Event::Apply(node("a", "2", 12)), value),
            Change::Some
        );
        assert_eq!(
            kept.hear(Event::Delete(node("a", "1", 10)), value),
            Change::None
        );
        assert_eq!(versions(&kept), ["12"]);
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut kept = Kept::default();
        assert!(!kept.is_complete());
        for event in [
            Event::Init,
            Event::InitApply(node("a", "1", 1)),
            Event::InitApply(node("b", "2", 1)),
            Event::InitDone,
        ] {
            kept.hear(event, value);
        }
        assert!(kept.is_complete());
        kept.hear(Event::Init, value);
        kept.hear(Event::InitApply(node("b", "2", 1)), value);
        assert_eq!(kept.hear(Event::<Node>::InitDone, value), Change::Some);
        assert_eq!(versions(&kept), ["1"]);
    }
}
