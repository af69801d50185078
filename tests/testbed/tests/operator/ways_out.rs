//! The workarounds in `docs/operations.md` under "Without the operator, or its image", run exactly
//! as written.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{REGISTRY, operator};
use testbed::helm::{self, NAMESPACE, RELEASE};
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture, tests};
use crate::nodes;
use crate::runtimes::{NAME, merge, pod};

tests![bare
    release_with_a_wrong_image_reports_it_and_is_repaired_or_removed,
    removal_that_lost_its_operator_is_finished_by_the_next_installation,
    pods_are_accepted_right_after_helm_uninstall_and_install,
];

/// Timeout for a reason to be in a node's object.
const REASON_TIMEOUT: Duration = Duration::from_mins(1);

/// Returns values of a release for one node, with `more` over them.
fn values(more: &Value) -> Value {
    let mut values =
        json!({ "runtimes": { NAME: { "nodeSelector": { "matchLabels": { "pool": "wasm" } } } } });
    merge(&mut values, more);
    values
}

/// Runs Helm with a registry that lacks the images, without waiting for pods.
fn with_wrong_registry(fixture: &Fixture, verb: &str, more: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for values")?;
    let file = folder.path().join("values.json");
    let wrong = json!({ "global": { "registry": format!("{REGISTRY}/absent") } });
    std::fs::write(&file, values(&wrong).to_string()).context("write values")?;
    let run = fixture
        .helm
        .on(&fixture.cluster)
        .args([verb, RELEASE, "--namespace", NAMESPACE])
        .args(more)
        .arg("--values")
        .arg(&file);
    run.arg(helm::chart()).deadline(CHANGE_TIMEOUT).done()
}

fn uninstall_without_hooks(fixture: &Fixture) -> Result<()> {
    fixture
        .helm
        .on(&fixture.cluster)
        .args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--no-hooks"])
        .deadline(CHANGE_TIMEOUT)
        .done()
}

/// Waits until a pod of these labels cannot pull its image.
fn cannot_pull(fixture: &Fixture, selector: &str) -> Result<()> {
    let pods = || {
        fixture
            .cluster
            .kubectl()
            .args([
                "--namespace",
                NAMESPACE,
                "get",
                "pods",
                "--selector",
                selector,
            ])
            .text()
    };
    let shown = || Ok(pods()?.contains("ImagePull").then_some(()));
    wait::until(
        format_args!("pods of {selector} to fail to pull their image"),
        CHANGE_TIMEOUT,
        shown,
        || fixture.cluster.operator_evidence(),
    )
}

fn release_with_a_wrong_image_reports_it_and_is_repaired_or_removed(
    fixture: &Fixture,
) -> Result<()> {
    let operators = "app.kubernetes.io/component=operator";
    fixture.pool(fixture.first(), "wasm")?;
    // The installation itself succeeds, and its pods report the missing image.
    with_wrong_registry(fixture, "install", &["--create-namespace"])?;
    cannot_pull(fixture, operators)?;
    uninstall_without_hooks(fixture)?;
    fixture.wait_until_gone(&format!("wasmruntime/{NAME}"))?;

    // Repaired by an upgrade, at first without the installer's image.
    with_wrong_registry(fixture, "install", &[])?;
    cannot_pull(fixture, operators)?;
    let wrong_installer = json!({ "installer": { "image": { "repository": "absent" } } });
    operator::upgrade(
        &fixture.cluster,
        &fixture.helm,
        &fixture.images,
        &values(&wrong_installer),
    )?;
    let object = format!("wasmruntimenode/{NAME}.{}", fixture.first());
    let since = fixture.wait_for(&object, "to be installed", |node| {
        Ok((node["status"]["phase"] == "Installing").then(Instant::now))
    })?;
    let message = fixture.wait_for(&object, "to report why it is not", |node| {
        Ok((node["status"]["reason"] == "NotStarted").then(|| {
            node["status"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        }))
    })?;
    ensure!(
        since.elapsed() < REASON_TIMEOUT,
        "it took {} s",
        since.elapsed().as_secs()
    );
    ensure!(
        message.contains("ErrImagePull") || message.contains("ImagePullBackOff"),
        "{message}"
    );
    ensure!(
        fixture
            .condition(NAME, "Degraded", "InstallersWaiting")?
            .contains("absent"),
        "the image is not named"
    );
    operator::upgrade(
        &fixture.cluster,
        &fixture.helm,
        &fixture.images,
        &values(&json!({})),
    )?;
    fixture.up_to_date(NAME, 1)?;

    // The hook's image is missing: the runtimes are removed without it, and then the release.
    with_wrong_registry(fixture, "upgrade", &["--set=crds.apply=false"])?;
    let uninstall = fixture.helm.on(&fixture.cluster).args([
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--timeout=20s",
    ]);
    ensure!(
        !uninstall
            .deadline(CHANGE_TIMEOUT)
            .output()?
            .status
            .success(),
        "a hook without an image succeeded"
    );
    cannot_pull(fixture, "app.kubernetes.io/component=hook")?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "wasmruntimes", "--all", "--timeout=180s"])
        .deadline(CHANGE_TIMEOUT * 2)
        .done()?;
    uninstall_without_hooks(fixture)?;
    let kinds = "jobs,serviceaccounts,clusterroles,clusterrolebindings";
    let of_hook = [
        "delete",
        kinds,
        "--selector=app.kubernetes.io/component=hook",
        "--namespace",
        NAMESPACE,
    ];
    fixture.cluster.kubectl().args(of_hook).done()?;
    fixture.empty_pools()?;
    fixture.check_unchanged()
}

