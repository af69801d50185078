//! The operator's rights: exactly those of its table.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use installer_protocol::Distribution;
use installer_protocol::layout::MountAccess;
use serde_json::Value;
use testbed::helm::NAMESPACE;

use crate::fixture::{Fixture, tests};

tests![
    operator_account_has_exactly_the_rights_of_the_table,
    installers_have_no_account,
    installer_is_not_privileged_and_mounts_only_the_paths_of_its_table,
];

/// Lines of `kubectl auth can-i --list` for rights that every account has.
const DEFAULT_RIGHTS: &[&str] = &[
    "selfsubject",
    "[/",
    "clustertrustbundles",
    "localsubjectaccessreviews",
];

/// Rights of an account: resource, the name to which the right is limited (empty: any), verb.
pub(crate) type Rights = BTreeSet<(String, String, String)>;

fn operator_account_has_exactly_the_rights_of_the_table(fixture: &Fixture) -> Result<()> {
    let (cluster, own) = (
        table(fixture, "cluster-rules.yaml")?,
        table(fixture, "namespaced-rules.yaml")?,
    );
    expect_rights(&may(fixture, "wasmedge-operator", "default")?, &cluster)?;
    expect_rights(
        &may(fixture, "wasmedge-operator", NAMESPACE)?,
        &(&cluster | &own),
    )?;
    // The hooks' rights exist only while the hooks run: `release` checks them then.
    for hook in [
        "wasmedge-operator-crds",
        "wasmedge-operator-remove",
        "wasmedge-operator-installer",
    ] {
        expect_rights(&may(fixture, hook, NAMESPACE)?, &Rights::new())?;
    }
    Ok(())
}

/// Fails unless an account has exactly the rights of a table.
pub(crate) fn expect_rights(may: &Rights, table: &Rights) -> Result<()> {
    ensure!(
        may == table,
        "beyond the table: {:?}; missing: {:?}",
        may.difference(table),
        table.difference(may)
    );
    Ok(())
}

/// Returns the rights of an account of the chart in a namespace, from the API server.
pub(crate) fn may(fixture: &Fixture, account: &str, namespace: &str) -> Result<Rights> {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let text = fixture
        .cluster
        .kubectl()
        .args([
            "auth",
            "can-i",
            "--list",
            "--namespace",
            namespace,
            "--no-headers",
            &account,
        ])
        .text()?;
    Ok(text
        .lines()
        .filter(|line| !DEFAULT_RIGHTS.iter().any(|right| line.contains(right)))
        .flat_map(listed)
        .collect())
}

/// Returns the rights in a file of the chart's tables.
pub(crate) fn table(fixture: &Fixture, file: &str) -> Result<Rights> {
    let path = testbed::helm::chart().join("files").join(file);
    let rules =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rules = fixture
        .cluster
        .kubectl()
        .args([
            "create",
            "--dry-run=client",
            "--output=json",
            "--filename=-",
        ])
        .input(role(&rules))
        .text()?;
    let rules: Value = serde_json::from_str(&rules).context("read the table")?;
    Ok(rules["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(granted)
        .collect())
}

/// Formats rules as a role, so that kubectl reads them.
fn role(rules: &str) -> String {
    let rules = rules
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n  ");
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: \
         table\nrules:\n  {rules}\n"
    )
}

/// Parses a line of the list: the resource, then, each in brackets, non-resource paths, names,
/// verbs.
fn listed(line: &str) -> Rights {
    let resource = line.split_whitespace().next().unwrap_or_default();
    let lists: Vec<Vec<String>> = line
        .split('[')
        .skip(1)
        .map(|list| list_of(list.split(']').next().unwrap_or_default()))
        .collect();
    let list = |at: usize| lists.get(at).cloned().unwrap_or_default();
    combined(resource, &list(1), &list(2))
}

