//! All labels, annotations, finalizers and field managers that the operator writes.

use sha2::{Digest as _, Sha256};

/// Group of the API.
pub const GROUP: &str = "runtime.wasmedge.dev";
/// Version of the API.
pub const VERSION: &str = "v1alpha1";
/// The field manager of all writes of the operator.
pub const MANAGER: &str = "wasmedge-operator";
/// Reporter of the operator's Events.
pub const CONTROLLER: &str = "runtime.wasmedge.dev/operator";
/// Keeps a `WasmRuntime` until every node that has it is clean.
pub const RUNTIME_FINALIZER: &str = "runtime.wasmedge.dev/nodes";
/// Keeps a `WasmRuntimeNode` until the node is clean or gone.
pub const NODE_FINALIZER: &str = "runtime.wasmedge.dev/installed";
/// Label of every object that the operator created for a `WasmRuntime`: the runtime's name.
pub const RUNTIME_LABEL: &str = "runtime.wasmedge.dev/runtime";
/// Annotation of installer Jobs: uid of the `WasmRuntime` that they were created for.
pub const RUNTIME_UID_ANNOTATION: &str = "runtime.wasmedge.dev/runtime-uid";
/// Annotation of installer Jobs: digest of the pod template.
pub const TEMPLATE_ANNOTATION: &str = "runtime.wasmedge.dev/template";
/// Standard label: what an object is an instance of.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Standard label: the role of an object. NetworkPolicies select installers by it.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Standard label: the product that an object is a part of.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// Value of [`COMPONENT_LABEL`] of installers, and name of their container.
pub const INSTALLER: &str = "installer";
/// Value of [`NAME_LABEL`] of installers.
pub const INSTALLER_NAME: &str = "node-installer";
/// Value of [`PART_OF_LABEL`].
pub const PRODUCT: &str = "wasmedge-runtime";
/// Annotation that keeps the cluster autoscaler from removing a node under a running pod.
pub const SAFE_TO_EVICT_ANNOTATION: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Annotation that keeps Karpenter from it.
pub const DO_NOT_DISRUPT_ANNOTATION: &str = "karpenter.sh/do-not-disrupt";
/// Annotation of installer Jobs: the node's name, which may be longer than a label's value.
pub const NODE_ANNOTATION: &str = "runtime.wasmedge.dev/node";
/// Standard label: the manager of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of an adopted RuntimeClass: its original fields, restored when the runtime is
/// deleted.
pub const ADOPTED_ANNOTATION: &str = "runtime.wasmedge.dev/adopted";
/// Annotation that a user sets on a `WasmRuntime`: each new value requests another attempt on
/// failed nodes.
pub const RETRY_ANNOTATION: &str = "runtime.wasmedge.dev/retry";
/// Annotation of the CustomResourceDefinitions: digest of their spec. The chart checks it to see
/// whether the cluster's definitions are those of the chart.
pub const DEFINITION_ANNOTATION: &str = "runtime.wasmedge.dev/definition";
/// Label of the control plane's nodes.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Name of the Lease that the leader holds.
pub const LEASE: &str = "wasmedge-operator";
/// Value of a node's readiness label.
pub const READY: &str = "ready";

/// Returns the readiness label of the nodes on which the runtime works; its value is [`READY`]. The
/// RuntimeClass selects it.
pub fn ready_label(runtime: &str) -> String {
    format!("{GROUP}/{runtime}")
}

/// Returns the name of the `WasmRuntimeNode` of a runtime and a node. A runtime's name has no dot,
/// so no two pairs share a name. If it is too long, a digest replaces the end of the node's name.
pub fn runtime_node(runtime: &str, node: &str) -> String {
    /// Maximum length of an object's name, in bytes.
    const MAX_LENGTH: usize = 253;
    let name = format!("{runtime}.{node}");
    if name.len() <= MAX_LENGTH {
        return name;
    }
    let digest = format!("{:x}", Sha256::digest(node));
    let digest = &digest[..16];
    // Node names are ASCII.
    let kept = node
        .get(..MAX_LENGTH - runtime.len() - digest.len() - 2)
        .unwrap_or_default();
    format!("{runtime}.{}-{digest}", kept.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_node_names_are_shortened_with_a_digest() {
        assert_eq!(runtime_node("wasmedge", "node-1"), "wasmedge.node-1");
        let (runtime, node) = ("r".repeat(40), "n".repeat(252));
        let names = ["a", "b"].map(|end| runtime_node(&runtime, &format!("{node}{end}")));
        assert!(
            names[0] != names[1] && names.iter().all(|name| name.len() == 253),
            "{names:?}"
        );
    }
}
