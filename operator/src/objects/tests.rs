//! Tests of objects: snapshots are JSON files beside this one, rewritten if `UPDATE_SNAPSHOTS` is
//! set.

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

/// Compares an object with the snapshot of this name.
fn assert_snapshot(name: &str, object: &impl Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/objects/tests")
        .join(format!("{name}.json"));
    // Through a value, so that keys are sorted.
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
fn installer_job_with_defaults_matches_snapshot() {
    assert_snapshot(
        "job-defaults",
        &job(&settings(&[]), &request(Distribution::Systemd)),
    );
}

#[test]
fn installer_job_with_every_setting_matches_snapshot() {
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
fn runtime_class_matches_snapshot() {
    let spec = json!({ "runtimeClass": { "name": "wasm", "handler": "wasm-handler",
        "tolerations": [{ "key": "wasm", "operator": "Exists" }] } });
    assert_snapshot("runtime-class", &desired(&runtime(&spec)));
}

#[test]
fn runtime_node_matches_snapshot() {
    assert_snapshot(
        "runtime-node",
        &runtime_node::runtime_node("wasmedge", "node-a.example", "4-5-6"),
    );
}

#[test]
fn installer_job_has_no_credentials_and_only_required_node_paths() {
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
fn read_only_node_paths_are_mounted_recursively_read_only() {
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
        // Kubernetes refuses the opposite.
        assert_eq!(mount.mount_propagation, None, "{}", mount.mount_path);
    }
}

#[test]
fn request_is_escaped_for_kubernetes() {
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
fn long_node_name_is_an_annotation_and_not_a_label() {
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
fn runtime_class_matches_after_normalization_by_api_server() {
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
fn adopted_runtime_class_is_restored_unchanged() {
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
        // Changed again: the first original counts.
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
fn own_runtime_class_is_deleted_with_its_runtime() {
    assert_eq!(
        removal_action(&desired(&runtime(&json!({})))).unwrap(),
        RemovalAction::Delete
    );
}

#[test]
fn invalid_adoption_annotation_is_an_error() {
    let mut found = desired(&runtime(&json!({})));
    found.metadata.annotations =
        Some([(names::ADOPTED_ANNOTATION.to_owned(), "{".to_owned())].into());
    assert!(removal_action(&found).is_err());
}

#[test]
fn owner_of_runtime_class_is_derived_from_its_metadata() {
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
