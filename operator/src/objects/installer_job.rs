//! The Job of an installer: one attempt on one node, with the node paths that it needs and no
//! others.

use std::collections::BTreeMap;
use std::time::Duration;

use installer_protocol::Request;
use installer_protocol::layout::{Absent, Mount, MountAccess};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, HostPathVolumeSource, KeyToPath,
    LocalObjectReference, PodSpec, PodTemplateSpec, SELinuxOptions, SeccompProfile,
    SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cli::{Installer, Settings};
use crate::crd::WasmRuntime;
use crate::names;
use crate::plan::{InstallerFacts, template};

/// Where the node root is mounted, each node path under its own path.
const NODE_ROOT: &str = "/host";
/// Where the first pull secret is mounted, as `config.json`.
const PULL_SECRET: &str = "/pull-secret";
/// Where archives are downloaded, and the maximum size, far above that of a runtime's archive.
const SCRATCH: (&str, &str) = ("/tmp", "1Gi");
/// How long a stopped installer may take to roll the node back: containerd's restart, and a check
/// that it answers.
const GRACE_SECONDS: i64 = 90;
/// How long Kubernetes keeps a Job that the operator did not delete.
const TTL_SECONDS: i32 = 3600;
/// The capabilities of root in the container: to use the node root as root folder, and to write
/// files of any owner there. Not to mount, trace, load modules, or access devices.
const CAPABILITIES: [&str; 4] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SYS_CHROOT"];

/// Returns the settings that plans depend on.
pub fn facts(settings: &Settings) -> InstallerFacts {
    let installer = settings.installer();
    let Installer {
        image,
        architectures,
        pull_policy,
        pull_secrets,
        service_account,
        env,
        priority_class,
        resources,
    } = installer;
    let template = json!([
        image,
        pull_policy.as_str(),
        pull_secrets,
        service_account,
        env,
        priority_class,
        resources
    ]);
    let digest = format!("{:x}", Sha256::digest(template.to_string()));
    InstallerFacts {
        image: image.clone(),
        architectures: architectures.clone(),
        digest,
    }
}

