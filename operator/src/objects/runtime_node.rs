//! The WasmRuntimeNode: the status of a runtime on a node.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::crd::{WasmRuntimeNode, WasmRuntimeNodeSpec};
use crate::names;

/// Returns the object of `runtime` on the node of this name and uid. The Node owns it, and a
/// finalizer of the operator keeps it.
pub fn runtime_node(runtime: &str, node: &str, node_uid: &str) -> WasmRuntimeNode {
    WasmRuntimeNode {
        metadata: ObjectMeta {
            name: Some(names::runtime_node(runtime, node)),
            labels: Some(BTreeMap::from([
                (names::MANAGED_BY.to_owned(), names::MANAGER.to_owned()),
                (names::RUNTIME_LABEL.to_owned(), runtime.to_owned()),
            ])),
            finalizers: Some(vec![names::NODE_FINALIZER.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.to_owned(),
                uid: node_uid.to_owned(),
                // Blocking the owner's deletion needs a right on nodes' finalizers, and would keep
                // nodes from being deleted.
                block_owner_deletion: None,
                controller: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: WasmRuntimeNodeSpec {
            runtime: runtime.to_owned(),
            node: node.to_owned(),
        },
        status: None,
    }
}
