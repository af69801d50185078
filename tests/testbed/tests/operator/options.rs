//! Changed options of the runtime: rolled out to nodes like a new version, without effect on
//! running pods.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture, NAMESPACE, tests};
use crate::nodes;
use crate::runtimes::{NAME, pod, runtime, sleeper};

tests![
    changed_option_restarts_containerd_and_leaves_pods_running,
    sandboxer_can_be_changed_and_pods_of_both_kinds_keep_running,
    pod_with_a_user_namespace_runs_on_an_installed_node,
];

/// Reads the options of the runtime's handler: from the file beside the launcher that containerd
/// executes, and from nowhere else.
fn options(fixture: &Fixture) -> Result<toml::Table> {
    let handler = handler(fixture)?;
    ensure!(
        handler
            .get("options")
            .and_then(toml::Value::as_table)
            .is_none_or(toml::Table::is_empty),
        "a table: {handler}"
    );
    let launcher = handler
        .get("runtime_path")
        .and_then(toml::Value::as_str)
        .context("the handler has no launcher")?;
    let file = Path::new(launcher)
        .with_file_name("options.toml")
        .display()
        .to_string();
    fixture
        .cluster
        .in_node(fixture.first(), &["cat", &file])
        .text()?
        .parse()
        .with_context(|| format!("read {file}"))
}

/// Reads the runtime's handler from containerd's configuration.
fn handler(fixture: &Fixture) -> Result<toml::Table> {
    let text = fixture
        .cluster
        .in_node(fixture.first(), &["containerd", "config", "dump"])
        .text()?;
    let document: toml::Table = text.parse().context("read containerd's configuration")?;
    let path = [
        "plugins",
        "io.containerd.cri.v1.runtime",
        "containerd",
        "runtimes",
        NAME,
    ];
    let found = path
        .iter()
        .try_fold(&document, |table, key| table.get(*key)?.as_table());
    found
        .cloned()
        .with_context(|| format!("containerd has no handler {NAME}: {text}"))
}

fn changed_option_restarts_containerd_and_leaves_pods_running(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&sleeper("old", NAME, None))?;
    let container = fixture.running("old")?;
    let start = nodes::containerd_start(fixture, fixture.first())?;
    // A pod's sandbox counts too: the limit admits one more pod, and the smoke guest.
    fixture.patch(
        NAME,
        &json!({ "runtime": { "logLevel": "Debug", "maxContainers": 4 } }),
    )?;
    fixture.up_to_date(NAME, 1)?;
    ensure!(
        nodes::containerd_start(fixture, fixture.first())? != start,
        "containerd was not restarted"
    );
    ensure!(
        fixture.running("old")? == container,
        "the pod was restarted"
    );
    let options = options(fixture)?;
    let found = (
        options.get("log_level").and_then(toml::Value::as_str),
        options
            .get("max_containers")
            .and_then(toml::Value::as_integer),
    );
    ensure!(found == (Some("debug"), Some(4)), "{options}");

    fixture.apply(&sleeper("second", NAME, None))?;
    fixture.running("second")?;
    fixture.apply(&sleeper("third", NAME, None))?;
    wait_for_event_with(fixture, "third", "which is what max_containers allows")?;
    fixture.patch(NAME, &json!({ "runtime": { "maxContainers": 100 } }))?;
    fixture.running("third")?;
    fixture.up_to_date(NAME, 1)?;

    fixture.patch(NAME, &json!({ "runtime": null }))?;
    fixture.up_to_date(NAME, 1)?;
    let left = self::options(fixture)?;
    ensure!(
        left.keys().eq(["SystemdCgroup"]),
        "default values are written: {left}"
    );
    ensure!(
        fixture.running("old")? == container,
        "the pod was restarted"
    );
    Ok(())
}

fn sandboxer_can_be_changed_and_pods_of_both_kinds_keep_running(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&sleeper("by-containerd", NAME, None))?;
    let mut containers = vec![("by-containerd", fixture.running("by-containerd")?)];
    for (sandboxer, sleeps, ends) in [
        ("Shim", "by-shim", "ends-there"),
        ("PodSandbox", "by-containerd-again", "ends-here"),
    ] {
        fixture.patch(NAME, &json!({ "containerd": { "sandboxer": sandboxer } }))?;
        fixture.up_to_date(NAME, 1)?;
        let key = handler(fixture)?
            .get("sandboxer")
            .and_then(toml::Value::as_str)
            .map(str::to_owned);
        ensure!(
            (key.as_deref() == Some("shim")) == (sandboxer == "Shim"),
            "the sandboxer {sandboxer} is written as {key:?}"
        );
        fixture.apply(&sleeper(sleeps, NAME, None))?;
        containers.push((sleeps, fixture.running(sleeps)?));
        fixture.apply(&pod(ends, NAME, &["args"], None))?;
        fixture.succeeded(ends)?;
        for (name, container) in &containers {
            ensure!(
                fixture.running(name)? == *container,
                "the pod {name} was restarted"
            );
        }
    }
    Ok(())
}

/// Waits for an Event of a pod that contains `text`.
fn wait_for_event_with(fixture: &Fixture, pod: &str, text: &str) -> Result<()> {
    let of_pod = format!("--field-selector=involvedObject.name={pod}");
    let published = || {
        let events = fixture
            .cluster
            .kubectl()
            .args([
                "--namespace",
                NAMESPACE,
                "get",
                "events",
                &of_pod,
                "--output=json",
            ])
            .text()?;
        let events: Value = serde_json::from_str(&events).context("read a pod's Events")?;
        let mut messages = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["message"].as_str());
        Ok(messages.any(|message| message.contains(text)).then_some(()))
    };
    wait::until(
        format_args!("an Event of the pod {pod} with {text:?}"),
        CHANGE_TIMEOUT,
        published,
        || fixture.cluster.evidence(Some(NAMESPACE)),
    )
}

fn pod_with_a_user_namespace_runs_on_an_installed_node(fixture: &Fixture) -> Result<()> {
    let node = fixture.first();
    fixture.pool(node, "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    let mut pod = sleeper("users", NAME, None);
    pod["spec"]["hostUsers"] = json!(false);
    fixture.apply(&pod)?;
    let container = fixture.running("users")?;
    let tasks = fixture
        .cluster
        .in_node(node, &["ctr", "--namespace", "k8s.io", "tasks", "list"])
        .text()?;
    let pid = tasks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first().is_some_and(|id| container.ends_with(id)))
        .and_then(|words| words.get(1).copied())
        .with_context(|| format!("{container} is not in {tasks}"))?;
    let map = fixture
        .cluster
        .in_node(node, &["cat", &format!("/proc/{pid}/uid_map")])
        .text()?;
    let first = map.split_whitespace().nth(1).map(str::parse::<u32>);
    ensure!(
        first
            .as_ref()
            .is_some_and(|first| first.as_ref().is_ok_and(|first| *first >= 1 << 16)),
        "root of the pod is root of the node: {map}"
    );
    Ok(())
}
