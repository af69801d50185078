//! Objects over their life: defaults, immutable fields, status, columns.

use serde_json::{Value, json};

use crate::fixture::{answer, create, kubectl, runtime, text, try_create, try_replace};

/// Creates a runtime with the first spec, and tries to change it to the second.
fn change(name: &str, before: &Value, after: &Value) -> Result<Value, String> {
    create(&runtime(name, before))?;
    try_replace(&runtime(name, after))
}

fn refuses(name: &str, before: &Value, after: &Value, message: &str) {
    let answer = change(name, before, after);
    assert!(
        answer
            .as_ref()
            .is_err_and(|refusal| refusal.contains(message)),
        "not refused with {message:?}: {answer:?}"
    );
}

fn set_status(kind: &str, name: &str, status: &Value) -> Result<Value, String> {
    let patch = json!({"status": status}).to_string();
    answer(kubectl().args([
        "patch",
        kind,
        name,
        "--subresource=status",
        "--type=merge",
        "-o",
        "json",
        "-p",
        &patch,
    ]))
}

#[test]
fn missing_fields_get_defaults() {
    let stored = try_create(&runtime("defaults", &json!({}))).unwrap();
    let expected = json!({
        "nodeSelector": {},
        "runtimeClass": {
            "name": "wasmedge",
            "handler": "wasmedge",
            "overhead": {"cpu": "10m", "memory": "4Mi"},
            "adoptExisting": false,
        },
        "artifact": {},
        "containerd": {"mode": "Auto", "systemdCgroup": "Auto", "sandboxer": "PodSandbox",
        "paths": {}},
        "runtime": {
            "grouping": "Node", "logLevel": "Info",
            "engine": "Auto", "mode": "Aot", "compile": "Tiered", "compileWait": "10s",
            "artifactStore": "/var/lib/wasmedge-runtime/artifacts",
            "artifactStoreMaxMiB": 10240, "artifactStoreMaxDiskPercent": 10,
            "compileJobs": 1, "compileMemoryMiB": 3072, "compileCpuSeconds": 3600,
        },
        "rollout": {"canary": 1, "maxUnavailable": 1, "failureThreshold": 1, "paused": false,
        "nodeTimeoutSeconds": 1200},
        "uninstallPolicy": "Remove",
    });
    assert_eq!(stored["spec"], expected);
}

#[test]
fn partial_structs_get_the_other_defaults() {
    let spec = json!({"runtimeClass": {"handler": "wasm"}, "rollout": {"paused": true},
        "containerd": {"mode": "DropIn"}});
    let stored = try_create(&runtime("partly", &spec)).unwrap();
    assert_eq!(stored["spec"]["runtimeClass"]["name"], "wasmedge");
    assert_eq!(stored["spec"]["runtimeClass"]["overhead"]["cpu"], "10m");
    assert_eq!(stored["spec"]["rollout"]["maxUnavailable"], 1);
    assert_eq!(stored["spec"]["containerd"]["systemdCgroup"], "Auto");
}

#[test]
fn null_is_treated_as_missing() {
    let spec = json!({
        "rollout": {"maxUnavailable": null, "canary": null},
        "containerd": {"paths": {"config": null}},
        "artifact": {"platforms": null},
    });
    let stored = try_create(&runtime("nulls", &spec)).unwrap();
    assert_eq!(stored["spec"]["rollout"]["maxUnavailable"], 1);
    assert_eq!(stored["spec"]["rollout"]["canary"], 1);
    assert_eq!(stored["spec"]["containerd"]["paths"], json!({}));
}

#[test]
fn names_that_pods_and_nodes_use_are_immutable() {
    let class = |field: &str, value: &str| json!({"runtimeClass": {field: value}});
    refuses(
        "rename-class",
        &class("name", "a"),
        &class("name", "b"),
        "the RuntimeClass's name cannot be changed",
    );
    refuses(
        "forget-class",
        &class("name", "a"),
        &json!({}),
        "the RuntimeClass's name cannot be changed",
    );
    refuses(
        "rename-handler",
        &class("handler", "a"),
        &class("handler", "b"),
        "the handler cannot be changed",
    );
}

#[test]
fn paths_that_were_written_to_are_immutable() {
    let paths = |field: &str, path: &str| json!({"containerd": {"paths": {field: path}}});
    for field in ["config", "install"] {
        let message = format!("{field} cannot be changed");
        refuses(
            &format!("move-{field}"),
            &paths(field, "/opt/a"),
            &paths(field, "/opt/b"),
            &message,
        );
        refuses(
            &format!("move-{field}-away"),
            &json!({}),
            &paths(field, "/opt/b"),
            &message,
        );
        refuses(
            &format!("move-{field}-back"),
            &paths(field, "/opt/a"),
            &json!({}),
            &message,
        );
    }
}

