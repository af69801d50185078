//! The chart's generated roles, checked by the API server's own authorizer.

use std::fs;

use crate::fixture::{crds, kubectl, text};

const NAMESPACE: &str = "default";

/// Creates an account with the rules of these files of the chart: one for the cluster, one for its
/// namespace.
fn account(name: &str, cluster: &str, namespaced: Option<&str>) -> String {
    let rules = |file: &str| {
        fs::read_to_string(testbed::helm::chart().join("files").join(file))
            .expect("the chart has its rules")
    };
    let role = |kind: &str, rules: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: \
             {{name: {name}, namespace: {NAMESPACE}}}\nrules:\n{rules}---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata: \
             {{name: {name}, namespace: {NAMESPACE}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\n\
             subjects: [{{kind: ServiceAccount, name: {name}, namespace: {NAMESPACE}}}]\n---\n"
        )
    };
    let mut manifest = role("ClusterRole", &rules(cluster));
    manifest.extend(namespaced.map(|file| role("Role", &rules(file))));
    kubectl()
        .args(["apply", "-f", "-"])
        .input(manifest)
        .done()
        .expect("the roles are stored");
    format!("system:serviceaccount:{NAMESPACE}:{name}")
}

fn may(account: &str, request: &[&str]) -> bool {
    let asked = kubectl()
        .args(["auth", "can-i", "--as", account])
        .args(request)
        .output()
        .expect("kubectl runs");
    let answer = text(&asked.stdout);
    assert!(
        ["yes", "no"].contains(&answer.trim()),
        "can-i {request:?} printed {answer:?}: {}",
        text(&asked.stderr)
    );
    answer.trim() == "yes"
}

#[test]
fn role_of_the_operator_allows_its_requests_and_no_others() {
    let operator = account(
        "operator",
        "cluster-rules.yaml",
        Some("namespaced-rules.yaml"),
    );
    for request in [
        &[
            "patch",
            "wasmruntimes.runtime.wasmedge.dev",
            "--subresource=status",
        ][..],
        &["create", "wasmruntimenodes.runtime.wasmedge.dev"],
        &["patch", "nodes/worker"],
        &["create", "runtimeclasses.node.k8s.io"],
        &["create", "events.events.k8s.io", "--namespace=default"],
        &["create", "jobs.batch", "--namespace=default"],
        &[
            "update",
            "leases.coordination.k8s.io/wasmedge-operator",
            "--namespace=default",
        ],
    ] {
        assert!(may(&operator, request), "{request:?}");
    }
    for request in [
        &["delete", "wasmruntimes.runtime.wasmedge.dev"][..],
        &["delete", "nodes/worker"],
        &["get", "secrets", "--namespace=default"],
        &["create", "pods", "--namespace=default"],
        &["create", "jobs.batch", "--namespace=kube-system"],
        &["list", "pods", "--all-namespaces"],
        &[
            "update",
            "leases.coordination.k8s.io/another",
            "--namespace=default",
        ],
        &[
            "patch",
            "customresourcedefinitions.apiextensions.k8s.io/wasmruntimes.runtime.wasmedge.dev",
        ],
    ] {
        assert!(!may(&operator, request), "{request:?}");
    }
}

#[test]
fn role_of_the_crd_hook_allows_both_crds_and_no_others() {
    let hook = account("crds-hook", "crds-hook-rules.yaml", None);
    let apply = || {
        kubectl().args([
            "apply",
            "--server-side",
            "--dry-run=server",
            "--field-manager=hook",
            "--force-conflicts",
            "--as",
            &hook,
        ])
    };
    apply().arg("-f").arg(crds()).done().unwrap();
    let first = fs::read_to_string(crds().join("wasmruntimes.yaml")).unwrap();
    let other = apply()
        .args(["-f", "-"])
        .input(first.replace("wasmruntimes", "others"))
        .output()
        .unwrap();
    assert!(
        !other.status.success() && text(&other.stderr).contains("forbidden"),
        "{}",
        text(&other.stderr)
    );
}

#[test]
fn right_for_a_named_object_allows_apply_before_it_exists() {
    let hook = account("crds-first", "crds-hook-rules.yaml", None);
    // A right of the same form, for a CRD that does not exist yet.
    let patch =
        r#"[{"op": "replace", "path": "/rules/0/resourceNames", "value": ["firsts.example.org"]}]"#;
    kubectl()
        .args([
            "patch",
            "clusterrole",
            "crds-first",
            "--type=json",
            "-p",
            patch,
        ])
        .done()
        .unwrap();
    let definition = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "firsts.example.org"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": {"plural": "firsts", "kind": "First"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}"#;
    kubectl()
        .args([
            "apply",
            "--server-side",
            "--dry-run=server",
            "--as",
            &hook,
            "-f",
            "-",
        ])
        .input(definition)
        .done()
        .unwrap();
}

#[test]
fn role_of_the_removal_hook_allows_only_runtimes() {
    let hook = account("remove-hook", "remove-hook-rules.yaml", None);
    assert!(may(&hook, &["delete", "wasmruntimes.runtime.wasmedge.dev"]));
    for request in [
        &["delete", "wasmruntimenodes.runtime.wasmedge.dev"][..],
        &["patch", "wasmruntimes.runtime.wasmedge.dev"],
        &["get", "nodes"],
    ] {
        assert!(!may(&hook, request), "{request:?}");
    }
}
