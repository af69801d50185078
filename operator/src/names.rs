//! Every label, annotation, finalizer and field manager that the operator writes: once each.

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
/// Annotation of installer Jobs: the node's name, which may be longer than a label's value.
pub const NODE_ANNOTATION: &str = "runtime.wasmedge.dev/node";
/// Standard label that tells who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of a RuntimeClass that was there before: what it was, to be put back when the runtime goes.
pub const ADOPTED_ANNOTATION: &str = "runtime.wasmedge.dev/adopted";
/// Annotation that a user puts on a `WasmRuntime`: each new value makes failed nodes be tried again.
pub const RETRY_ANNOTATION: &str = "runtime.wasmedge.dev/retry";
/// Label of nodes that the control plane runs on.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Name of the Lease that the leader holds.
pub const LEASE: &str = "wasmedge-operator";
/// Value of a node's readiness label.
pub const READY: &str = "ready";

/// The label of nodes on which the runtime works; its value is [`READY`]. The RuntimeClass selects it.
pub fn ready_label(runtime: &str) -> String {
    format!("{GROUP}/{runtime}")
}

/// Name of the `WasmRuntimeNode` of a runtime and a node. A runtime's name holds no dot, so no two pairs share one.
pub fn runtime_node(runtime: &str, node: &str) -> String {
    format!("{runtime}.{node}")
}
