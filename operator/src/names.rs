//! Every label, annotation, finalizer and field manager that the operator writes: once each.

use sha2::{Digest as _, Sha256};

/// Group of the API.
pub const GROUP: &str = "runtime.wasmedge.dev";
/// Version of the API.
pub const VERSION: &str = "v1alpha1";
/// The one field manager of all that the operator applies.
pub const MANAGER: &str = "wasmedge-operator";
/// Reporter of the operator's Events.
pub const CONTROLLER: &str = "runtime.wasmedge.dev/operator";
/// Keeps a `WasmRuntime` until every node that has it is clean.
pub const RUNTIME_FINALIZER: &str = "runtime.wasmedge.dev/nodes";
/// Keeps a `WasmRuntimeNode` until the node is clean or gone.
pub const NODE_FINALIZER: &str = "runtime.wasmedge.dev/installed";
/// Label of every object that the operator made for a `WasmRuntime`: the runtime's name.
pub const RUNTIME_LABEL: &str = "runtime.wasmedge.dev/runtime";
/// Annotation of installer Jobs: which `WasmRuntime` of that name they were made for.
pub const RUNTIME_UID_ANNOTATION: &str = "runtime.wasmedge.dev/runtime-uid";
/// Annotation of installer Jobs: digest of all that its pod is made of.
pub const TEMPLATE_ANNOTATION: &str = "runtime.wasmedge.dev/template";
/// Standard label: what an object is an instance of.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Standard label: its part in the whole. NetworkPolicies select installers by it.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Standard label: the whole.
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
/// Standard label that tells who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of a RuntimeClass that was there before: what it was, to be put back when the runtime
/// goes.
pub const ADOPTED_ANNOTATION: &str = "runtime.wasmedge.dev/adopted";
/// Annotation that a user puts on a `WasmRuntime`: each new value makes failed nodes be tried
/// again.
pub const RETRY_ANNOTATION: &str = "runtime.wasmedge.dev/retry";
/// Annotation of the CustomResourceDefinitions: digest of their spec, by which the chart sees
/// whether a cluster's are its own.
pub const DEFINITION_ANNOTATION: &str = "runtime.wasmedge.dev/definition";
/// Label of nodes that the control plane runs on.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Name of the Lease that the leader holds.
pub const LEASE: &str = "wasmedge-operator";
/// Value of a node's readiness label.
pub const READY: &str = "ready";

/// The label of nodes on which the runtime works; its value is [`READY`]. The RuntimeClass selects
/// it.
pub fn ready_label(runtime: &str) -> String {
    format!("{GROUP}/{runtime}")
}

/// Name of the `WasmRuntimeNode` of a runtime and a node. A runtime's name holds no dot, so no two
/// pairs share one. The end of a node's name that leaves no room for the runtime's gives way to a
/// digest.
pub fn runtime_node(runtime: &str, node: &str) -> String {
    /// Bytes of an object's name.
    const LONGEST: usize = 253;
    let name = format!("{runtime}.{node}");
    if name.len() <= LONGEST {
        return name;
    }
    let digest = format!("{:x}", Sha256::digest(node));
    let digest = &digest[..16];
    // Node names are ASCII.
    let kept = node
        .get(..LONGEST - runtime.len() - digest.len() - 2)
        .unwrap_or_default();
    format!("{runtime}.{}-{digest}", kept.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_of_nodes_leave_room_for_the_runtimes() {
        assert_eq!(runtime_node("wasmedge", "node-1"), "wasmedge.node-1");
        let (runtime, node) = ("r".repeat(40), "n".repeat(252));
        let names = ["a", "b"].map(|end| runtime_node(&runtime, &format!("{node}{end}")));
        assert!(
            names[0] != names[1] && names.iter().all(|name| name.len() == 253),
            "{names:?}"
        );
    }
}
