//! The facts of a node that plans depend on, without heartbeats and images.

use k8s_openapi::api::core::v1::Node;
use kube::{Resource as _, ResourceExt as _};

use super::distribution;
use crate::crd::Arch;
use crate::plan::{Handlers, NodeFacts, Readiness};

/// Returns the facts of `node`.
pub fn facts(node: &Node) -> NodeFacts {
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.clone();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    NodeFacts {
        uid: node.uid().unwrap_or_default(),
        labels: node.labels().clone(),
        taints: taints
            .into_iter()
            .map(|taint| (taint.key, taint.effect))
            .collect(),
        readiness: if ready {
            Readiness::Ready
        } else {
            Readiness::NotReady
        },
        leaving: node.meta().deletion_timestamp.is_some(),
        arch: match info.as_ref().map(|info| info.architecture.as_str()) {
            Some("amd64") => Some(Arch::Amd64),
            Some("arm64") => Some(Arch::Arm64),
            _ => None,
        },
        os: info
            .as_ref()
            .map(|info| info.operating_system.clone())
            .unwrap_or_default(),
        handlers: match status.runtime_handlers {
            None => Handlers::Unknown,
            Some(list) if list.is_empty() => Handlers::Unknown,
            Some(list) => Handlers::Listed(
                list.into_iter()
                    .filter_map(|handler| handler.name)
                    .collect(),
            ),
        },
        boot_id: info
            .as_ref()
            .map(|info| info.boot_id.clone())
            .unwrap_or_default(),
        distribution: distribution::of_node(node),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn of(status: &serde_json::Value) -> NodeFacts {
        facts(
            &serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": status }))
                .unwrap(),
        )
    }

    #[test]
    fn handlers_of_node_without_list_are_unknown() {
        assert_eq!(of(&json!({})).handlers, Handlers::Unknown);
        assert_eq!(
            of(&json!({ "runtimeHandlers": [] })).handlers,
            Handlers::Unknown
        );
        let listed =
            of(&json!({ "runtimeHandlers": [{ "name": "" }, { "name": "wasmedge" }] })).handlers;
        assert_eq!(
            listed,
            Handlers::Listed(BTreeSet::from([String::new(), "wasmedge".to_owned()]))
        );
    }

    #[test]
    fn node_of_unknown_readiness_is_not_ready() {
        let condition =
            |status: &str| json!({ "conditions": [{ "type": "Ready", "status": status }] });
        assert_eq!(of(&condition("True")).readiness, Readiness::Ready);
        assert_eq!(of(&condition("Unknown")).readiness, Readiness::NotReady);
        assert_eq!(of(&json!({})).readiness, Readiness::NotReady);
    }
}
