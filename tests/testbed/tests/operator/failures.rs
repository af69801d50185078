//! What goes wrong on a node leaves it as it was, stops the rollout, and is said.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bed::{Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    an_archive_with_another_digest_is_not_used_and_stops_the_rollout,
    a_version_that_does_not_work_is_rolled_back_byte_for_byte,
    a_first_version_that_does_not_work_leaves_the_node_as_it_was,
    a_configuration_that_containerd_does_not_take_is_left_alone,
    a_containerd_that_does_not_start_with_the_handler_gets_its_bytes_back,
    a_full_disk_leaves_the_node_as_it_was,
    a_handler_of_somebody_else_is_not_taken_over,
    a_class_of_somebody_else_blocks_until_it_may_be_adopted_and_comes_back,
];

/// The node works: Ready, containerd answers, and its configuration is what it was.
fn is_unharmed(bed: &Bed, node: &str) -> Result<()> {
    let now = nodes::state(bed, node)?;
    ensure!(
        now.configuration() == bed.before(node).configuration(),
        "containerd's configuration:\n{}",
        bed.before(node).difference(&now)
    );
    ensure!(
        nodes::is_ready(&bed.get(&format!("node/{node}"))?),
        "{node} is not Ready"
    );
    bed.cluster.in_node(node, &["ctr", "version"]).done()
}

fn an_archive_with_another_digest_is_not_used_and_stops_the_rollout(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    let mut spec = from_url(&bed.archives.next);
    spec["artifact"]["platforms"][0]["sha256"] = json!("0".repeat(64));
    bed.apply(&runtime(&spec))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("DigestMismatch"), "{message}");
    is_unharmed(bed, bed.first())?;
    let (first, second) = (
        bed.takes_pods(NAME, bed.first())?,
        bed.takes_pods(NAME, bed.second())?,
    );
    ensure!(!first && !second, "a node without the runtime takes pods");
    ensure!(
        !bed.is_there(&format!("wasmruntimenode/{NAME}.{}", bed.second()))?,
        "the second node was begun after the first had failed"
    );
    // Put right, it goes on by itself.
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    bed.up_to_date(NAME, 2)
}

fn a_version_that_does_not_work_is_rolled_back_byte_for_byte(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&sleeper("old", NAME, None))?;
    let container = bed.running("old")?;
    let before = nodes::state(bed, bed.first())?;
    bed.patch(NAME, &from_url(&bed.archives.broken))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    let after = nodes::state(bed, bed.first())?;
    ensure!(
        after.configuration() == before.configuration(),
        "containerd's configuration:\n{}",
        before.difference(&after)
    );
    ensure!(
        bed.running("old")? == container,
        "a running pod was restarted"
    );
    // What worked before works on.
    ensure!(
        bed.takes_pods(NAME, bed.first())?,
        "the node takes no pods any more"
    );
    bed.apply(&pod("new", NAME, &["args"], None))?;
    bed.succeeded("new").map(drop)
}

fn a_first_version_that_does_not_work_leaves_the_node_as_it_was(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&from_url(&bed.archives.broken)))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    is_unharmed(bed, bed.first())?;
    ensure!(!bed.takes_pods(NAME, bed.first())?, "the node takes pods");
    Ok(())
}

fn a_configuration_that_containerd_does_not_take_is_left_alone(bed: &Bed) -> Result<()> {
    let config = "/etc/containerd/config.toml";
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    let starts = [
        nodes::containerd_start(bed, bed.first())?,
        nodes::containerd_start(bed, bed.second())?,
    ];
    let shell = |script: &str| {
        bed.cluster
            .in_node(bed.first(), &["sh", "-c", script])
            .done()
    };
    shell(&format!("cp -p {config} /var/tmp/config.toml"))?;
    // containerd runs on what it read at its start; the next start would fail. The first is no
    // TOML, the second is, and only containerd itself knows that it cannot use it.
    let refused = |number: usize, lines: &str, words: &str| -> Result<()> {
        shell(&format!(
            "cp -p /var/tmp/config.toml {config} && printf '{lines}\\n' >> {config}"
        ))?;
        let digest = || {
            bed.cluster
                .in_node(bed.first(), &["sha256sum", config])
                .text()
        };
        let written = digest()?;
        let token = format!("try-{number}");
        if number == 0 {
            bed.apply(&runtime(&json!({})))?;
        } else {
            retry(bed, &token)?;
        }
        let status = failed_with(
            bed,
            bed.first(),
            (number > 0).then_some(token.as_str()),
            words,
        )?;
        ensure!(status["reason"] == "ContainerdConfig", "{status}");
        ensure!(digest()? == written, "the admin's file was changed");
        Ok(())
    };
    let unreadable = refused(0, "this is = = no TOML", "no TOML");
    let unusable = refused(
        1,
        "[debug]\nlevel = 5",
        "containerd does not take its present configuration",
    );
    shell(&format!(
        "cp -p /var/tmp/config.toml {config} && rm /var/tmp/config.toml"
    ))?;
    unreadable.and(unusable)?;
    bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(
        nodes::containerd_start(bed, bed.first())? == starts[0],
        "containerd was restarted"
    );
    nodes::is_untouched(bed, bed.second(), &starts[1])?;
    is_unharmed(bed, bed.first())
}

