//! The rights of the operator and of the chart's hooks in the cluster: one table each.
//!
//! The chart's roles are generated from these tables, and a test fails on a call of the operator
//! that is in none.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::names::{GROUP, LEASE};

/// A right, and its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The scope.
    pub scope: Scope,
    /// Group of the API; empty is the core group.
    pub group: &'static str,
    /// The resource, in the plural, with its subresource behind a slash if it has one.
    pub resource: &'static str,
    /// The allowed verbs.
    pub verbs: &'static [&'static str],
    /// The names of the objects; empty means all.
    pub names: &'static [&'static str],
    /// The purpose.
    pub why: &'static str,
}

/// The scope of a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole cluster.
    Cluster,
    /// The namespace of the operator.
    Namespace,
}

/// A call to the API server, as its authorizer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'a str,
    /// Group of the API; empty is the core group.
    pub group: &'a str,
    /// The resource, in the plural.
    pub resource: &'a str,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The object's namespace; empty if it has none, or for all namespaces.
    pub namespace: &'a str,
    /// The object's name; empty if the call names none: `list`, `watch`, `create` with a POST.
    pub name: &'a str,
}

const CLUSTER: Right = Right {
    scope: Scope::Cluster,
    group: "",
    resource: "",
    verbs: &[],
    names: &[],
    why: "",
};
const NAMESPACE: Right = Right {
    scope: Scope::Namespace,
    ..CLUSTER
};

/// The rights of the operator.
pub const OPERATOR: &[Right] = &[
    Right {
        group: GROUP,
        resource: "wasmruntimes",
        verbs: &["list", "watch", "patch"],
        why: "reads the spec, and sets its finalizer",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimes/status",
        verbs: &["patch"],
        why: "writes the status of runtimes",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimenodes",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "keeps one object for each node that it changes",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimenodes/status",
        verbs: &["patch"],
        why: "writes the status of nodes",
        ..CLUSTER
    },
    Right {
        resource: "nodes",
        verbs: &["get", "list", "watch", "patch"],
        why: "sets the readiness label, and removes startup taints",
        ..CLUSTER
    },
    Right {
        group: "node.k8s.io",
        resource: "runtimeclasses",
        verbs: &["list", "watch", "create", "patch", "delete"],
        why: "keeps the RuntimeClass that pods name",
        ..CLUSTER
    },
    Right {
        group: "events.k8s.io",
        resource: "events",
        verbs: &["create", "patch"],
        why: "publishes Events about runtimes and nodes, in the namespace default",
        ..CLUSTER
    },
    Right {
        group: "events.k8s.io",
        resource: "events",
        verbs: &["list", "watch"],
        why: "reads why an installer's pod is not created or not started",
        ..NAMESPACE
    },
    Right {
        group: "batch",
        resource: "jobs",
        verbs: &["get", "list", "watch", "create", "delete"],
        why: "runs installers",
        ..NAMESPACE
    },
    Right {
        resource: "pods",
        verbs: &["list", "watch"],
        why: "reads what installers report",
        ..NAMESPACE
    },
    // The right to create cannot be limited to a name.
    Right {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["create"],
        why: "elects a leader",
        ..NAMESPACE
    },
    Right {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "update"],
        names: &[LEASE],
        why: "renews, releases and takes over the leader's Lease",
        ..NAMESPACE
    },
];

/// The rights of the chart's hook that updates the CRDs: `wasmedge-operator crds apply`.
pub const CRDS_HOOK: &[Right] = &[Right {
    group: "apiextensions.k8s.io",
    resource: "customresourcedefinitions",
    verbs: &["get", "create", "patch"],
    names: &[
        "wasmruntimes.runtime.wasmedge.dev",
        "wasmruntimenodes.runtime.wasmedge.dev",
    ],
    why: "applies both CRDs, and waits until they are served",
    ..CLUSTER
}];

/// The rights of the chart's hook that cleans the nodes before an uninstallation:
/// `wasmedge-operator runtimes remove`.
pub const REMOVE_HOOK: &[Right] = &[
    Right {
        group: GROUP,
        resource: "wasmruntimes",
        verbs: &["list", "delete"],
        why: "deletes every runtime, and waits until all are gone",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimenodes",
        verbs: &["list"],
        why: "names the nodes that it waits for",
        ..CLUSTER
    },
];

