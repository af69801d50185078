//! Failures on a node: it is left as it was, the rollout stops, and the status has the reason.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::fixture::{Fixture, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    archive_with_another_digest_is_refused_and_stops_the_rollout,
    failing_version_is_rolled_back_byte_for_byte,
    failing_first_version_leaves_the_node_unchanged,
    configuration_that_containerd_rejects_is_left_unchanged,
    configuration_is_restored_if_containerd_does_not_start_with_the_handler,
    full_disk_leaves_the_node_unchanged,
    foreign_handler_is_not_taken_over,
    foreign_runtime_class_blocks_until_adoption_and_is_restored,
];

/// Checks that the node works: it is Ready, containerd answers, and its configuration is unchanged.
fn check_unharmed(fixture: &Fixture, node: &str) -> Result<()> {
    let now = nodes::state(fixture, node)?;
    ensure!(
        now.configuration() == fixture.before(node).configuration(),
        "containerd's configuration:\n{}",
        fixture.before(node).difference(&now)
    );
    ensure!(
        nodes::is_ready(&fixture.get(&format!("node/{node}"))?),
        "{node} is not Ready"
    );
    fixture.cluster.in_node(node, &["ctr", "version"]).done()
}

fn archive_with_another_digest_is_refused_and_stops_the_rollout(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    let mut spec = from_url(&fixture.archives.next);
    spec["artifact"]["platforms"][0]["sha256"] = json!("0".repeat(64));
    fixture.apply(&runtime(&spec))?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("DigestMismatch"), "{message}");
    check_unharmed(fixture, fixture.first())?;
    let (first, second) = (
        fixture.takes_pods(NAME, fixture.first())?,
        fixture.takes_pods(NAME, fixture.second())?,
    );
    ensure!(!first && !second, "a node without the runtime takes pods");
    ensure!(
        !fixture.exists(&format!("wasmruntimenode/{NAME}.{}", fixture.second()))?,
        "the second node was changed after the first had failed"
    );
    // After the correction, it continues by itself.
    fixture.patch(NAME, &from_url(&fixture.archives.next))?;
    fixture.up_to_date(NAME, 2)
}

fn failing_version_is_rolled_back_byte_for_byte(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&sleeper("old", NAME, None))?;
    let container = fixture.running("old")?;
    let before = nodes::state(fixture, fixture.first())?;
    fixture.patch(NAME, &from_url(&fixture.archives.broken))?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    let after = nodes::state(fixture, fixture.first())?;
    ensure!(
        after.configuration() == before.configuration(),
        "containerd's configuration:\n{}",
        before.difference(&after)
    );
    ensure!(
        fixture.running("old")? == container,
        "a running pod was restarted"
    );
    // The previous version still works.
    ensure!(
        fixture.takes_pods(NAME, fixture.first())?,
        "the node accepts no more pods"
    );
    fixture.apply(&pod("new", NAME, &["args"], None))?;
    fixture.succeeded("new").map(drop)
}

fn failing_first_version_leaves_the_node_unchanged(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&from_url(&fixture.archives.broken)))?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    check_unharmed(fixture, fixture.first())?;
    ensure!(
        !fixture.takes_pods(NAME, fixture.first())?,
        "the node takes pods"
    );
    Ok(())
}

