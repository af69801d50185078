//! The kinds of objects, and the rules that differ between them. To add a kind, extend [`ALL`].

use std::fmt;

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// Name in objects.
    pub kind: &'static str,
    /// Whether objects are in namespaces.
    pub scope: Scope,
    /// How writes handle `status`.
    pub status: Status,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: Generation,
    /// JSON pointers of immutable fields.
    pub immutable: &'static [&'static str],
}

/// The scope of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The cluster.
    Cluster,
    /// A namespace.
    Namespaced,
}

/// How writes handle `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Like any other field.
    Plain,
    /// Only the subresource writes it.
    Subresource,
    /// Only the subresource writes it, and the creation, as by a kubelet.
    SubresourceAndCreate,
}

/// Whether a kind counts changes of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// It does.
    Counted,
    /// It does not.
    Absent,
}

const PLAIN: Resource = Resource {
    group: "",
    plural: "",
    version: "v1",
    kind: "",
    scope: Scope::Namespaced,
    status: Status::Plain,
    generation: Generation::Absent,
    immutable: &[],
};

const CUSTOM: Resource = Resource {
    group: "runtime.wasmedge.dev",
    version: "v1alpha1",
    scope: Scope::Cluster,
    status: Status::Subresource,
    generation: Generation::Counted,
    ..PLAIN
};

/// Nodes.
pub const NODE: Resource = Resource {
    plural: "nodes",
    kind: "Node",
    scope: Scope::Cluster,
    status: Status::SubresourceAndCreate,
    ..PLAIN
};
/// Pods.
pub const POD: Resource = Resource {
    plural: "pods",
    kind: "Pod",
    status: Status::Subresource,
    ..PLAIN
};
/// Jobs.
pub const JOB: Resource = Resource {
    group: "batch",
    plural: "jobs",
    kind: "Job",
    status: Status::Subresource,
    generation: Generation::Counted,
    immutable: &["/spec/template", "/spec/selector", "/spec/completionMode"],
    ..PLAIN
};
/// RuntimeClasses.
pub const RUNTIME_CLASS: Resource = Resource {
    group: "node.k8s.io",
    plural: "runtimeclasses",
    kind: "RuntimeClass",
    scope: Scope::Cluster,
    immutable: &["/handler"],
    ..PLAIN
};
/// Leases.
pub const LEASE: Resource = Resource {
    group: "coordination.k8s.io",
    plural: "leases",
    kind: "Lease",
    ..PLAIN
};
/// Events.
pub const EVENT: Resource = Resource {
    group: "events.k8s.io",
    plural: "events",
    kind: "Event",
    ..PLAIN
};
/// The product's WasmRuntimes.
pub const WASM_RUNTIME: Resource = Resource {
    plural: "wasmruntimes",
    kind: "WasmRuntime",
    ..CUSTOM
};
/// The product's WasmRuntimeNodes.
pub const WASM_RUNTIME_NODE: Resource = Resource {
    plural: "wasmruntimenodes",
    kind: "WasmRuntimeNode",
    ..CUSTOM
};

/// Every kind.
pub const ALL: &[Resource] = &[
    NODE,
    POD,
    Resource {
        plural: "namespaces",
        kind: "Namespace",
        scope: Scope::Cluster,
        status: Status::Subresource,
        ..PLAIN
    },
    Resource {
        plural: "configmaps",
        kind: "ConfigMap",
        ..PLAIN
    },
    Resource {
        plural: "secrets",
        kind: "Secret",
        ..PLAIN
    },
    JOB,
    RUNTIME_CLASS,
    LEASE,
    EVENT,
    WASM_RUNTIME,
    WASM_RUNTIME_NODE,
];

impl Resource {
    /// Returns the kind of a path.
    pub fn in_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        ALL.iter()
            .copied()
            .find(|one| (one.group, one.version, one.plural) == (group, version, plural))
    }

    /// Returns the kind of an object.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        ALL.iter()
            .copied()
            .find(|one| one.api_version() == api_version && one.kind == kind)
    }

    /// Returns group and version in the form of objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.plural),
            group => write!(f, "{}.{group}", self.plural),
        }
    }
}