fn removal_that_lost_its_operator_is_finished_by_the_next_installation(
    fixture: &Fixture,
) -> Result<()> {
    let install = || {
        operator::install(
            &fixture.cluster,
            &fixture.helm,
            &fixture.images,
            &values(&json!({})),
        )
    };
    let runtime = format!("wasmruntime/{NAME}");
    fixture.pool(fixture.first(), "wasm")?;
    install()?;
    fixture.up_to_date(NAME, 1)?;
    uninstall_without_hooks(fixture)?;
    let deleted = fixture.get(&runtime)?["metadata"]["deletionTimestamp"].clone();
    ensure!(deleted.is_string(), "the runtime is not being deleted");
    let table = fixture
        .cluster
        .kubectl()
        .args(["get", "wasmruntimes"])
        .text()?;
    ensure!(table.contains("DELETING"), "{table}");
    install()?;
    fixture.wait_until_gone(&runtime)?;
    let (now, before) = (
        nodes::state(fixture, fixture.first())?,
        fixture.before(fixture.first()),
    );
    ensure!(
        now.configuration() == before.configuration(),
        "{}",
        before.difference(&now)
    );
    operator::upgrade(
        &fixture.cluster,
        &fixture.helm,
        &fixture.images,
        &values(&json!({})),
    )?;
    fixture.up_to_date(NAME, 1)?;

    // The namespace is deleted, and the runtime is not.
    fixture
        .cluster
        .kubectl()
        .args(["delete", "namespace", NAMESPACE, "--timeout=120s"])
        .deadline(CHANGE_TIMEOUT)
        .done()?;
    ensure!(
        fixture.takes_pods(NAME, fixture.first())?,
        "the node was changed without an operator"
    );
    install()?;
    fixture.up_to_date(NAME, 1)?;
    operator::uninstall(&fixture.cluster, &fixture.helm)?;
    fixture.empty_pools()?;
    fixture.check_unchanged()
}

fn pods_are_accepted_right_after_helm_uninstall_and_install(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    for number in 0..2 {
        operator::install(
            &fixture.cluster,
            &fixture.helm,
            &fixture.images,
            &values(&json!({})),
        )?;
        // Refused if the RuntimeClass does not exist.
        let name = format!("at-once-{number}");
        fixture.apply(&pod(&name, NAME, &["args"], None))?;
        fixture.succeeded(&name)?;
        fixture
            .cluster
            .kubectl()
            .args(["delete", "pod", &name, "--wait"])
            .done()?;
        operator::uninstall(&fixture.cluster, &fixture.helm)?;
    }
    fixture.empty_pools()?;
    fixture.check_unchanged()
}
