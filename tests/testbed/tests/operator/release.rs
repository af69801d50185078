//! A release of the chart: README's tour on a cluster that has never had the runtime, an upgrade
//! and a rollback by Helm, and a complete `helm uninstall`.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::operator;
use testbed::examples;
use testbed::helm::NAMESPACE;
use testbed::tour::{self, Shell};
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture, tests};
use crate::nodes;
use crate::rights::{self, Rights};
use crate::runtimes::{NAME, from_url, merge, sleeper};

tests![bare
    readme_tour_works_as_written_and_leaves_the_nodes_unchanged,
    helm_upgrade_and_rollback_change_only_their_part_and_uninstall_leaves_nothing,
];

/// The line of the smoke guest in the output of `helm test`.
const GUEST_LINE: &str = "a guest ran: this node has the runtime";
/// Timeout for removed objects and processes to be gone: a host that is not used any more exits
/// after a while.
const REMOVAL_TIMEOUT: Duration = Duration::from_mins(1);
/// The kinds of a release's objects.
const KINDS: &str = "deployments,replicasets,pods,jobs,services,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,\
                     poddisruptionbudgets,networkpolicies";
/// The objects in its namespace after an uninstallation, as documented in `docs/operations.md`:
/// those that Kubernetes creates in every namespace, and the Lease.
const REMAINING_OBJECTS: &[&str] = &[
    "configmap/kube-root-ca.crt",
    "lease.coordination.k8s.io/wasmedge-operator",
    "serviceaccount/default",
];

fn readme_tour_works_as_written_and_leaves_the_nodes_unchanged(fixture: &Fixture) -> Result<()> {
    let shell = Shell::of(&fixture.cluster, &fixture.helm)?;
    let hello = &examples::ALL[0];
    let log = tour::run(&fixture.cluster, &shell)?;
    ensure!(
        log.trim_end() == hello.expected()?.trim_end(),
        "the log of {} is {log:?}",
        hello.name
    );
    fixture.up_to_date(NAME, 2)?;
    let tested = tour::run_further(&fixture.cluster, &shell, "helm test")?;
    ensure!(tested.contains(GUEST_LINE), "helm test printed {tested}");
    let hook = [
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector=app.kubernetes.io/component=test",
        "--output=name",
    ];
    let there = || fixture.cluster.kubectl().args(hook).text();
    wait::until(
        "the pod of helm test to be gone",
        REMOVAL_TIMEOUT,
        || Ok(there()?.is_empty().then_some(())),
        || fixture.cluster.operator_evidence(),
    )?;
    tour::run_further(&fixture.cluster, &shell, "helm uninstall")?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "--filename"])
        .arg(hello.pod())
        .done()?;
    fixture.check_unchanged()?;
    check_nothing_left(fixture)
}

fn helm_upgrade_and_rollback_change_only_their_part_and_uninstall_leaves_nothing(
    fixture: &Fixture,
) -> Result<()> {
    let values = |level: &str, spec: &Value| {
        let mut runtime = json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } } });
        merge(&mut runtime, spec);
        json!({ "log": { "level": level }, "runtimes": { NAME: runtime } })
    };
    let upgrade = |values: &Value| {
        operator::upgrade(&fixture.cluster, &fixture.helm, &fixture.images, values)
    };
    fixture.pool(fixture.first(), "wasm")?;
    operator::install(
        &fixture.cluster,
        &fixture.helm,
        &fixture.images,
        &values("info", &json!({})),
    )?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&sleeper("busy", NAME, None))?;
    let container = fixture.running("busy")?;
    let is_undisturbed = |after: &str| {
        ensure!(
            fixture.running("busy")? == container,
            "the pod has another container after {after}"
        );
        ensure!(
            fixture.takes_pods(NAME, fixture.first())?,
            "the node takes no pods after {after}"
        );
        anyhow::Ok(())
    };

    // Only the operator changes: one of its two replicas is always available, and no node is
    // changed.
    let (node, before) = (fixture.on_node(NAME, fixture.first())?, starts(fixture)?);
    let seen = while_it_runs(fixture, || upgrade(&values("debug", &json!({}))))?;
    ensure!(
        seen.fewest >= 1,
        "during the upgrade there were {} available replicas of the operator",
        seen.fewest
    );
    rights::expect_rights(&seen.hook, &rights::table(fixture, "crds-hook-rules.yaml")?)?;
    fixture.wait_for_operator()?;
    fixture.up_to_date(NAME, 1)?;
    ensure!(
        fixture.on_node(NAME, fixture.first())? == node && starts(fixture)? == before,
        "a node was changed"
    );
    is_undisturbed("an upgrade of the operator")?;

    // The runtime changes, and is rolled back.
    let version = || anyhow::Ok(fixture.on_node(NAME, fixture.first())?["version"].clone());
    upgrade(&values("debug", &from_url(&fixture.archives.next)))?;
    fixture.up_to_date(NAME, 1)?;
    ensure!(
        version()? == fixture.archives.next.version.as_str(),
        "after helm upgrade the node has {}",
        version()?
    );
    is_undisturbed("an upgrade of the runtime")?;
    operator::rollback(&fixture.cluster, &fixture.helm)?;
    fixture.up_to_date(NAME, 1)?;
    ensure!(
        version()? == fixture.archives.current.version.as_str(),
        "after helm rollback the node has {}",
        version()?
    );
    is_undisturbed("the rollback")?;

    check_removal_waits_for_the_last_pod(fixture, &container)?;
    fixture.empty_pools()?;
    fixture.check_unchanged()?;
    check_nothing_left(fixture)
}

