//! The RuntimeClass that pods name: as the spec wants it, whose one is, and how one that was there
//! before is put back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::api::node::v1::{Overhead, RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::quantity;
use crate::crd::WasmRuntime;
use crate::names;

/// Labels of ours that a RuntimeClass has.
const OWN_LABELS: [&str; 2] = [names::MANAGED_BY, names::RUNTIME_LABEL];

/// What a RuntimeClass was before it was taken over; kept in an annotation of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginalClass {
    /// Where its pods might run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// What its pods took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Overhead>,
    /// What it had for labels that are ours now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What becomes of a RuntimeClass when its runtime goes.
#[derive(Debug, Clone, PartialEq)]
pub enum RemovalAction {
    /// It goes too.
    Delete,
    /// It was there before, and becomes this again.
    Restore(Box<RuntimeClass>),
}

/// The RuntimeClass as the runtime's spec wants it. It selects nodes by readiness, not by pool:
/// pods land only where the runtime was seen to work.
pub fn desired(runtime: &WasmRuntime) -> RuntimeClass {
    let name = runtime.name_any();
    let spec = &runtime.spec.runtime_class;
    RuntimeClass {
        metadata: ObjectMeta {
            name: Some(spec.name.clone()),
            labels: Some(BTreeMap::from([
                (names::MANAGED_BY.to_owned(), names::MANAGER.to_owned()),
                (names::RUNTIME_LABEL.to_owned(), name.clone()),
            ])),
            ..ObjectMeta::default()
        },
        handler: spec.handler.clone(),
        overhead: (!spec.overhead.is_empty()).then(|| Overhead {
            pod_fixed: Some(spec.overhead.clone()),
        }),
        scheduling: Some(Scheduling {
            node_selector: Some(BTreeMap::from([(
                names::ready_label(&name),
                names::READY.to_owned(),
            )])),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        }),
    }
}

/// Whether a RuntimeClass was made, or taken over, for the runtime of this name.
pub fn is_ours(class: &RuntimeClass, runtime: &str) -> bool {
    let label = |key: &str| class.labels().get(key).map(String::as_str);
    label(names::MANAGED_BY) == Some(names::MANAGER) && label(names::RUNTIME_LABEL) == Some(runtime)
}

/// Whether a RuntimeClass is as `desired`, however its texts are written. What else stands in its
/// metadata is not ours.
pub fn matches(desired: &RuntimeClass, found: &RuntimeClass) -> bool {
    let has_labels = OWN_LABELS
        .iter()
        .all(|key| found.labels().get(*key) == desired.labels().get(*key));
    has_labels
        && found.handler == desired.handler
        && same_overhead(desired, found)
        && same_scheduling(desired, found)
}

/// `found` with all that `desired` says, and a note of what it was if it was somebody else's.
/// Everything else of it stays.
pub fn changed(desired: &RuntimeClass, found: &RuntimeClass, runtime: &str) -> RuntimeClass {
    let mut class = found.clone();
    if !is_ours(found, runtime) {
        let former = serde_json::to_string(&OriginalClass::of(found))
            .expect("a RuntimeClass was read from JSON");
        class
            .annotations_mut()
            .insert(names::ADOPTED_ANNOTATION.to_owned(), former);
    }
    class.labels_mut().extend(desired.labels().clone());
    class.overhead.clone_from(&desired.overhead);
    class.scheduling.clone_from(&desired.scheduling);
    class
}

/// What becomes of `found`, which is ours, when its runtime goes.
///
/// # Errors
/// When the note of what it was cannot be read.
pub fn removal_action(found: &RuntimeClass) -> Result<RemovalAction, serde_json::Error> {
    let Some(note) = found.annotations().get(names::ADOPTED_ANNOTATION) else {
        return Ok(RemovalAction::Delete);
    };
    let OriginalClass {
        scheduling,
        overhead,
        labels,
    } = serde_json::from_str(note)?;
    let mut class = found.clone();
    class.annotations_mut().remove(names::ADOPTED_ANNOTATION);
    for key in OWN_LABELS {
        class.labels_mut().remove(key);
    }
    class.labels_mut().extend(labels);
    class.scheduling = scheduling;
    class.overhead = overhead;
    Ok(RemovalAction::Restore(Box::new(class)))
}

/// Whose a RuntimeClass is that is not ours, as far as it tells.
pub fn owner(class: &RuntimeClass) -> String {
    if let Some(runtime) = class.labels().get(names::RUNTIME_LABEL) {
        return format!("WasmRuntime {runtime}");
    }
    let release = class
        .annotations()
        .get("meta.helm.sh/release-name")
        .map(|release| format!("the Helm release {release}"));
    let manager = || class.labels().get(names::MANAGED_BY).cloned();
    let writer = || {
        class
            .managed_fields()
            .first()
            .and_then(|entry| entry.manager.clone())
    };
    release
        .or_else(manager)
        .or_else(writer)
        .unwrap_or_else(|| "somebody who left no name".to_owned())
}

impl OriginalClass {
    fn of(class: &RuntimeClass) -> Self {
        let kept = OWN_LABELS
            .iter()
            .filter_map(|key| class.labels().get_key_value(*key));
        Self {
            scheduling: class.scheduling.clone(),
            overhead: class.overhead.clone(),
            labels: kept
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }
    }
}

fn same_overhead(one: &RuntimeClass, other: &RuntimeClass) -> bool {
    let amounts = |class: &RuntimeClass| {
        class
            .overhead
            .as_ref()
            .and_then(|overhead| overhead.pod_fixed.clone())
            .unwrap_or_default()
    };
    let (one, other) = (amounts(one), amounts(other));
    one.len() == other.len()
        && one.iter().all(|(name, amount)| {
            other
                .get(name)
                .is_some_and(|found| quantity::same(amount, found))
        })
}

fn same_scheduling(one: &RuntimeClass, other: &RuntimeClass) -> bool {
    let parts = |class: &RuntimeClass| {
        let Scheduling {
            node_selector,
            tolerations,
        } = class.scheduling.clone().unwrap_or_default();
        let tolerations = tolerations
            .unwrap_or_default()
            .into_iter()
            .map(without_empty_texts)
            .collect::<Vec<_>>();
        (node_selector.unwrap_or_default(), tolerations)
    };
    parts(one) == parts(other)
}

/// The API server leaves out what is empty.
fn without_empty_texts(toleration: Toleration) -> Toleration {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Toleration {
        effect,
        key,
        operator,
        toleration_seconds,
        value,
    } = toleration;
    Toleration {
        effect: filled(effect),
        key: filled(key),
        operator: filled(operator),
        toleration_seconds,
        value: filled(value),
    }
}
