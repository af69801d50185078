//! The chart's accounts: each with the rights of its table, and a token of the API server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::command::Run;
use wasmedge_operator::access::{CRDS_HOOK, OPERATOR, REMOVE_HOOK, Right, Scope, within};

use crate::STEP_TIMEOUT;
use crate::cluster::{Cluster, NAMESPACE, PROGRAM};

/// An account of the chart.
pub(crate) struct Account {
    kubeconfig: PathBuf,
}

impl Account {
    pub(crate) fn operator(cluster: &Cluster) -> Self {
        Self::new(cluster, "operator", OPERATOR)
    }

    pub(crate) fn crds_hook(cluster: &Cluster) -> Self {
        Self::new(cluster, "crds-hook", CRDS_HOOK)
    }

    pub(crate) fn remove_hook(cluster: &Cluster) -> Self {
        Self::new(cluster, "remove-hook", REMOVE_HOOK)
    }

    /// Runs the operator's executable to completion, as this account.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let run = Run::new(PROGRAM)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .deadline(2 * STEP_TIMEOUT);
        run.done().expect("the program does it");
    }

    /// Returns the kubeconfig of this account.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn new(cluster: &Cluster, name: &str, table: &'static [Right]) -> Self {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        cluster
            .create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
        for (scope, kind) in [(Scope::Cluster, "ClusterRole"), (Scope::Namespace, "Role")] {
            let rules: Vec<Value> = within(table, scope)
                .map(|right| json!(right.rule()))
                .collect();
            let api = "rbac.authorization.k8s.io";
            cluster.create(&json!({"apiVersion": format!("{api}/v1"), "kind": kind,
                "metadata": metadata, "rules": rules}));
            cluster.create(&json!({
                "apiVersion": format!("{api}/v1"),
                "kind": format!("{kind}Binding"),
                "metadata": metadata,
                "roleRef": {"apiGroup": api, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
            }));
        }
        let token = cluster.kubectl(&["create", "token", name]);
        Self {
            kubeconfig: cluster
                .server()
                .kubeconfig_of(name, token.trim())
                .expect("the kubeconfig can be written"),
        }
    }
}