fn a_containerd_that_does_not_start_with_the_handler_gets_its_bytes_back(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    let start = nodes::containerd_start(bed, bed.second())?;
    let node = || bed.get(&format!("node/{}", bed.first()));
    let (restarts, ready) = (
        nodes::containerd_start(bed, bed.first())?,
        nodes::ready_since(&node()?),
    );
    // `config dump` is content, the unit is not. What is below /run is no part of the
    // configuration.
    let folder = "/run/systemd/system/containerd.service.d";
    let check = r#"/bin/sh -c "! grep -rqs io.containerd.wasmedge.v1 /etc/containerd""#;
    let shell = |script: &str| {
        bed.cluster
            .in_node(bed.first(), &["sh", "-euc", script])
            .done()
    };
    shell(&format!(
        "mkdir -p {folder}; printf '%s\\n' '[Service]' 'ExecStartPre={check}' > \
         {folder}/check.conf; systemctl daemon-reload"
    ))?;
    bed.apply(&runtime(&json!({})))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped");
    let status = bed.on_node(NAME, bed.first());
    shell(&format!("rm -r {folder}; systemctl daemon-reload"))?;
    let (message, status) = (message?, status?);
    ensure!(message.contains("ContainerdRestart"), "{message}");
    ensure!(
        status["message"]
            .as_str()
            .is_some_and(|text| text.contains("the node is as it was before")),
        "{status}"
    );
    is_unharmed(bed, bed.first())?;
    ensure!(
        nodes::containerd_start(bed, bed.first())? != restarts,
        "containerd was not restarted, so nothing was tried"
    );
    let now = nodes::ready_since(&node()?);
    ensure!(
        now == ready,
        "the node was Ready since {ready:?}, and is since {now:?}"
    );
    ensure!(!bed.takes_pods(NAME, bed.first())?, "the node takes pods");
    let left = bed
        .cluster
        .in_node(
            bed.first(),
            &["sh", "-c", "ls /opt/wasmedge-runtime 2>&1 || true"],
        )
        .text()?;
    ensure!(
        left.contains("No such file"),
        "of what was tried there is still {left}"
    );
    nodes::is_untouched(bed, bed.second(), &start)
}

fn a_full_disk_leaves_the_node_as_it_was(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    let shell = |script: &str| {
        bed.cluster
            .in_node(bed.first(), &["sh", "-euc", script])
            .done()
    };
    shell(
        "mkdir -p /opt/wasmedge-runtime; mount -t tmpfs -o size=4m,mode=755 tmpfs \
         /opt/wasmedge-runtime",
    )?;
    bed.apply(&runtime(&json!({})))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped");
    let left = bed
        .cluster
        .in_node(
            bed.first(),
            &["find", "/opt/wasmedge-runtime", "-size", "+100k"],
        )
        .text();
    shell("umount /opt/wasmedge-runtime; rmdir /opt/wasmedge-runtime")?;
    let message = message?;
    ensure!(message.contains("HostFiles"), "{message}");
    ensure!(left?.is_empty(), "what did not fit was left half done");
    is_unharmed(bed, bed.first())?;
    // The disk of the configuration is full: there is room for the files that are there, and for no
    // other.
    shell(
        "cp -a /etc/containerd /var/tmp/configuration; mount -t tmpfs -o size=256k,mode=755 tmpfs \
         /etc/containerd; \
         cp -a /var/tmp/configuration/. /etc/containerd; dd if=/dev/zero of=/etc/containerd/filler \
         bs=4k 2>/dev/null || true",
    )?;
    let status = retry(bed, "full")
        .and_then(|()| failed_with(bed, bed.first(), Some("full"), "No space left on device"));
    let differs = bed
        .cluster
        .in_node(
            bed.first(),
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
    is_unharmed(bed, bed.first())?;
    // With room again, a person asks for another try.
    retry(bed, "room")?;
    bed.up_to_date(NAME, 1)
}

/// Asks for another try on the nodes that failed.
fn retry(bed: &Bed, token: &str) -> Result<()> {
    let annotation = format!("runtime.wasmedge.dev/retry={token}");
    bed.cluster
        .kubectl()
        .args(["annotate", "--overwrite", "wasmruntime", NAME, &annotation])
        .done()
}

/// Waits until the runtime has failed on a node with these words, after it was asked for by
/// `token`; gives what the operator says of it.
fn failed_with(bed: &Bed, node: &str, token: Option<&str>, words: &str) -> Result<Value> {
    bed.wait_for(
        &format!("wasmruntimenode/{NAME}.{node}"),
        &format!("to have failed with {words:?}"),
        |object| {
            let status = &object["status"];
            let told = status["message"]
                .as_str()
                .is_some_and(|message| message.contains(words));
            Ok(
                (told && status["phase"] == "Failed" && status["retryToken"].as_str() == token)
                    .then(|| status.clone()),
            )
        },
    )
}

fn a_handler_of_somebody_else_is_not_taken_over(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    // The node image's containerd knows this one by its own configuration.
    let mut object = runtime(&json!({}));
    object["spec"]["runtimeClass"] = json!({ "name": "not-ours", "handler": "runc" });
    bed.apply(&object)?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("HandlerTaken"), "{message}");
    is_unharmed(bed, bed.first())
}

fn a_class_of_somebody_else_blocks_until_it_may_be_adopted_and_comes_back(bed: &Bed) -> Result<()> {
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": NAME,
        "metadata": { "name": NAME, "labels": { "theirs": "yes" } },
    });
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&class)?;
    bed.apply(&runtime(&json!({})))?;
    bed.condition(NAME, "Degraded", "RuntimeClassNotOurs")?;
    ensure!(
        nodes::state(bed, bed.first())?.configuration() == bed.before(bed.first()).configuration(),
        "the node was begun"
    );
    bed.patch(NAME, &json!({ "runtimeClass": { "adoptExisting": true } }))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("adopted", NAME, &["args"], None))?;
    bed.succeeded("adopted")?;
    bed.cluster
        .kubectl()
        .args(["delete", "pod", "adopted", "--wait"])
        .done()?;
    bed.cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, "--wait", "--timeout=180s"])
        .done()?;
    let left = bed.get("runtimeclass/wasmedge")?;
    bed.cluster
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