fn list_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn combined(resource: &str, names: &[String], verbs: &[String]) -> Rights {
    let names = if names.is_empty() {
        vec![String::new()]
    } else {
        names.to_vec()
    };
    let of_name = |name: &String| {
        verbs
            .iter()
            .map(|verb| (resource.to_owned(), name.clone(), verb.clone()))
            .collect::<Vec<_>>()
    };
    names.iter().flat_map(of_name).collect()
}

fn granted(rule: &Value) -> Rights {
    let texts = |key: &str| {
        rule[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (names, verbs) = (texts("resourceNames"), texts("verbs"));
    let mut rights = Rights::new();
    for resource in texts("resources") {
        for group in texts("apiGroups") {
            // As kubectl prints them: `jobs.batch`, `nodes`,
            // `wasmruntimes.runtime.wasmedge.dev/status`.
            let (name, part) = resource
                .split_once('/')
                .map_or((resource.as_str(), None), |(name, part)| (name, Some(part)));
            let full = if group.is_empty() {
                name.to_owned()
            } else {
                format!("{name}.{group}")
            };
            let full = part.map_or(full.clone(), |part| format!("{full}/{part}"));
            rights.extend(combined(&full, &names, &verbs));
        }
    }
    rights
}

fn installers_have_no_account(fixture: &Fixture) -> Result<()> {
    let pod = installer_pod(fixture)?;
    ensure!(
        pod["spec"]["automountServiceAccountToken"] == false,
        "its pod mounts a token"
    );
    let volumes = pod["spec"]["volumes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(
        volumes.iter().all(|volume| volume["projected"].is_null()),
        "its pod has a projected volume: {volumes:?}"
    );
    Ok(())
}

fn installer_is_not_privileged_and_mounts_only_the_paths_of_its_table(
    fixture: &Fixture,
) -> Result<()> {
    let pod = installer_pod(fixture)?;
    let spec = &pod["spec"];
    ensure!(
        spec["hostPID"].is_null() && spec["hostNetwork"].is_null() && spec["hostIPC"].is_null(),
        "it shares the host's namespaces"
    );
    let container = &spec["containers"][0];
    let context = &container["securityContext"];
    ensure!(
        context["privileged"] == false && context["readOnlyRootFilesystem"] == true,
        "{context}"
    );
    ensure!(
        context["capabilities"]["drop"] == serde_json::json!(["ALL"]),
        "{context}"
    );
    let listed = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mounts = listed(&container["volumeMounts"]);
    let sees = listed(&spec["volumes"]).into_iter().filter_map(|volume| {
        let path = volume["hostPath"]["path"].as_str()?.to_owned();
        let mount = mounts
            .iter()
            .find(|mount| mount["name"] == volume["name"])?;
        Some((
            path,
            if mount["readOnly"] == true {
                MountAccess::Read
            } else {
                MountAccess::Write
            },
        ))
    });
    let sees: BTreeSet<(String, MountAccess)> = sees.collect();
    let table: BTreeSet<_> = Distribution::Systemd
        .layout()
        .mounts()
        .into_iter()
        .map(|mount| (mount.path, mount.access))
        .collect();
    ensure!(
        sees == table,
        "it mounts {sees:?} of its node, and the table has {table:?}"
    );
    Ok(())
}

/// Waits for a pod of an installer, and returns it.
fn installer_pod(fixture: &Fixture) -> Result<Value> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&crate::runtimes::runtime(&serde_json::json!({})))?;
    let list = [
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector=app.kubernetes.io/component=installer",
        "--output=json",
    ];
    let pod = testbed::wait::until(
        "an installer's pod",
        crate::fixture::CHANGE_TIMEOUT,
        || {
            let pods: Value = serde_json::from_str(&fixture.cluster.kubectl().args(list).text()?)
                .context("read the pods")?;
            Ok(pods["items"]
                .as_array()
                .and_then(|pods| pods.first().cloned()))
        },
        || fixture.cluster.operator_evidence(),
    )?;
    fixture.up_to_date(crate::runtimes::NAME, 1)?;
    Ok(pod)
}