/// Returns the Job `name` that executes `request` on `node`, for at most `timeout`.
pub fn installer_job(
    settings: &Settings,
    runtime: &WasmRuntime,
    name: &str,
    node: &str,
    request: &Request,
    timeout: Duration,
) -> Job {
    let runtime_name = runtime.name_any();
    let labels = labels(&runtime_name);
    let annotations = BTreeMap::from([
        (names::NODE_ANNOTATION.to_owned(), node.to_owned()),
        (
            names::RUNTIME_UID_ANNOTATION.to_owned(),
            runtime.uid().unwrap_or_default(),
        ),
    ]);
    let template = (
        names::TEMPLATE_ANNOTATION.to_owned(),
        template(&facts(settings).digest, request),
    );
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some(annotations.clone().into_iter().chain([template]).collect()),
            // No owner: a foreground deletion of the WasmRuntime would stop every running
            // installer, also those that clean nodes. The Job's deadline ends it, and its time to
            // live deletes it.
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            // The operator retries, because it knows whether that is useful.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(
                        annotations
                            .into_iter()
                            .chain(autoscaler_annotations())
                            .collect(),
                    ),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(settings, node, request)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn labels(runtime: &str) -> BTreeMap<String, String> {
    let labels = [
        (names::NAME_LABEL, names::INSTALLER_NAME),
        (names::COMPONENT_LABEL, names::INSTALLER),
        (names::PART_OF_LABEL, names::PRODUCT),
        (names::MANAGED_BY, names::MANAGER),
        (names::RUNTIME_LABEL, runtime),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Returns the annotations that keep autoscalers from removing the node during the change.
fn autoscaler_annotations() -> [(String, String); 2] {
    [
        (names::SAFE_TO_EVICT_ANNOTATION, "false"),
        (names::DO_NOT_DISRUPT_ANNOTATION, "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn pod(settings: &Settings, node: &str, request: &Request) -> PodSpec {
    let installer = settings.installer();
    let secrets = installer
        .pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect::<Vec<_>>();
    let node_mounts = request.layout().mounts();
    PodSpec {
        // The scheduler is bypassed: the operator chose the node.
        node_name: Some(node.to_owned()),
        tolerations: Some(vec![Toleration {
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        }]),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(installer.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        priority_class_name: installer.priority_class.clone(),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        volumes: Some(volumes(&node_mounts, installer.pull_secrets.first())),
        containers: vec![container(settings, request, &node_mounts)],
        ..PodSpec::default()
    }
}

fn container(settings: &Settings, request: &Request, node_mounts: &[Mount]) -> Container {
    let installer = settings.installer();
    let env: Vec<EnvVar> = installer
        .env
        .iter()
        .map(|one| EnvVar {
            value: one.value.as_deref().map(literal),
            ..one.clone()
        })
        .collect();
    Container {
        name: names::INSTALLER.to_owned(),
        image: Some(installer.image.clone()),
        image_pull_policy: Some(installer.pull_policy.as_str().to_owned()),
        args: Some(vec!["--request".to_owned(), literal(&request.to_json())]),
        env: (!env.is_empty()).then_some(env),
        resources: installer.resources.clone(),
        security_context: Some(security()),
        // Only what the installer writes to the file is a report; the end of its log is not.
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts(node_mounts, installer.pull_secrets.first())),
        ..Container::default()
    }
}

/// Escapes `$(NAME)`, which Kubernetes replaces in arguments and variables.
fn literal(text: &str) -> String {
    text.replace("$(", "$$(")
}

fn security() -> SecurityContext {
    SecurityContext {
        privileged: Some(false),
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: Some(CAPABILITIES.map(ToOwned::to_owned).to_vec()),
        }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        // If SELinux enforces, only this domain of a container may access files of the node;
        // otherwise it has no effect. Other unprivileged node agents use it, too.
        se_linux_options: Some(SELinuxOptions {
            type_: Some("spc_t".to_owned()),
            ..SELinuxOptions::default()
        }),
        ..SecurityContext::default()
    }
}

fn volumes(node_mounts: &[Mount], pull_secret: Option<&String>) -> Vec<Volume> {
    let node_mounts = node_mounts
        .iter()
        .enumerate()
        .map(|(number, mount)| Volume {
            name: volume_name(number),
            host_path: Some(HostPathVolumeSource {
                path: mount.path.clone(),
                type_: Some(
                    match mount.absent {
                        Absent::Refused => "Directory",
                        Absent::Made => "DirectoryOrCreate",
                    }
                    .to_owned(),
                ),
            }),
            ..Volume::default()
        });
    let scratch = Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(SCRATCH.1.to_owned())),
            medium: None,
        }),
        ..Volume::default()
    };
    let secret = pull_secret.map(|name| Volume {
        name: "pull-secret".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            items: Some(vec![KeyToPath {
                key: ".dockerconfigjson".to_owned(),
                path: "config.json".to_owned(),
                mode: None,
            }]),
            default_mode: Some(0o400),
            // As with image pulls: a missing secret is not an error.
            optional: Some(true),
        }),
        ..Volume::default()
    });
    node_mounts.chain([scratch]).chain(secret).collect()
}

fn mounts(node_mounts: &[Mount], pull_secret: Option<&String>) -> Vec<VolumeMount> {
    let node_mounts = node_mounts.iter().enumerate().map(|(number, mount)| {
        let is_read_only = mount.access == MountAccess::Read;
        VolumeMount {
            name: volume_name(number),
            mount_path: format!("{NODE_ROOT}{}", mount.path),
            read_only: Some(is_read_only),
            // A bind mount includes the mounts below it, which would stay writable. Kubelets and
            // runtimes without recursive read-only mounts ignore this.
            recursive_read_only: is_read_only.then(|| "IfPossible".to_owned()),
            ..VolumeMount::default()
        }
    });
    let own = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let secret = pull_secret.map(|_| own("pull-secret", PULL_SECRET, Some(true)));
    node_mounts
        .chain([own("scratch", SCRATCH.0, None)])
        .chain(secret)
        .collect()
}

/// Returns the name of a volume. A path may be longer than a name.
fn volume_name(number: usize) -> String {
    format!("host-{number}")
}