fn configuration_that_containerd_rejects_is_left_unchanged(fixture: &Fixture) -> Result<()> {
    let config = "/etc/containerd/config.toml";
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    let starts = [
        nodes::containerd_start(fixture, fixture.first())?,
        nodes::containerd_start(fixture, fixture.second())?,
    ];
    let shell = |script: &str| {
        fixture
            .cluster
            .in_node(fixture.first(), &["sh", "-c", script])
            .done()
    };
    shell(&format!("cp -p {config} /var/tmp/config.toml"))?;
    // containerd runs with the configuration of its start; the next start would fail. The first
    // text is not TOML; the second is, and only containerd itself detects that it cannot use it.
    let refused = |number: usize, lines: &str, text: &str| -> Result<()> {
        shell(&format!(
            "cp -p /var/tmp/config.toml {config} && printf '{lines}\\n' >> {config}"
        ))?;
        let digest = || {
            fixture
                .cluster
                .in_node(fixture.first(), &["sha256sum", config])
                .text()
        };
        let written = digest()?;
        let token = format!("try-{number}");
        if number == 0 {
            fixture.apply(&runtime(&json!({})))?;
        } else {
            retry(fixture, &token)?;
        }
        let status = wait_for_failure(
            fixture,
            fixture.first(),
            (number > 0).then_some(token.as_str()),
            text,
        )?;
        ensure!(status["reason"] == "ContainerdConfig", "{status}");
        ensure!(digest()? == written, "the admin's file was changed");
        Ok(())
    };
    let unreadable = refused(0, "this is = = no TOML", "is not valid TOML");
    let unusable = refused(
        1,
        "[debug]\nlevel = 5",
        "containerd refuses its present configuration",
    );
    shell(&format!(
        "cp -p /var/tmp/config.toml {config} && rm /var/tmp/config.toml"
    ))?;
    unreadable.and(unusable)?;
    fixture.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(
        nodes::containerd_start(fixture, fixture.first())? == starts[0],
        "containerd was restarted"
    );
    nodes::check_untouched(fixture, fixture.second(), &starts[1])?;
    check_unharmed(fixture, fixture.first())
}

fn configuration_is_restored_if_containerd_does_not_start_with_the_handler(
    fixture: &Fixture,
) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    let start = nodes::containerd_start(fixture, fixture.second())?;
    let node = || fixture.get(&format!("node/{}", fixture.first()));
    let (restarts, ready) = (
        nodes::containerd_start(fixture, fixture.first())?,
        nodes::ready_since(&node()?),
    );
    // `config dump` accepts it, the unit's check does not. Files below /run are not part of the
    // configuration.
    let folder = "/run/systemd/system/containerd.service.d";
    let check = r#"/bin/sh -c "! grep -rqs io.containerd.wasmedge.v1 /etc/containerd""#;
    let shell = |script: &str| {
        fixture
            .cluster
            .in_node(fixture.first(), &["sh", "-euc", script])
            .done()
    };
    shell(&format!(
        "mkdir -p {folder}; printf '%s\\n' '[Service]' 'ExecStartPre={check}' > \
         {folder}/check.conf; systemctl daemon-reload"
    ))?;
    fixture.apply(&runtime(&json!({})))?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped");
    let status = fixture.on_node(NAME, fixture.first());
    shell(&format!("rm -r {folder}; systemctl daemon-reload"))?;
    let (message, status) = (message?, status?);
    ensure!(message.contains("ContainerdRestart"), "{message}");
    ensure!(
        status["message"]
            .as_str()
            .is_some_and(|text| text.contains("the node is as it was before")),
        "{status}"
    );
    check_unharmed(fixture, fixture.first())?;
    ensure!(
        nodes::containerd_start(fixture, fixture.first())? != restarts,
        "containerd was not restarted, so the handler was not tried"
    );
    let now = nodes::ready_since(&node()?);
    ensure!(
        now == ready,
        "the node was Ready since {ready:?}, and is since {now:?}"
    );
    ensure!(
        !fixture.takes_pods(NAME, fixture.first())?,
        "the node takes pods"
    );
    let left = fixture
        .cluster
        .in_node(
            fixture.first(),
            &["sh", "-c", "ls /opt/wasmedge-runtime 2>&1 || true"],
        )
        .text()?;
    ensure!(left.contains("No such file"), "the attempt left {left}");
    nodes::check_untouched(fixture, fixture.second(), &start)
}

