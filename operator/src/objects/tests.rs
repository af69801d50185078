//! The objects as the API server gets them: JSON files beside this one, written anew where
//! `UPDATE_SNAPSHOTS` is set.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use installer_protocol::{Artifact, Distribution, Paths, Request, Verb, request};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde::Serialize;
use serde_json::{Value, json};

use super::runtime_class::{
    RemovalAction, changed, desired, is_ours, matches, owner, removal_action,
};
use super::*;
use crate::cli::{Cli, Command, Settings};
use crate::crd::WasmRuntime;
use crate::names;

/// Compares with the file of this name.
fn assert_snapshot(name: &str, object: &impl Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/objects/tests")
        .join(format!("{name}.json"));
    // Through a value, so that keys stand in one order.
    let mut text = serde_json::to_string_pretty(&serde_json::to_value(object).unwrap()).unwrap();
    text.push('\n');
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{}: set UPDATE_SNAPSHOTS=1 if it is meant",
        path.display()
    );
}

fn settings(further: &[&str]) -> Settings {
    let needed = [
        "wasmedge-operator",
        "run",
        "--namespace=wasmedge-system",
        "--installer-image=installer:1",
        "--identity=a",
    ];
    let Command::Run(settings) = Cli::try_parse_from(needed.iter().chain(further))
        .unwrap()
        .command
    else {
        panic!("it is run")
    };
    *settings
}

