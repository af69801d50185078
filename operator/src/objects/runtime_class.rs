//! The RuntimeClass that pods name: its desired state, its owner, and the restoration of an adopted
//! one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::api::node::v1::{Overhead, RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::quantity;
use crate::crd::WasmRuntime;
use crate::names;

/// The labels that the operator sets on a RuntimeClass.
const OWN_LABELS: [&str; 2] = [names::MANAGED_BY, names::RUNTIME_LABEL];

/// The original fields of an adopted RuntimeClass, kept in an annotation of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginalClass {
    /// Its scheduling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Its overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Overhead>,
    /// Its values of the labels that the operator sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What happens to a RuntimeClass when its runtime is deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum RemovalAction {
    /// It is deleted.
    Delete,
    /// It was adopted, and gets its original fields back.
    Restore(Box<RuntimeClass>),
}

/// Returns the RuntimeClass that the spec describes. It selects nodes by the readiness label: pods
/// are scheduled only where the runtime was verified.
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

/// Whether a RuntimeClass was created or adopted for the runtime of this name.
pub fn is_ours(class: &RuntimeClass, runtime: &str) -> bool {
    let label = |key: &str| class.labels().get(key).map(String::as_str);
    label(names::MANAGED_BY) == Some(names::MANAGER) && label(names::RUNTIME_LABEL) == Some(runtime)
}

/// Whether a RuntimeClass has the fields of `desired`, whatever the form of its quantities. Other
/// metadata is ignored.
pub fn matches(desired: &RuntimeClass, found: &RuntimeClass) -> bool {
    let has_labels = OWN_LABELS
        .iter()
        .all(|key| found.labels().get(*key) == desired.labels().get(*key));
    has_labels
        && found.handler == desired.handler
        && same_overhead(desired, found)
        && same_scheduling(desired, found)
}

/// Returns `found` with the fields of `desired`, and with an annotation of its original fields if
/// it had another owner. Everything else stays.
pub fn changed(desired: &RuntimeClass, found: &RuntimeClass, runtime: &str) -> RuntimeClass {
    let mut class = found.clone();
    if !is_ours(found, runtime) {
        let original = serde_json::to_string(&OriginalClass::of(found))
            .expect("a RuntimeClass that was read from JSON can be written");
        class
            .annotations_mut()
            .insert(names::ADOPTED_ANNOTATION.to_owned(), original);
    }
    class.labels_mut().extend(desired.labels().clone());
    class.overhead.clone_from(&desired.overhead);
    class.scheduling.clone_from(&desired.scheduling);
    class
}

/// Returns what happens to `found`, which is ours, when its runtime is deleted.
///
/// # Errors
/// If the annotation with its original fields cannot be parsed.
pub fn removal_action(found: &RuntimeClass) -> Result<RemovalAction, serde_json::Error> {
    let Some(original) = found.annotations().get(names::ADOPTED_ANNOTATION) else {
        return Ok(RemovalAction::Delete);
    };
    let OriginalClass {
        scheduling,
        overhead,
        labels,
    } = serde_json::from_str(original)?;
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

/// Returns the owner of a RuntimeClass that is not ours, as far as its metadata shows.
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
        .unwrap_or_else(|| "an unknown owner".to_owned())
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

/// The API server drops empty fields.
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