fn full_disk_leaves_the_node_unchanged(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    let shell = |script: &str| {
        fixture
            .cluster
            .in_node(fixture.first(), &["sh", "-euc", script])
            .done()
    };
    shell(
        "mkdir -p /opt/wasmedge-runtime; mount -t tmpfs -o size=4m,mode=755 tmpfs \
         /opt/wasmedge-runtime",
    )?;
    fixture.apply(&runtime(&json!({})))?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped");
    let left = fixture
        .cluster
        .in_node(
            fixture.first(),
            &["find", "/opt/wasmedge-runtime", "-size", "+100k"],
        )
        .text();
    shell("umount /opt/wasmedge-runtime; rmdir /opt/wasmedge-runtime")?;
    let message = message?;
    ensure!(message.contains("HostFiles"), "{message}");
    ensure!(left?.is_empty(), "an incomplete runtime was left");
    check_unharmed(fixture, fixture.first())?;
    // The configuration's disk is full: it has space for the existing files, and for no other.
    shell(
        "cp -a /etc/containerd /var/tmp/configuration; mount -t tmpfs -o size=256k,mode=755 tmpfs \
         /etc/containerd; \
         cp -a /var/tmp/configuration/. /etc/containerd; dd if=/dev/zero of=/etc/containerd/filler \
         bs=4k 2>/dev/null || true",
    )?;
    let status = retry(fixture, "full").and_then(|()| {
        wait_for_failure(
            fixture,
            fixture.first(),
            Some("full"),
            "No space left on device",
        )
    });
    let differs = fixture
        .cluster
        .in_node(
            fixture.first(),
            &["diff", "-r", "/var/tmp/configuration", "/etc/containerd"],
        )
        .output();
    shell("umount /etc/containerd; rm -r /var/tmp/configuration")?;
    status?;
    let differs = String::from_utf8_lossy(&differs?.stdout).into_owned();
    ensure!(
        differs.trim() == "Only in /etc/containerd: filler",
        "the configuration was changed: {differs}"
    );
    check_unharmed(fixture, fixture.first())?;
    // With space again, a user requests a retry.
    retry(fixture, "room")?;
    fixture.up_to_date(NAME, 1)
}

/// Requests a retry on the failed nodes.
fn retry(fixture: &Fixture, token: &str) -> Result<()> {
    let annotation = format!("runtime.wasmedge.dev/retry={token}");
    fixture
        .cluster
        .kubectl()
        .args(["annotate", "--overwrite", "wasmruntime", NAME, &annotation])
        .done()
}

/// Waits until the runtime has failed on a node with a message that contains `text`, after the
/// retry `token`; returns its status.
fn wait_for_failure(
    fixture: &Fixture,
    node: &str,
    token: Option<&str>,
    text: &str,
) -> Result<Value> {
    fixture.wait_for(
        &format!("wasmruntimenode/{NAME}.{node}"),
        &format!("to have failed with {text:?}"),
        |object| {
            let status = &object["status"];
            let reported = status["message"]
                .as_str()
                .is_some_and(|message| message.contains(text));
            Ok(
                (reported && status["phase"] == "Failed" && status["retryToken"].as_str() == token)
                    .then(|| status.clone()),
            )
        },
    )
}

fn foreign_handler_is_not_taken_over(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    // The node image's containerd configuration has this handler.
    let mut object = runtime(&json!({}));
    object["spec"]["runtimeClass"] = json!({ "name": "not-ours", "handler": "runc" });
    fixture.apply(&object)?;
    let message = fixture.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("HandlerTaken"), "{message}");
    check_unharmed(fixture, fixture.first())
}

fn foreign_runtime_class_blocks_until_adoption_and_is_restored(fixture: &Fixture) -> Result<()> {
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": NAME,
        "metadata": { "name": NAME, "labels": { "theirs": "yes" } },
    });
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&class)?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.condition(NAME, "Degraded", "RuntimeClassNotOurs")?;
    ensure!(
        nodes::state(fixture, fixture.first())?.configuration()
            == fixture.before(fixture.first()).configuration(),
        "the installation on the node was started"
    );
    fixture.patch(NAME, &json!({ "runtimeClass": { "adoptExisting": true } }))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&pod("adopted", NAME, &["args"], None))?;
    fixture.succeeded("adopted")?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "pod", "adopted", "--wait"])
        .done()?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, "--wait", "--timeout=180s"])
        .done()?;
    let left = fixture.get("runtimeclass/wasmedge")?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "runtimeclass", NAME])
        .done()?;
    ensure!(
        left["metadata"]["labels"] == json!({ "theirs": "yes" }),
        "its labels are {}",
        left["metadata"]["labels"]
    );
    ensure!(
        left["scheduling"].is_null() && left["overhead"].is_null(),
        "it is still changed: {left}"
    );
    Ok(())
}
