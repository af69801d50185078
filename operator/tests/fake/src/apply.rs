//! Server-side apply: the managers of fields, and the removal of fields without managers.
//!
//! A field is the path to a value that is not an object. Lists are one value, except finalizers and
//! owner references, whose entries are fields of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::refusal::Refusal;
use crate::store::Key;

/// The path of a field: names from the top of an object.
pub type Path = Vec<String>;

/// The fields that each manager applied last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    applied: BTreeMap<Manager, BTreeSet<Path>>,
    updated: BTreeMap<Manager, BTreeSet<Path>>,
}

/// A field manager, and the subresource that it writes.
pub type Manager = (String, String);

/// The result of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object afterwards.
    pub object: Value,
    /// Its fields' managers afterwards.
    pub owners: Owners,
}

/// Whether fields of other managers may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They may.
    Yes,
    /// They may not, if the value differs.
    No,
}

/// What identifies the entries of a list that are fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    /// They are texts.
    Texts,
    /// They are objects with this field.
    By(&'static str),
}

/// Lists whose entries are fields.
const SETS: &[(&[&str], Entries)] = &[
    (&["metadata", "finalizers"], Entries::Texts),
    (&["metadata", "ownerReferences"], Entries::By("uid")),
];

/// Applies the fields of `manager`.
///
/// # Errors
/// If another manager has a different value and `force` is [`Force::No`].
pub fn apply(
    key: &Key,
    before: &Value,
    owners: &Owners,
    applied: &Value,
    manager: &Manager,
    force: Force,
) -> Result<Applied, Refusal> {
    let fields = fields_of(applied);
    let mut owners = owners.clone();
    let others = |owner: &&Manager| *owner != manager;
    let conflicts: BTreeSet<&str> = owners
        .all()
        .filter(|(owner, _)| others(owner))
        .flat_map(|(owner, theirs)| theirs.intersection(&fields).map(move |path| (owner, path)))
        .filter(|(_, path)| value_at(before, path) != value_at(applied, path))
        .map(|(owner, _)| owner.0.as_str())
        .collect();
    if !conflicts.is_empty() && force == Force::No {
        return Err(Refusal::conflict(
            key,
            format!("Apply failed with conflicts: fields of {conflicts:?}"),
        ));
    }
    if !conflicts.is_empty() {
        let taken: Vec<Path> = fields
            .iter()
            .filter(|path| value_at(before, path) != value_at(applied, path))
            .cloned()
            .collect();
        owners.forget(&taken, Some(manager));
    }
    let mut object = before.clone();
    merge(&mut object, applied, &mut Vec::new());
    let last = owners
        .applied
        .insert(manager.clone(), fields.clone())
        .unwrap_or_default();
    for path in last.difference(&fields) {
        if !owners.all().any(|(_, theirs)| theirs.contains(path)) {
            remove(&mut object, path);
        }
    }
    Ok(Applied { object, owners })
}

impl Owners {
    /// Records that `manager` changed `before` to `after` in another way than by applying.
    pub fn note_update(&mut self, before: &Value, after: &Value, manager: &Manager) {
        let (had, has) = (fields_of(before), fields_of(after));
        let changed: Vec<Path> = had
            .union(&has)
            .filter(|path| value_at(before, path) != value_at(after, path))
            .cloned()
            .collect();
        self.forget(&changed, None);
        let kept: BTreeSet<Path> = changed
            .into_iter()
            .filter(|path| has.contains(path))
            .collect();
        if !kept.is_empty() {
            self.updated
                .entry(manager.clone())
                .or_default()
                .extend(kept);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&Manager, &BTreeSet<Path>)> {
        self.applied.iter().chain(&self.updated)
    }

    fn forget(&mut self, paths: &[Path], but: Option<&Manager>) {
        for (owner, fields) in self.applied.iter_mut().chain(&mut self.updated) {
            if Some(owner) != but {
                fields.retain(|path| !paths.contains(path));
            }
        }
    }
}

/// Returns every field of an object, except those that identify it.
fn fields_of(object: &Value) -> BTreeSet<Path> {
    const NAMES: &[&[&str]] = &[
        &["apiVersion"],
        &["kind"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "uid"],
        &["metadata", "resourceVersion"],
        &["metadata", "generation"],
        &["metadata", "creationTimestamp"],
        &["metadata", "deletionTimestamp"],
    ];
    let mut fields = BTreeSet::new();
    collect(object, &mut Vec::new(), &mut fields);
    fields.retain(|path| {
        !NAMES
            .iter()
            .any(|name| path.iter().map(String::as_str).eq(name.iter().copied()))
    });
    fields
}

fn collect(value: &Value, path: &mut Path, fields: &mut BTreeSet<Path>) {
    if let Some(entries) = set_at(path) {
        for entry in value.as_array().into_iter().flatten() {
            fields.insert([&path[..], &[name_of(entry, entries)]].concat());
        }
    } else if let Some(members) = value.as_object() {
        for (name, value) in members {
            path.push(name.clone());
            collect(value, path, fields);
            path.pop();
        }
    } else {
        fields.insert(path.clone());
    }
}

fn set_at(path: &[String]) -> Option<Entries> {
    SETS.iter()
        .find(|(set, _)| path.iter().map(String::as_str).eq(set.iter().copied()))
        .map(|(_, entries)| *entries)
}

fn name_of(entry: &Value, entries: Entries) -> String {
    let name = match entries {
        Entries::Texts => entry,
        Entries::By(field) => &entry[field],
    };
    name.as_str()
        .map_or_else(|| name.to_string(), str::to_owned)
}

fn value_at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut value = object;
    for (depth, name) in path.iter().enumerate() {
        value = match set_at(&path[..depth]) {
            Some(entries) => value
                .as_array()?
                .iter()
                .find(|entry| name_of(entry, entries) == *name)?,
            None => value.get(name)?,
        };
    }
    Some(value)
}

