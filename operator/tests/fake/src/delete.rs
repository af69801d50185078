//! The deletion of objects: preconditions, finalizers, and the garbage collection of owned objects.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::resource::{self, Resource};
use crate::rules;
use crate::store::{Key, Store, owner_uids};
use crate::write::{DryRun, Writer, text};

/// What happens to the objects that a deleted object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without owner.
    Orphan,
}

const FOREGROUND: &str = "foregroundDeletion";

impl Store {
    /// Deletes an object: at once, or when its finalizers are gone.
    ///
    /// # Errors
    /// If it does not exist, or was replaced.
    pub fn delete(
        &mut self,
        key: &Key,
        options: &Value,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Arc<Value>, Refusal> {
        let stored = self
            .stored(key)
            .cloned()
            .ok_or_else(|| Refusal::not_found(key))?;
        for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = options["preconditions"][field].as_str();
            let found = text(&stored.object, field);
            if wanted.is_some_and(|wanted| Some(wanted) != found) {
                let why = format!(
                    "Precondition failed: {name} in precondition: {wanted:?}, {name} in object \
                     meta: {found:?}"
                );
                return Err(Refusal::conflict(key, why));
            }
        }
        if dry_run == DryRun::Yes {
            return Ok(stored.object);
        }
        let propagation = propagation(key.resource, options);
        if propagation == Propagation::Orphan {
            self.orphan_dependents(&stored.object, &writer.by);
        }
        let mut finalizers: Vec<String> = rules::finalizers(&stored.object)
            .into_iter()
            .map(str::to_owned)
            .collect();
        if propagation == Propagation::Foreground && !self.dependents(&stored.object).is_empty() {
            finalizers.push(FOREGROUND.to_owned());
        }
        if finalizers.is_empty() {
            return Ok(self.end(key, Value::clone(&stored.object), &writer.by));
        }
        if text(&stored.object, "deletionTimestamp").is_some() {
            return Ok(stored.object);
        }
        let mut object = Value::clone(&stored.object);
        let metadata = &mut object["metadata"];
        metadata["deletionTimestamp"] = self.clock.text().into();
        metadata["deletionGracePeriodSeconds"] = 0.into();
        metadata["finalizers"] = finalizers.into();
        if let Some(generation) = metadata["generation"].as_i64() {
            metadata["generation"] = (generation + 1).into();
        }
        let object = self.commit(key, object, stored.owners, &writer.by);
        if propagation == Propagation::Foreground {
            self.delete_dependents(&object);
        }
        Ok(object)
    }

    /// Removes an object, whose last state is `last`, and the objects that it owns.
    pub(crate) fn end(&mut self, key: &Key, last: Value, by: &Arc<str>) -> Arc<Value> {
        let object = self.commit_end(key, last, by);
        self.delete_dependents(&object);
        self.release_owners(&object);
        object
    }

    fn dependents(&self, owner: &Value) -> Vec<(Key, Arc<Value>)> {
        text(owner, "uid")
            .map(|uid| self.owned_by(uid))
            .unwrap_or_default()
    }

    /// Collects garbage: deletes objects whose owners are all gone.
    fn delete_dependents(&mut self, owner: &Value) {
        let collector = Writer {
            by: "garbage-collector".into(),
            manager: "kube-controller-manager".to_owned(),
            subresource: String::new(),
        };
        for (key, object) in self.dependents(owner) {
            let others = owner_uids(&object)
                .into_iter()
                .any(|uid| Some(uid) != text(owner, "uid"));
            if !others && self.stored(&key).is_some() {
                let options = json!({ "propagationPolicy": "Background" });
                self.delete(&key, &options, &collector, DryRun::No)
                    .expect("the object exists, and there are no preconditions");
            }
        }
    }

    fn orphan_dependents(&mut self, owner: &Value, by: &Arc<str>) {
        for (key, _) in self.dependents(owner) {
            let forget = |object: &mut Value| {
                if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|other| other["uid"].as_str() != text(owner, "uid"));
                }
            };
            self.edit(&key, forget, by)
                .expect("a dependent that was found");
        }
    }

    /// Removes owners that waited only for this object.
    fn release_owners(&mut self, gone: &Value) {
        let collector: Arc<str> = "garbage-collector".into();
        for uid in owner_uids(gone) {
            let owner = self
                .with_uid(uid)
                .filter(|(_, object)| rules::finalizers(object).contains(&FOREGROUND));
            let Some((key, object)) = owner else { continue };
            if !self.dependents(&object).is_empty() {
                continue;
            }
            let mut object = Value::clone(&object);
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != FOREGROUND);
            }
            if rules::finalizers(&object).is_empty() {
                self.end(&key, object, &collector);
            } else {
                self.edit(&key, |stored| *stored = object, &collector)
                    .expect("an owner that was found");
            }
        }
    }
}

fn propagation(resource: Resource, options: &Value) -> Propagation {
    match options["propagationPolicy"].as_str() {
        Some("Background") => Propagation::Background,
        Some("Foreground") => Propagation::Foreground,
        Some("Orphan") => Propagation::Orphan,
        // Only Jobs have this default, from an early version of their API.
        _ if resource == resource::JOB => Propagation::Orphan,
        _ => Propagation::Background,
    }
}
