//! The creation and change of objects: versions, preconditions, and fields that clients cannot
//! change.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apply::{self, Force, Owners};
use crate::refusal::Refusal;
use crate::resource::{Generation, Status};
use crate::rules;
use crate::store::{Key, Store, Stored};

/// The writer of a change.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The name of the connection.
    pub by: Arc<str>,
    /// The field manager.
    pub manager: String,
    /// The subresource that is written; empty for the object itself.
    pub subresource: String,
}

/// A patch.
#[derive(Debug, Clone)]
pub enum Patch {
    /// Merge patch, RFC 7396. A strategic merge patch is treated as one.
    Merge(Value),
    /// JSON patch, RFC 6902.
    Json(json_patch::Patch),
    /// Server-side apply.
    Apply(Value, Force),
}

/// Whether a write is only a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// It is not.
    Yes,
    /// It is.
    No,
}

/// The result of a write.
#[derive(Debug, Clone)]
pub enum Written {
    /// A new object.
    Created(Arc<Value>),
    /// A new state of an object, or the same.
    Changed(Arc<Value>),
}

impl Store {
    /// Creates an object.
    ///
    /// # Errors
    /// If it exists, or is not valid.
    pub fn create(
        &mut self,
        key: &Key,
        object: Value,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Arc<Value>, Refusal> {
        let mut owners = Owners::default();
        owners.note_update(
            &json!({}),
            &object,
            &(writer.manager.clone(), writer.subresource.clone()),
        );
        self.create_owned(key, object, owners, writer, dry_run)
    }

    fn create_owned(
        &mut self,
        key: &Key,
        mut object: Value,
        owners: Owners,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Arc<Value>, Refusal> {
        if self.stored(key).is_some() {
            return Err(Refusal::exists(key));
        }
        if object["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|version| !version.is_empty())
        {
            return Err(Refusal::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if key.resource.status == Status::Subresource {
            remove(&mut object, "status");
        }
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.clone().into();
        if !key.namespace.is_empty() {
            metadata["namespace"] = key.namespace.clone().into();
        }
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.next_identity()).into();
        metadata["creationTimestamp"] = self.clock.text().into();
        remove(metadata, "deletionTimestamp");
        if key.resource.generation == Generation::Counted {
            metadata["generation"] = 1.into();
        }
        object["apiVersion"] = key.resource.api_version().into();
        object["kind"] = key.resource.kind.into();
        rules::check_new(key, &object)?;
        if dry_run == DryRun::Yes {
            return Ok(Arc::new(object));
        }
        Ok(self.commit(key, object, owners, &writer.by))
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// If it was replaced or changed, or is not valid.
    pub fn update(
        &mut self,
        key: &Key,
        object: Value,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Arc<Value>, Refusal> {
        let stored = self
            .stored(key)
            .cloned()
            .ok_or_else(|| Refusal::not_found(key))?;
        if let Some(uid) = text(&object, "uid")
            && Some(uid) != text(&stored.object, "uid")
        {
            return Err(Refusal::conflict(
                key,
                format!("Precondition failed: UID in precondition: {uid}"),
            ));
        }
        check_version(key, &stored.object, &object)?;
        let mut owners = stored.owners.clone();
        let after = settle(key, &stored.object, object, writer)?;
        owners.note_update(
            &stored.object,
            &after,
            &(writer.manager.clone(), writer.subresource.clone()),
        );
        self.settle_and_commit(key, &stored, after, owners, writer, dry_run)
    }

    /// Changes an object; an apply creates it if it does not exist.
    ///
    /// # Errors
    /// If it was replaced or changed, the patch does not apply, or the result is not valid.
    pub fn patch(
        &mut self,
        key: &Key,
        patch: Patch,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Written, Refusal> {
        let manager = (writer.manager.clone(), writer.subresource.clone());
        let Some(stored) = self.stored(key).cloned() else {
            let Patch::Apply(applied, force) = patch else {
                return Err(Refusal::not_found(key));
            };
            return self.apply_new(key, &applied, force, writer, dry_run);
        };
        let (after, owners) = match patch {
            Patch::Apply(applied, force) => {
                check_applied(&applied, key)?;
                check_uid(key, &stored.object, &applied)?;
                check_version(key, &stored.object, &applied)?;
                let applied = apply::apply(
                    key,
                    &stored.object,
                    &stored.owners,
                    &applied,
                    &manager,
                    force,
                )?;
                (
                    settle(key, &stored.object, applied.object, writer)?,
                    applied.owners,
                )
            }
            Patch::Merge(patch) => {
                let mut after = Value::clone(&stored.object);
                json_patch::merge(&mut after, &patch);
                after_patch(key, &stored, after, writer)?
            }
            Patch::Json(patch) => {
                let mut after = Value::clone(&stored.object);
                apply_json_patch(&mut after, &patch)?;
                after_patch(key, &stored, after, writer)?
            }
        };
        self.settle_and_commit(key, &stored, after, owners, writer, dry_run)
            .map(Written::Changed)
    }

    fn apply_new(
        &mut self,
        key: &Key,
        applied: &Value,
        force: Force,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Written, Refusal> {
        check_applied(applied, key)?;
        if !writer.subresource.is_empty() {
            return Err(Refusal::not_found(key));
        }
        if let Some(uid) = text(applied, "uid") {
            return Err(Refusal::conflict(
                key,
                format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object \
                     was found"
                ),
            ));
        }
        if text(applied, "resourceVersion").is_some() {
            return Err(Refusal::not_found(key));
        }
        let manager = (writer.manager.clone(), String::new());
        let applied = apply::apply(
            key,
            &json!({ "metadata": {} }),
            &Owners::default(),
            applied,
            &manager,
            force,
        )?;
        self.create_owned(key, applied.object, applied.owners, writer, dry_run)
            .map(Written::Created)
    }

    fn settle_and_commit(
        &mut self,
        key: &Key,
        stored: &Stored,
        after: Value,
        owners: Owners,
        writer: &Writer,
        dry_run: DryRun,
    ) -> Result<Arc<Value>, Refusal> {
        rules::check_change(key, &stored.object, &after)?;
        if dry_run == DryRun::Yes {
            return Ok(Arc::new(after));
        }
        // The managers may change without a change of the object: that is not an event.
        if after == *stored.object {
            self.note_owners(key, owners);
            return Ok(stored.object.clone());
        }
        let ends =
            text(&after, "deletionTimestamp").is_some() && rules::finalizers(&after).is_empty();
        if ends {
            return Ok(self.end(key, after, &writer.by));
        }
        Ok(self.commit(key, after, owners, &writer.by))
    }

    /// Changes an object without checking rules.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn edit(
        &mut self,
        key: &Key,
        change: impl FnOnce(&mut Value),
        by: &Arc<str>,
    ) -> Result<Arc<Value>, Refusal> {
        let stored = self
            .stored(key)
            .cloned()
            .ok_or_else(|| Refusal::not_found(key))?;
        let mut object = Value::clone(&stored.object);
        change(&mut object);
        if object == *stored.object {
            return Ok(stored.object);
        }
        Ok(self.commit(key, object, stored.owners, by))
    }
}

fn after_patch(
    key: &Key,
    stored: &Stored,
    after: Value,
    writer: &Writer,
) -> Result<(Value, Owners), Refusal> {
    check_uid(key, &stored.object, &after)?;
    check_version(key, &stored.object, &after)?;
    let after = settle(key, &stored.object, after, writer)?;
    let mut owners = stored.owners.clone();
    owners.note_update(
        &stored.object,
        &after,
        &(writer.manager.clone(), writer.subresource.clone()),
    );
    Ok((after, owners))
}

/// Returns the object as the server stores it: fields that clients cannot change keep their values.
fn settle(key: &Key, before: &Value, mut after: Value, writer: &Writer) -> Result<Value, Refusal> {
    let status = key.resource.status != Status::Plain;
    if writer.subresource == "status" {
        let mut object = before.clone();
        match after.get_mut("status") {
            Some(status) => object["status"] = status.take(),
            None => remove(&mut object, "status"),
        }
        return Ok(object);
    }
    if !after["metadata"].is_object() {
        return Err(Refusal::bad_request("the object has no metadata"));
    }
    if text(&after, "name").is_some_and(|name| name != key.name) {
        return Err(Refusal::bad_request(
            "the name of the object does not match the name on the URL",
        ));
    }
    let fixed = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in fixed {
        restore(&mut after["metadata"], &before["metadata"], field);
    }
    for field in ["apiVersion", "kind"] {
        restore(&mut after, before, field);
    }
    if status {
        restore(&mut after, before, "status");
    }
    for field in ["finalizers", "ownerReferences", "labels", "annotations"] {
        let metadata = &mut after["metadata"];
        if metadata
            .get(field)
            .is_some_and(|value| value.is_null() || *value == json!([]) || *value == json!({}))
        {
            remove(metadata, field);
        }
    }
    if key.resource.generation == Generation::Counted
        && generation_fields(before) != generation_fields(&after)
    {
        after["metadata"]["generation"] = (before["metadata"]["generation"]
            .as_i64()
            .unwrap_or_default()
            + 1)
        .into();
    }
    Ok(after)
}

/// Returns the fields that the generation counts.
fn generation_fields(object: &Value) -> Value {
    let mut object = object.clone();
    remove(&mut object, "metadata");
    remove(&mut object, "status");
    object
}

/// Applies a JSON patch like Kubernetes: a missing field passes a test for null.
fn apply_json_patch(object: &mut Value, patch: &json_patch::Patch) -> Result<(), Refusal> {
    for operation in &patch.0 {
        if let json_patch::PatchOperation::Test(test) = operation
            && test.value.is_null()
            && object.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(object, std::slice::from_ref(operation))
            .map_err(|_| Refusal::unfit_patch())?;
    }
    Ok(())
}

fn check_applied(applied: &Value, key: &Key) -> Result<(), Refusal> {
    if applied["metadata"]
        .get("managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    let names = (applied["apiVersion"].as_str(), applied["kind"].as_str());
    if names != (Some(&key.resource.api_version()), Some(key.resource.kind)) {
        return Err(Refusal::bad_request(format!(
            "apiVersion and kind must be set and fit the path, not {names:?}"
        )));
    }
    Ok(())
}

fn check_version(key: &Key, before: &Value, sent: &Value) -> Result<(), Refusal> {
    let wanted = text(sent, "resourceVersion");
    if wanted
        .is_some_and(|wanted| !wanted.is_empty() && Some(wanted) != text(before, "resourceVersion"))
    {
        return Err(Refusal::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try \
             again",
        ));
    }
    Ok(())
}

fn check_uid(key: &Key, before: &Value, sent: &Value) -> Result<(), Refusal> {
    if text(sent, "uid").is_some_and(|uid| Some(uid) != text(before, "uid")) {
        return Err(Refusal::invalid(key, "metadata.uid: field is immutable"));
    }
    Ok(())
}

/// Returns a string of an object's metadata.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object["metadata"][field].as_str()
}

fn remove(object: &mut Value, field: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(field);
    }
}

fn restore(object: &mut Value, before: &Value, field: &str) {
    match before.get(field) {
        Some(value) => object[field] = value.clone(),
        None => remove(object, field),
    }
}