fn merge(object: &mut Value, applied: &Value, path: &mut Path) {
    if let Some(entries) = set_at(path) {
        let old = object.as_array().cloned().unwrap_or_default();
        let new = applied.as_array().cloned().unwrap_or_default();
        let is_said = |entry: &Value| {
            new.iter()
                .any(|other| name_of(other, entries) == name_of(entry, entries))
        };
        let kept = old.into_iter().filter(|entry| !is_said(entry));
        *object = kept.chain(new.iter().cloned()).collect();
    } else if let Some(members) = applied.as_object() {
        if !object.is_object() {
            *object = Value::Object(Map::new());
        }
        for (name, value) in members {
            path.push(name.clone());
            merge(&mut object[name.as_str()], value, path);
            path.pop();
        }
    } else {
        *object = applied.clone();
    }
}

/// Removes a field, and every object and list that is empty then.
fn remove(object: &mut Value, path: &[String]) {
    fn take(value: &mut Value, path: &[String], depth: usize) {
        let Some(name) = path.get(depth) else { return };
        if let Some(entries) = set_at(&path[..depth]) {
            if let Some(list) = value.as_array_mut() {
                list.retain(|entry| name_of(entry, entries) != *name);
            }
            return;
        }
        let Some(members) = value.as_object_mut() else {
            return;
        };
        if depth + 1 == path.len() {
            members.remove(name);
        } else if let Some(inner) = members.get_mut(name) {
            take(inner, path, depth + 1);
            if *inner == json!({}) || *inner == json!([]) {
                members.remove(name);
            }
        }
    }
    take(object, path, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::NODE;

    fn key() -> Key {
        Key::new(NODE, "", "n")
    }

    fn manager(name: &str) -> Manager {
        (name.to_owned(), String::new())
    }

    fn apply_as(
        object: &Applied,
        applied: &Value,
        name: &str,
        force: Force,
    ) -> Result<Applied, Refusal> {
        apply(
            &key(),
            &object.object,
            &object.owners,
            applied,
            &manager(name),
            force,
        )
    }

    fn fresh(object: Value) -> Applied {
        let mut owners = Owners::default();
        owners.note_update(&json!({}), &object, &manager("kubelet"));
        Applied { object, owners }
    }

    #[test]
    fn field_that_is_not_applied_any_more_is_removed() {
        let node = fresh(json!({ "metadata": { "labels": { "host": "a" } } }));
        let node = apply_as(
            &node,
            &json!({ "metadata": { "labels": { "ready": "yes", "other": "1" } } }),
            "us",
            Force::No,
        )
        .unwrap();
        assert_eq!(
            node.object,
            json!({ "metadata": { "labels": { "host": "a", "ready": "yes", "other": "1" } } })
        );
        let node = apply_as(
            &node,
            &json!({ "metadata": { "labels": { "other": "1" } } }),
            "us",
            Force::No,
        )
        .unwrap();
        assert_eq!(
            node.object,
            json!({ "metadata": { "labels": { "host": "a", "other": "1" } } })
        );
        let node = apply_as(&node, &json!({}), "us", Force::No).unwrap();
        assert_eq!(
            node.object,
            json!({ "metadata": { "labels": { "host": "a" } } })
        );
    }

    #[test]
    fn field_of_another_manager_is_taken_over_only_by_force() {
        let node = fresh(json!({ "spec": { "x": 1 } }));
        let refused = apply_as(&node, &json!({ "spec": { "x": 2 } }), "us", Force::No).unwrap_err();
        assert_eq!((refused.code, refused.reason), (409, "Conflict"));
        assert!(apply_as(&node, &json!({ "spec": { "x": 1 } }), "us", Force::No).is_ok());
        let node = apply_as(&node, &json!({ "spec": { "x": 2 } }), "us", Force::Yes).unwrap();
        assert_eq!(node.object["spec"]["x"], 2);
        assert_eq!(
            apply_as(&node, &json!({}), "us", Force::No).unwrap().object,
            json!({})
        );
    }

    #[test]
    fn field_of_two_managers_stays_until_both_stop_applying_it() {
        let node = fresh(json!({}));
        let applied = json!({ "metadata": { "finalizers": ["a/b"] } });
        let node = apply_as(&node, &applied, "one", Force::No).unwrap();
        let node = apply_as(&node, &applied, "two", Force::No).unwrap();
        let node = apply_as(&node, &json!({}), "one", Force::No).unwrap();
        assert_eq!(node.object, applied);
        assert_eq!(
            apply_as(&node, &json!({}), "two", Force::No)
                .unwrap()
                .object,
            json!({})
        );
    }

    #[test]
    fn lists_are_one_value_but_finalizers_are_many() {
        let node = fresh(json!({ "metadata": { "finalizers": ["kube/a"] },
                "spec": { "taints": [{ "key": "a" }] } }));
        let applied = json!({ "metadata": { "finalizers": ["ours/b"] },
            "spec": { "taints": [{ "key": "b" }] } });
        let node = apply_as(&node, &applied, "us", Force::Yes).unwrap();
        assert_eq!(
            node.object["metadata"]["finalizers"],
            json!(["kube/a", "ours/b"])
        );
        assert_eq!(node.object["spec"]["taints"], json!([{ "key": "b" }]));
    }
}
