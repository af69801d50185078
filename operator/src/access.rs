//! Every right that the operator has in the cluster, and that the chart's hooks have: one table
//! each.
//!
//! The chart's roles are generated from these tables, and a test fails on a call of the operator's
//! that stands in none.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::names::{GROUP, LEASE};

/// A right, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Where it holds.
    pub scope: Scope,
    /// Group of the API; empty is the core group.
    pub group: &'static str,
    /// The resource, in the plural, with its subresource behind a slash if it has one.
    pub resource: &'static str,
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// The only objects that it may be done to; none named means any.
    pub names: &'static [&'static str],
    /// What it is for.
    pub why: &'static str,
}

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In the namespace that the operator runs in.
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
    /// The subresource, empty if it is the object itself.
    pub subresource: &'a str,
    /// The object's namespace, empty if it has none or if the call speaks of all.
    pub namespace: &'a str,
    /// The object's name, empty where the call names none: `list`, `watch`, `create` with a POST.
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

/// What the operator does.
pub const OPERATOR: &[Right] = &[
    Right {
        group: GROUP,
        resource: "wasmruntimes",
        verbs: &["list", "watch", "patch"],
        why: "reads what is wanted, and keeps its finalizer there",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimes/status",
        verbs: &["patch"],
        why: "says how a runtime is doing",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimenodes",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "keeps one object for each node that it touches",
        ..CLUSTER
    },
    Right {
        group: GROUP,
        resource: "wasmruntimenodes/status",
        verbs: &["patch"],
        why: "says how far a node is",
        ..CLUSTER
    },
    Right {
        resource: "nodes",
        verbs: &["get", "list", "watch", "patch"],
        why: "sets the readiness label, and takes startup taints off",
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
        why: "tells of runtimes and nodes, whose Events lie in the namespace default",
        ..CLUSTER
    },
    Right {
        group: "events.k8s.io",
        resource: "events",
        verbs: &["list", "watch"],
        why: "reads why an installer's pod is not made or not started",
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
    // A right to create cannot be limited to a name that does not exist yet.
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
        why: "renews, gives up and takes over the leader's Lease",
        ..NAMESPACE
    },
];

/// What the chart's hook that brings the CRDs up to date does: `wasmedge-operator crds apply`.
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

/// What the chart's hook that clears the nodes before an uninstallation does: `wasmedge-operator
/// runtimes remove`.
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
    /// The right as a rule of a role.
    pub fn rule(&self) -> PolicyRule {
        let owned = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
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

/// The rights of `table` that hold in `scope`.
pub fn within(table: &'static [Right], scope: Scope) -> impl Iterator<Item = &'static Right> {
    table.iter().filter(move |right| right.scope == scope)
}

/// Whether `table` gives the right to `call`, for an operator that runs in `own_namespace`.
pub fn allows(table: &[Right], call: &Call<'_>, own_namespace: &str) -> bool {
    table.iter().any(|right| right.covers(call, own_namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "wasmedge-system";

    #[test]
    fn a_call_outside_the_table_is_not_allowed() {
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
    fn jobs_and_pods_of_other_namespaces_are_out_of_reach() {
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
    fn only_the_leaders_lease_can_be_taken_over() {
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
                name: "somebody-elses",
                ..call
            },
            OWN
        ));
    }

    #[test]
    fn no_right_reaches_further_than_it_is_written() {
        for right in [OPERATOR, CRDS_HOOK, REMOVE_HOOK].concat() {
            assert!(
                !right.verbs.is_empty() && !right.why.is_empty(),
                "{right:?}"
            );
            let words = [right.verbs, right.names, &[right.group, right.resource]].concat();
            assert!(
                !words.contains(&"*") && !right.resource.contains('*'),
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
    fn a_rule_says_what_the_right_says() {
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
