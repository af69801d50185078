//! Manifests of pods.

use serde_json::{Value, json};
use testbed::cluster::operator::RUNTIME;

use crate::fixture::in_pods;

/// Returns a container that runs `image` of the cluster's registry with these arguments.
pub(crate) fn container(name: &str, image: &str, args: &[&str]) -> Value {
    json!({ "name": name, "image": in_pods(image), "args": args,
        "imagePullPolicy": "IfNotPresent" })
}

/// Returns a pod of the project's RuntimeClass that is not restarted.
pub(crate) fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "runtimeClassName": RUNTIME, "restartPolicy": "Never", "containers": containers },
    })
}

/// Returns a pod of one container with the pod's name.
pub(crate) fn pod_of(name: &str, image: &str, args: &[&str]) -> Value {
    pod(name, &[container(name, image, args)])
}

/// Returns a Deployment of pods of the project's RuntimeClass, each of one container with its name.
pub(crate) fn deployment_of(name: &str, replicas: u32, image: &str, args: &[&str]) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "runtimeClassName": RUNTIME, "containers": [container(name, image,
                args)] },
            },
        },
    })
}