fn runtime(spec: &Value) -> WasmRuntime {
    let object = json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": "wasmedge", "uid": "1-2-3" }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

fn request(distribution: Distribution) -> Request {
    Request {
        verb: Verb::Install,
        runtime: "wasmedge".to_owned(),
        handler: "wasmedge".to_owned(),
        distribution,
        artifact: Some(Artifact::Bundled),
        mode: request::ConfigMode::Auto,
        cgroup_driver: request::CgroupDriver::Auto,
        settings: installer_protocol::Settings::default(),
        paths: Paths::default(),
        image: "installer:1".to_owned(),
    }
}

fn job(settings: &Settings, request: &Request) -> Job {
    installer_job(
        settings,
        &runtime(&json!({})),
        "installer-wasmedge-0123456789",
        "node-a.example",
        request,
        Duration::from_mins(10),
    )
}

fn pod(job: &Job) -> PodSpec {
    job.spec.clone().unwrap().template.spec.unwrap()
}

fn class(object: Value) -> RuntimeClass {
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_job_with_defaults() {
    assert_snapshot(
        "job-defaults",
        &job(&settings(&[]), &request(Distribution::Systemd)),
    );
}

#[test]
fn a_job_with_every_setting() {
    let settings = settings(&[
        "--installer-image-pull-policy=Always",
        "--installer-image-pull-secret=first",
        "--installer-image-pull-secret=second",
        "--installer-service-account=installer",
        "--installer-env=HTTPS_PROXY=http://proxy:3128",
        "--installer-env=TOKEN=$(HOME)",
        "--installer-priority-class=system-node-critical",
        r#"--installer-resources={"requests":{"cpu":"50m"},"limits":{"memory":"256Mi"}}"#,
    ]);
    assert_snapshot("job-full", &job(&settings, &request(Distribution::K3s)));
}

#[test]
fn a_runtime_class() {
    let spec = json!({ "runtimeClass": { "name": "wasm", "handler": "wasm-handler",
        "tolerations": [{ "key": "wasm", "operator": "Exists" }] } });
    assert_snapshot("runtime-class", &desired(&runtime(&spec)));
}

#[test]
fn a_nodes_object() {
    assert_snapshot(
        "runtime-node",
        &runtime_node::runtime_node("wasmedge", "node-a.example", "4-5-6"),
    );
}

#[test]
fn an_installer_gets_no_credentials_and_no_more_of_the_host_than_its_request_needs() {
    for distribution in Distribution::ALL {
        let request = request(*distribution);
        let pod = pod(&job(&settings(&[]), &request));
        let volumes = pod.volumes.unwrap();
        let paths: Vec<String> = volumes
            .iter()
            .filter_map(|volume| Some(volume.host_path.as_ref()?.path.clone()))
            .collect();
        let wanted: Vec<String> = request
            .layout()
            .mounts()
            .into_iter()
            .map(|mount| mount.path)
            .collect();
        assert_eq!(paths, wanted, "{distribution:?}");
        assert!(
            volumes.iter().all(|volume| volume.projected.is_none()),
            "{distribution:?}"
        );
        assert_eq!(
            (
                pod.automount_service_account_token,
                pod.host_network,
                pod.host_pid,
                pod.host_ipc
            ),
            (Some(false), None, None, None)
        );
        let security = pod.containers[0].security_context.clone().unwrap();
        assert_eq!(
            (security.privileged, security.allow_privilege_escalation),
            (Some(false), Some(false))
        );
        assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    }
}

#[test]
fn what_is_only_looked_at_cannot_be_written_by_way_of_a_mount_below_it() {
    let pod = pod(&job(&settings(&[]), &request(Distribution::K3s)));
    for mount in pod.containers[0]
        .volume_mounts
        .as_ref()
        .unwrap()
        .iter()
        .filter(|mount| mount.mount_path.starts_with("/host"))
    {
        let expected = (mount.read_only == Some(true)).then_some("IfPossible");
        assert_eq!(
            mount.recursive_read_only.as_deref(),
            expected,
            "{}",
            mount.mount_path
        );
        // The other way, Kubernetes refuses it.
        assert_eq!(mount.mount_propagation, None, "{}", mount.mount_path);
    }
}

#[test]
fn kubernetes_replaces_nothing_in_a_request() {
    let paths = Paths {
        install: Some("/opt/$(HOSTNAME)".to_owned()),
        ..Paths::default()
    };
    let job = job(
        &settings(&[]),
        &Request {
            paths,
            ..request(Distribution::Systemd)
        },
    );
    let text = pod(&job).containers[0].args.clone().unwrap()[1].clone();
    assert!(text.contains("/opt/$$(HOSTNAME)"), "{text}");
    assert!(serde_json::from_str::<Request>(&text.replace("$$(", "$(")).is_ok());
}

#[test]
fn names_of_nodes_that_are_too_long_for_a_label_are_none() {
    let node = "n".repeat(253);
    let job = installer_job(
        &settings(&[]),
        &runtime(&json!({})),
        "j",
        &node,
        &request(Distribution::Systemd),
        Duration::from_mins(1),
    );
    let labels = job.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    assert!(labels.values().all(|value| value.len() <= 63), "{labels:?}");
    assert_eq!(
        job.metadata.annotations.unwrap()[names::NODE_ANNOTATION],
        node
    );
}

#[test]
fn a_class_is_as_desired_however_the_api_server_writes_it() {
    let spec = json!({ "runtimeClass": { "overhead": { "cpu": "0.01", "memory": "16384Ki" },
        "tolerations": [{ "key": "wasm", "operator": "Exists", "value": "" }] } });
    let desired = desired(&runtime(&spec));
    let mut found = serde_json::to_value(&desired).unwrap();
    found["overhead"]["podFixed"] = json!({ "cpu": "10m", "memory": "16Mi" });
    found["scheduling"]["tolerations"] = json!([{ "key": "wasm", "operator": "Exists" }]);
    found["metadata"]["labels"]["other"] = json!("is not ours");
    assert!(matches(&desired, &class(found.clone())));
    for (pointer, value) in [
        ("/overhead/podFixed/cpu", json!("20m")),
        (
            "/overhead/podFixed",
            json!({ "cpu": "10m", "memory": "16Mi", "storage": "1" }),
        ),
        ("/scheduling/nodeSelector", json!({})),
        ("/scheduling/tolerations", json!([])),
        ("/metadata/labels", json!({})),
        ("/handler", json!("other")),
    ] {
        let mut other = found.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(!matches(&desired, &class(other)), "{pointer}");
    }
}

#[test]
fn a_class_that_was_taken_over_and_put_back_is_as_before() {
    let runtime = runtime(&json!({}));
    let desired = desired(&runtime);
    for found in [
        json!({ "metadata": { "name": "wasmedge" }, "handler": "wasmedge" }),
        json!({ "metadata": { "name": "wasmedge", "labels": { names::MANAGED_BY: "Helm",
            "a": "b" }, "annotations": { "c": "d" } },
            "handler": "wasmedge", "overhead": { "podFixed": { "cpu": "1" } },
            "scheduling": { "nodeSelector": { "pool": "wasm" } } }),
    ] {
        let found = class(found);
        let mut taken = changed(&desired, &found, "wasmedge");
        assert!(
            is_ours(&taken, "wasmedge")
                && !is_ours(&found, "wasmedge")
                && matches(&desired, &taken)
        );
        // Changed again: what it was first is what counts.
        taken = changed(&desired, &taken, "wasmedge");
        let RemovalAction::Restore(back) = removal_action(&taken).unwrap() else {
            panic!("it was there before")
        };
        let plain = |class: &RuntimeClass| {
            (
                class.metadata.labels.clone().unwrap_or_default(),
                class.metadata.annotations.clone().unwrap_or_default(),
            )
        };
        assert_eq!(plain(&back), plain(&found));
        assert_eq!(
            (back.overhead, back.scheduling),
            (found.overhead, found.scheduling)
        );
    }
}

#[test]
fn a_class_of_our_own_goes_with_its_runtime() {
    assert_eq!(
        removal_action(&desired(&runtime(&json!({})))).unwrap(),
        RemovalAction::Delete
    );
}

#[test]
fn a_note_that_somebody_spoiled_is_not_guessed_at() {
    let mut found = desired(&runtime(&json!({})));
    found.metadata.annotations =
        Some([(names::ADOPTED_ANNOTATION.to_owned(), "{".to_owned())].into());
    assert!(removal_action(&found).is_err());
}

#[test]
fn the_owner_of_a_class_is_named_as_well_as_it_can_be() {
    for (metadata, expected) in [
        (
            json!({ "labels": { names::MANAGED_BY: "Helm" },
                "annotations": { "meta.helm.sh/release-name": "kwasm" } }),
            "the Helm release kwasm",
        ),
        (json!({ "labels": { names::MANAGED_BY: "flux" } }), "flux"),
        (
            json!({ "labels": { names::RUNTIME_LABEL: "other" } }),
            "WasmRuntime other",
        ),
        (json!({ "managedFields": [{ "manager": "k3s" }] }), "k3s"),
        (json!({}), "an unknown owner"),
    ] {
        assert_eq!(
            owner(&class(
                json!({ "metadata": metadata, "handler": "wasmedge" })
            )),
            expected
        );
    }
}