#[test]
fn other_fields_are_mutable() {
    let before = json!({"runtimeClass": {"name": "a", "handler": "a"},
        "containerd": {"paths": {"install": "/opt"}}});
    let mut after = before.clone();
    after["runtimeClass"]["overhead"] = json!({"cpu": "20m"});
    after["runtimeClass"]["adoptExisting"] = json!(true);
    after["containerd"]["mode"] = json!("Preinstalled");
    after["containerd"]["paths"]["unit"] = json!("my-containerd.service");
    after["containerd"]["paths"]["socket"] = json!("/run/my/containerd.sock");
    after["rollout"] = json!({"paused": true, "maxUnavailable": "10%"});
    after["nodeSelector"] = json!({"matchLabels": {"pool": "wasm"}});
    after["startupTaints"] = json!([{"key": "starting"}]);
    after["uninstallPolicy"] = json!("Retain");
    change("change", &before, &after).unwrap();
}

#[test]
fn columns_of_a_runtime_show_its_state() {
    create(&runtime(
        "columns",
        &json!({"runtimeClass": {"name": "wasm"}}),
    ))
    .unwrap();
    let condition = json!({"type": "Available", "status": "True", "reason": "NodesReady",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({
        "observedGeneration": 1,
        "state": "rolling out",
        "hash": "abc",
        "version": "0.1.0",
        "nodes": {"desired": 4, "ready": 3, "updated": 2, "failed": 1},
        "conditions": [condition],
    });
    let stored = set_status("wasmruntime", "columns", &status).unwrap();
    assert_eq!(stored["status"]["nodes"]["unsupported"], 0);
    let table = text(
        &kubectl()
            .args(["get", "wrt", "columns"])
            .output()
            .unwrap()
            .stdout,
    );
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("   ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        [
            "NAME", "VERSION", "CLASS", "NODES", "READY", "UPDATED", "FAILED", "STATE", "DELETING",
            "AGE"
        ]
    );
    assert_eq!(
        lines[1][..8],
        [
            "columns",
            "0.1.0",
            "wasm",
            "4",
            "3",
            "2",
            "1",
            "rolling out"
        ]
    );
    let twice = json!({"conditions": [condition, condition]});
    assert!(
        set_status("wasmruntime", "columns", &twice)
            .unwrap_err()
            .contains("Duplicate value")
    );
}

#[test]
fn columns_of_a_node_show_its_state() {
    let node = |node: &str| {
        json!({"apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntimeNode",
            "metadata": {"name": "wasmedge.worker"},
            "spec": {"runtime": "wasmedge", "node": node}})
    };
    create(&node("worker")).unwrap();
    let status = json!({"phase": "Failed", "version": "0.1.0", "reason": "SmokeFailed",
        "attempts": 2, "since": "2026-01-01T00:00:00Z"});
    set_status("wasmruntimenode", "wasmedge.worker", &status).unwrap();
    let table = text(
        &kubectl()
            .args(["get", "wrn", "wasmedge.worker"])
            .output()
            .unwrap()
            .stdout,
    );
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "NAME", "RUNTIME", "NODE", "PHASE", "VERSION", "REASON", "ATTEMPTS", "SINCE"
        ]
    );
    assert_eq!(
        lines[1][..7],
        [
            "wasmedge.worker",
            "wasmedge",
            "worker",
            "Failed",
            "0.1.0",
            "SmokeFailed",
            "2"
        ]
    );
    let refusal = try_replace(&node("another")).unwrap_err();
    assert!(
        refusal.contains("runtime and node of a WasmRuntimeNode cannot be changed"),
        "{refusal}"
    );
    let refusal = set_status(
        "wasmruntimenode",
        "wasmedge.worker",
        &json!({"phase": "Lost"}),
    )
    .unwrap_err();
    assert!(
        refusal.contains("status.phase: Unsupported value"),
        "{refusal}"
    );
}

#[test]
fn only_the_status_subresource_sets_the_status() {
    let mut object = runtime("statusless", &json!({}));
    object["status"] = json!({"state": "mine"});
    assert_eq!(create(&object).unwrap().get("status"), None);
}

#[test]
fn every_field_is_explained() {
    let explained = |what: &str| text(&kubectl().args(["explain", what]).output().unwrap().stdout);
    let rollout = explained("wasmruntime.spec.rollout");
    assert!(
        rollout.contains("maxUnavailable")
            && rollout.contains("Order and speed of changes to nodes."),
        "{rollout}"
    );
    assert!(explained("wrn.status.retryAt").contains("Earliest time of the next attempt"));
    let definitions =
        answer(kubectl().args(["get", "customresourcedefinitions", "-o", "json"])).unwrap();
    assert!(
        !definitions.to_string().contains("NonStructuralSchema"),
        "{definitions}"
    );
}

#[test]
fn every_kind_is_found_by_its_category() {
    let found = text(
        &kubectl()
            .args(["api-resources", "--categories=wasmedge", "-o", "name"])
            .output()
            .unwrap()
            .stdout,
    );
    let mut names: Vec<&str> = found.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "wasmruntimenodes.runtime.wasmedge.dev",
            "wasmruntimes.runtime.wasmedge.dev"
        ]
    );
}
