//! What the operator may do: what its table of rights says, and no more.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::helm::NAMESPACE;

use crate::bed::{Bed, tests};

tests![the_operators_account_may_do_what_the_table_says_and_no_more, installers_have_no_account, an_installer_is_not_privileged];

/// Lines of `kubectl auth can-i --list` that everybody has.
const EVERYBODYS: &[&str] = &["selfsubject", "[/", "clustertrustbundles", "localsubjectaccessreviews"];

fn the_operators_account_may_do_what_the_table_says_and_no_more(bed: &Bed) -> Result<()> {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:wasmedge-operator");
    let list = ["auth", "can-i", "--list", "--namespace", NAMESPACE, "--no-headers", &account];
    let text = bed.cluster.kubectl().args(list).text()?;
    let may: BTreeSet<(String, String)> =
        text.lines().filter(|line| !EVERYBODYS.iter().any(|word| line.contains(word))).flat_map(pairs).collect();
    let folder = testbed::helm::chart().join("files");
    let mut table = BTreeSet::new();
    for file in ["cluster-rules.yaml", "namespaced-rules.yaml"] {
        let path = folder.join(file);
        let rules = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let rules =
            bed.cluster.kubectl().args(["create", "--dry-run=client", "--output=json", "--filename=-"]).input(role(&rules)).text()?;
        let rules: Value = serde_json::from_str(&rules).context("read the table")?;
        table.extend(rules["rules"].as_array().into_iter().flatten().flat_map(granted));
    }
    ensure!(may == table, "beyond the table: {:?}; missing: {:?}", may.difference(&table), table.difference(&may));
    Ok(())
}

/// Rules as a role, so that kubectl reads them.
fn role(rules: &str) -> String {
    let rules = rules.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n  ");
    format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: table\nrules:\n  {rules}\n")
}

/// `resource.group` and verb, for each verb of a line of the list.
fn pairs(line: &str) -> Vec<(String, String)> {
    let resource = line.split_whitespace().next().unwrap_or_default().to_owned();
    let verbs = line.rsplit_once('[').map_or("", |(_, verbs)| verbs.trim_end_matches(']'));
    verbs.split_whitespace().map(|verb| (resource.clone(), verb.to_owned())).collect()
}

fn granted(rule: &Value) -> Vec<(String, String)> {
    let texts = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let mut pairs = Vec::new();
    for resource in texts("resources") {
        for group in texts("apiGroups") {
            // As kubectl writes them: `jobs.batch`, `nodes`, `wasmruntimes.runtime.wasmedge.dev/status`.
            let (name, part) = resource.split_once('/').map_or((resource.as_str(), None), |(name, part)| (name, Some(part)));
            let full = if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") };
            let full = part.map_or(full.clone(), |part| format!("{full}/{part}"));
            pairs.extend(texts("verbs").into_iter().map(|verb| (full.clone(), verb)));
        }
    }
    pairs
}

fn installers_have_no_account(bed: &Bed) -> Result<()> {
    let pod = installer_pod(bed)?;
    ensure!(pod["spec"]["automountServiceAccountToken"] == false, "its pod mounts a token");
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    ensure!(volumes.iter().all(|volume| volume["projected"].is_null()), "its pod has a projected volume: {volumes:?}");
    Ok(())
}

fn an_installer_is_not_privileged(bed: &Bed) -> Result<()> {
    let pod = installer_pod(bed)?;
    let spec = &pod["spec"];
    ensure!(spec["hostPID"].is_null() && spec["hostNetwork"].is_null() && spec["hostIPC"].is_null(), "it shares the host's namespaces");
    let context = &spec["containers"][0]["securityContext"];
    ensure!(context["privileged"] == false && context["readOnlyRootFilesystem"] == true, "{context}");
    ensure!(context["capabilities"]["drop"] == serde_json::json!(["ALL"]), "{context}");
    let root = spec["volumes"].as_array().into_iter().flatten().find(|volume| volume["hostPath"]["path"] == "/");
    ensure!(root.is_none(), "it mounts the host's root");
    Ok(())
}

/// A pod of an installer, seen while it is there.
fn installer_pod(bed: &Bed) -> Result<Value> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&crate::runtimes::runtime(&serde_json::json!({})))?;
    let list = ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/component=installer", "--output=json"];
    let pod = testbed::wait::until(
        "an installer's pod",
        crate::bed::LIMIT,
        || {
            let pods: Value = serde_json::from_str(&bed.cluster.kubectl().args(list).text()?).context("read the pods")?;
            Ok(pods["items"].as_array().and_then(|pods| pods.first().cloned()))
        },
        || bed.cluster.operator_evidence(),
    )?;
    bed.up_to_date(crate::runtimes::NAME, 1)?;
    Ok(pod)
}
