//! The ways out that `docs/operations.md` names under "Without the operator, or its image", as they
//! stand there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{REGISTRY, operator};
use testbed::helm::{self, NAMESPACE, RELEASE};
use testbed::wait;

use crate::bed::{Bed, LIMIT, tests};
use crate::nodes;
use crate::runtimes::{NAME, merge, pod};

tests![bare
    release_with_a_wrong_image_says_so_and_is_mended_or_removed,
    removal_that_lost_its_operator_is_finished_by_the_next_installation,
    pods_are_taken_right_after_helm_uninstall_and_install,
];

/// How long a reason may take to stand in a node's object.
const REASON: Duration = Duration::from_mins(1);

/// A release for one node, with `more` over its values.
fn values(more: &Value) -> Value {
    let mut values =
        json!({ "runtimes": { NAME: { "nodeSelector": { "matchLabels": { "pool": "wasm" } } } } });
    merge(&mut values, more);
    values
}

/// Helm with the values of a release that cannot have its images, without waiting for pods.
fn with_wrong_registry(bed: &Bed, verb: &str, more: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for values")?;
    let file = folder.path().join("values.json");
    let wrong = json!({ "global": { "registry": format!("{REGISTRY}/absent") } });
    std::fs::write(&file, values(&wrong).to_string()).context("write values")?;
    let run = bed
        .helm
        .on(&bed.cluster)
        .args([verb, RELEASE, "--namespace", NAMESPACE])
        .args(more)
        .arg("--values")
        .arg(&file);
    run.arg(helm::chart()).deadline(LIMIT).done()
}

fn uninstall_without_hooks(bed: &Bed) -> Result<()> {
    bed.helm
        .on(&bed.cluster)
        .args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--no-hooks"])
        .deadline(LIMIT)
        .done()
}

/// Waits until a pod of these labels cannot pull its image.
fn cannot_pull(bed: &Bed, selector: &str) -> Result<()> {
    let pods = || {
        bed.cluster
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
        format_args!("pods of {selector} to lack their image"),
        LIMIT,
        shown,
        || bed.cluster.operator_evidence(),
    )
}

fn release_with_a_wrong_image_says_so_and_is_mended_or_removed(bed: &Bed) -> Result<()> {
    let operators = "app.kubernetes.io/component=operator";
    bed.pool(bed.first(), "wasm")?;
    // The installation itself comes up, and its pods say what they lack.
    with_wrong_registry(bed, "install", &["--create-namespace"])?;
    cannot_pull(bed, operators)?;
    uninstall_without_hooks(bed)?;
    bed.wait_until_gone(&format!("wasmruntime/{NAME}"))?;

    // Mended by an upgrade, first but for the installer's image.
    with_wrong_registry(bed, "install", &[])?;
    cannot_pull(bed, operators)?;
    let wrong_installer = json!({ "installer": { "image": { "repository": "absent" } } });
    operator::upgrade(
        &bed.cluster,
        &bed.helm,
        &bed.images,
        &values(&wrong_installer),
    )?;
    let object = format!("wasmruntimenode/{NAME}.{}", bed.first());
    let since = bed.wait_for(&object, "to be installed", |node| {
        Ok((node["status"]["phase"] == "Installing").then(Instant::now))
    })?;
    let message = bed.wait_for(&object, "to say why it is not", |node| {
        Ok((node["status"]["reason"] == "NotStarted").then(|| {
            node["status"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        }))
    })?;
    ensure!(
        since.elapsed() < REASON,
        "it took {} s",
        since.elapsed().as_secs()
    );
    ensure!(
        message.contains("ErrImagePull") || message.contains("ImagePullBackOff"),
        "{message}"
    );
    ensure!(
        bed.condition(NAME, "Degraded", "InstallersWaiting")?
            .contains("absent"),
        "the image is not named"
    );
    operator::upgrade(&bed.cluster, &bed.helm, &bed.images, &values(&json!({})))?;
    bed.up_to_date(NAME, 1)?;

    // The image of the hook is gone: the runtimes go without it, and then the release.
    with_wrong_registry(bed, "upgrade", &["--set=crds.apply=false"])?;
    let uninstall = bed.helm.on(&bed.cluster).args([
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--timeout=20s",
    ]);
    ensure!(
        !uninstall.deadline(LIMIT).output()?.status.success(),
        "a hook without an image succeeded"
    );
    cannot_pull(bed, "app.kubernetes.io/component=hook")?;
    bed.cluster
        .kubectl()
        .args(["delete", "wasmruntimes", "--all", "--timeout=180s"])
        .deadline(LIMIT * 2)
        .done()?;
    uninstall_without_hooks(bed)?;
    let kinds = "jobs,serviceaccounts,clusterroles,clusterrolebindings";
    let of_hook = [
        "delete",
        kinds,
        "--selector=app.kubernetes.io/component=hook",
        "--namespace",
        NAMESPACE,
    ];
    bed.cluster.kubectl().args(of_hook).done()?;
    bed.empty_pools()?;
    bed.is_as_before()
}

fn removal_that_lost_its_operator_is_finished_by_the_next_installation(bed: &Bed) -> Result<()> {
    let install = || operator::install(&bed.cluster, &bed.helm, &bed.images, &values(&json!({})));
    let runtime = format!("wasmruntime/{NAME}");
    bed.pool(bed.first(), "wasm")?;
    install()?;
    bed.up_to_date(NAME, 1)?;
    uninstall_without_hooks(bed)?;
    let deleted = bed.get(&runtime)?["metadata"]["deletionTimestamp"].clone();
    ensure!(deleted.is_string(), "the runtime is not being deleted");
    let table = bed.cluster.kubectl().args(["get", "wasmruntimes"]).text()?;
    ensure!(table.contains("DELETING"), "{table}");
    install()?;
    bed.wait_until_gone(&runtime)?;
    let (now, before) = (nodes::state(bed, bed.first())?, bed.before(bed.first()));
    ensure!(
        now.configuration() == before.configuration(),
        "{}",
        before.difference(&now)
    );
    operator::upgrade(&bed.cluster, &bed.helm, &bed.images, &values(&json!({})))?;
    bed.up_to_date(NAME, 1)?;

    // The namespace is deleted, and the runtime is not.
    bed.cluster
        .kubectl()
        .args(["delete", "namespace", NAMESPACE, "--timeout=120s"])
        .deadline(LIMIT)
        .done()?;
    ensure!(
        bed.takes_pods(NAME, bed.first())?,
        "the node was changed without an operator"
    );
    install()?;
    bed.up_to_date(NAME, 1)?;
    operator::uninstall(&bed.cluster, &bed.helm)?;
    bed.empty_pools()?;
    bed.is_as_before()
}

fn pods_are_taken_right_after_helm_uninstall_and_install(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    for number in 0..2 {
        operator::install(&bed.cluster, &bed.helm, &bed.images, &values(&json!({})))?;
        // Refused where the RuntimeClass is not there.
        let name = format!("at-once-{number}");
        bed.apply(&pod(&name, NAME, &["args"], None))?;
        bed.succeeded(&name)?;
        bed.cluster
            .kubectl()
            .args(["delete", "pod", &name, "--wait"])
            .done()?;
        operator::uninstall(&bed.cluster, &bed.helm)?;
    }
    bed.empty_pools()?;
    bed.is_as_before()
}