/// Checks that `helm uninstall` waits for a pod of the runtime, and removes everything when that is
/// gone.
fn check_removal_waits_for_the_last_pod(fixture: &Fixture, container: &str) -> Result<()> {
    thread::scope(|scope| {
        let removal = scope.spawn(|| operator::uninstall(&fixture.cluster, &fixture.helm));
        let waits = || {
            let message = fixture.condition(NAME, "Degraded", "RemovalBlocked")?;
            ensure!(message.contains("InUse"), "{message}");
            let may = rights::may(fixture, "wasmedge-operator-remove", NAMESPACE)?;
            rights::expect_rights(&may, &rights::table(fixture, "remove-hook-rules.yaml")?)?;
            ensure!(
                fixture.running("busy")? == container,
                "the pod was disturbed"
            );
            ensure!(!removal.is_finished(), "helm did not wait for the pod");
            Ok(())
        };
        let waited = waits();
        let deleted = fixture
            .cluster
            .kubectl()
            .args(["delete", "pod", "busy", "--wait"])
            .done();
        let removed = removal
            .join()
            .map_err(|_| anyhow::anyhow!("helm uninstall panicked"))?;
        waited.and(deleted).and(removed)
    })
}

/// Observations of the release while Helm changed it.
struct Observed {
    /// The smallest number of available replicas of the operator.
    fewest: u64,
    /// The rights of the hook that applies the CRDs.
    hook: Rights,
}

/// Runs `work`, and observes the release until it is done.
fn while_it_runs(fixture: &Fixture, work: impl FnOnce() -> Result<()> + Send) -> Result<Observed> {
    let mut seen = Observed {
        fewest: u64::MAX,
        hook: Rights::new(),
    };
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let look = || {
            let deployment = fixture
                .cluster
                .get(NAMESPACE, "deployment/wasmedge-operator")?
                .context("there is no operator")?;
            seen.fewest = seen.fewest.min(
                deployment["status"]["availableReplicas"]
                    .as_u64()
                    .unwrap_or(0),
            );
            seen.hook
                .extend(rights::may(fixture, "wasmedge-operator-crds", NAMESPACE)?);
            Ok(work.is_finished().then_some(()))
        };
        let looked = wait::until("helm to end", CHANGE_TIMEOUT, look, || {
            fixture.cluster.operator_evidence()
        });
        work.join()
            .map_err(|_| anyhow::anyhow!("the work panicked"))?
            .and(looked)
    })?;
    Ok(seen)
}

/// Returns the start time of each node's containerd.
fn starts(fixture: &Fixture) -> Result<Vec<String>> {
    fixture
        .cluster
        .nodes()
        .iter()
        .map(|node| nodes::containerd_start(fixture, node))
        .collect()
}

/// Checks that a removed release leaves only the documented objects, and nothing that runs on the
/// nodes.
fn check_nothing_left(fixture: &Fixture) -> Result<()> {
    let names = |args: &[&str]| -> Result<BTreeSet<String>> {
        Ok(fixture
            .cluster
            .kubectl()
            .arg("get")
            .args(args)
            .arg("--output=name")
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    };
    let kept: BTreeSet<String> = REMAINING_OBJECTS
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    let there = || names(&["--namespace", NAMESPACE, KINDS]);
    wait::until(
        "the namespace to hold only the documented objects",
        REMOVAL_TIMEOUT,
        || Ok((there()? == kept).then_some(())),
        || format!("{:?}", there()),
    )?;
    let of_chart = "--selector=app.kubernetes.io/name=wasmedge-operator";
    let roles = names(&["clusterroles,clusterrolebindings", of_chart])?;
    ensure!(roles.is_empty(), "still there: {roles:?}");
    let definitions = names(&["customresourcedefinitions"])?;
    ensure!(
        definitions.len() == 2,
        "the API's definitions are {definitions:?}"
    );
    for node in fixture.cluster.nodes() {
        let left = || {
            fixture
                .cluster
                .in_node(node, &["sh", "-c", LEFTOVERS_SCRIPT])
                .text()
        };
        wait::until(
            format_args!("nothing to run on {node}"),
            REMOVAL_TIMEOUT,
            || Ok(left()?.is_empty().then_some(())),
            || format!("{:?}", left()),
        )?;
    }
    Ok(())
}

/// Lists what may still run on a node: this project's units, processes from a runtime's folder, and
/// a host's records of containers.
const LEFTOVERS_SCRIPT: &str = "systemctl list-units --all --plain --no-legend 'wasmedge-runtime-*'
grep -ls wasmedge-runtime /proc/[0-9]*/maps
find /run/containerd/wasmedge -type f 2>/dev/null
grep -ls wasmedge-runtime /run/containerd/io.containerd.*/*/*/shim-binary-path
true";