impl Right {
    /// Returns the right as a rule of a role.
    pub fn rule(&self) -> PolicyRule {
        let owned = |values: &[&str]| {
            values
                .iter()
                .map(|value| (*value).to_owned())
                .collect::<Vec<_>>()
        };
        PolicyRule {
            api_groups: Some(vec![self.group.to_owned()]),
            resources: Some(vec![self.resource.to_owned()]),
            resource_names: (!self.names.is_empty()).then(|| owned(self.names)),
            verbs: owned(self.verbs),
            ..PolicyRule::default()
        }
    }

    fn covers(&self, call: &Call<'_>, own_namespace: &str) -> bool {
        let is_there = match self.scope {
            Scope::Cluster => true,
            Scope::Namespace => call.namespace == own_namespace,
        };
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        is_there
            && self.group == call.group
            && resource == call.resource
            && subresource == call.subresource
            && self.verbs.contains(&call.verb)
            && (self.names.is_empty() || self.names.contains(&call.name))
    }
}

/// Returns the rights of `table` in `scope`.
pub fn within(table: &'static [Right], scope: Scope) -> impl Iterator<Item = &'static Right> {
    table.iter().filter(move |right| right.scope == scope)
}

/// Whether `table` allows `call`, for an operator in `own_namespace`.
pub fn allows(table: &[Right], call: &Call<'_>, own_namespace: &str) -> bool {
    table.iter().any(|right| right.covers(call, own_namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "wasmedge-system";

    #[test]
    fn call_that_is_not_in_the_table_is_not_allowed() {
        let label = Call {
            verb: "patch",
            resource: "nodes",
            name: "a",
            ..Call::default()
        };
        assert!(allows(OPERATOR, &label, OWN));
        for wrong in [
            Call {
                verb: "delete",
                ..label
            },
            Call {
                group: "apps",
                ..label
            },
            Call {
                subresource: "status",
                ..label
            },
            Call {
                resource: "secrets",
                ..label
            },
        ] {
            assert!(!allows(OPERATOR, &wrong, OWN), "{wrong:?}");
        }
    }

    #[test]
    fn jobs_and_pods_of_other_namespaces_are_not_allowed() {
        let create = Call {
            verb: "create",
            group: "batch",
            resource: "jobs",
            namespace: OWN,
            ..Call::default()
        };
        assert!(allows(OPERATOR, &create, OWN));
        assert!(!allows(
            OPERATOR,
            &Call {
                namespace: "default",
                ..create
            },
            OWN
        ));
        assert!(!allows(
            OPERATOR,
            &Call {
                verb: "list",
                resource: "pods",
                ..Call::default()
            },
            OWN
        ));
    }

    #[test]
    fn only_the_operators_lease_can_be_updated() {
        let call = Call {
            verb: "update",
            group: "coordination.k8s.io",
            resource: "leases",
            namespace: OWN,
            name: LEASE,
            ..Call::default()
        };
        assert!(allows(OPERATOR, &call, OWN));
        assert!(!allows(
            OPERATOR,
            &Call {
                name: "another-lease",
                ..call
            },
            OWN
        ));
    }

    #[test]
    fn no_right_has_wildcards_or_sensitive_resources() {
        for right in [OPERATOR, CRDS_HOOK, REMOVE_HOOK].concat() {
            assert!(
                !right.verbs.is_empty() && !right.why.is_empty(),
                "{right:?}"
            );
            let values = [right.verbs, right.names, &[right.group, right.resource]].concat();
            assert!(
                !values.contains(&"*") && !right.resource.contains('*'),
                "{right:?}"
            );
            assert!(
                ![
                    "secrets",
                    "pods/exec",
                    "serviceaccounts/token",
                    "nodes/proxy"
                ]
                .contains(&right.resource),
                "{right:?}"
            );
        }
    }

    #[test]
    fn rule_has_the_fields_of_the_right() {
        let rule = CRDS_HOOK[0].rule();
        assert_eq!(
            rule.api_groups,
            Some(vec!["apiextensions.k8s.io".to_owned()])
        );
        assert_eq!(rule.resource_names.map(|names| names.len()), Some(2));
        assert_eq!(rule.verbs, ["get", "create", "patch"]);
        assert_eq!(OPERATOR[0].rule().resource_names, None);
    }
}
