//! Validation, limited to the rules of Kubernetes that our clients could violate.

use serde_json::Value;

use crate::refusal::Refusal;
use crate::resource::{self, Scope};
use crate::store::Key;

/// Validates a new object.
///
/// # Errors
/// If it is not valid.
pub fn check_new(key: &Key, object: &Value) -> Result<(), Refusal> {
    if let Scope::Namespaced = key.resource.scope
        && key.namespace.is_empty()
    {
        return Err(Refusal::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    // A Job's pods carry its name in a label.
    let longest = if key.resource == resource::JOB {
        63
    } else {
        253
    };
    let name = &key.name;
    let letters = name.chars().all(|letter| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter)
    });
    let ends = [name.chars().next(), name.chars().next_back()]
        .into_iter()
        .flatten()
        .all(|letter| letter.is_ascii_alphanumeric());
    if name.is_empty() || name.len() > longest || !letters || !ends {
        return Err(Refusal::invalid(
            key,
            format!("metadata.name: Invalid value: {name:?}"),
        ));
    }
    if key.resource == resource::EVENT {
        check_event(key, object)?;
    }
    check(key, object)
}

/// Validates a change of an object.
///
/// # Errors
/// If it is not valid.
pub fn check_change(key: &Key, before: &Value, after: &Value) -> Result<(), Refusal> {
    for pointer in key.resource.immutable {
        if before.pointer(pointer).is_some() && before.pointer(pointer) != after.pointer(pointer) {
            return Err(Refusal::invalid(
                key,
                format!(
                    "{}: field is immutable",
                    pointer.trim_start_matches('/').replace('/', ".")
                ),
            ));
        }
    }
    if before["metadata"].get("deletionTimestamp").is_some() {
        let had = finalizers(before);
        if let Some(added) = finalizers(after)
            .into_iter()
            .find(|finalizer| !had.contains(finalizer))
        {
            let why = "metadata.finalizers: Forbidden: no new finalizers can be added if the \
                       object is being deleted";
            return Err(Refusal::invalid(
                key,
                format!("{why}, found new finalizer {added:?}"),
            ));
        }
    }
    check(key, after)
}

/// Returns the finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn check(key: &Key, object: &Value) -> Result<(), Refusal> {
    let metadata = &object["metadata"];
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .ok_or_else(|| Refusal::bad_request(format!("the label {name} is not a string")))?;
        if !is_qualified(name) {
            return Err(Refusal::invalid(
                key,
                format!("metadata.labels: Invalid value: {name:?}"),
            ));
        }
        if !value.is_empty() && !is_word(value) {
            return Err(Refusal::invalid(
                key,
                format!("metadata.labels: Invalid value: {value:?}"),
            ));
        }
    }
    for (name, value) in metadata["annotations"].as_object().into_iter().flatten() {
        if !is_qualified(&name.to_lowercase()) {
            return Err(Refusal::invalid(
                key,
                format!("metadata.annotations: Invalid value: {name:?}"),
            ));
        }
        if !value.is_string() {
            return Err(Refusal::bad_request(format!(
                "the annotation {name} is not a string"
            )));
        }
    }
    if let Some(finalizer) = finalizers(object)
        .into_iter()
        .find(|finalizer| !is_qualified(finalizer))
    {
        return Err(Refusal::invalid(
            key,
            format!("metadata.finalizers: Invalid value: {finalizer:?}"),
        ));
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        if let Some(missing) = ["apiVersion", "kind", "name", "uid"]
            .into_iter()
            .find(|field| owner[*field].as_str().is_none_or(str::is_empty))
        {
            return Err(Refusal::invalid(
                key,
                format!("metadata.ownerReferences.{missing}: Required value"),
            ));
        }
    }
    Ok(())
}

/// Checks the namespace of an Event: that of its object, or `default` if the object has none.
fn check_event(key: &Key, object: &Value) -> Result<(), Refusal> {
    let about = object["regarding"]["namespace"]
        .as_str()
        .unwrap_or_default();
    let fits = if about.is_empty() {
        ["default", "kube-system"].contains(&key.namespace.as_str())
    } else {
        about == key.namespace
    };
    if !fits {
        return Err(Refusal::invalid(
            key,
            format!(
                "involvedObject.namespace: Invalid value: {about:?}: does not match event.namespace"
            ),
        ));
    }
    for (field, longest) in [
        ("action", 128),
        ("reason", 128),
        ("reportingController", 253),
        ("reportingInstance", 128),
        ("note", 1024),
    ] {
        let length = object[field].as_str().map_or(0, str::len);
        let optional = field == "note";
        if length > longest || (length == 0 && !optional) {
            return Err(Refusal::invalid(
                key,
                format!("{field}: Invalid value: {length} bytes, at most {longest}"),
            ));
        }
    }
    Ok(())
}

/// Whether this is `prefix/name` or a name.
fn is_qualified(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_word))
        && is_word(name)
}

/// Whether this has at most 63 letters and digits, and in the middle also `-_.`.
fn is_word(text: &str) -> bool {
    let ends = [text.chars().next(), text.chars().next_back()];
    text.len() <= 63
        && ends
            .iter()
            .all(|letter| letter.is_some_and(|letter| letter.is_ascii_alphanumeric()))
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}
