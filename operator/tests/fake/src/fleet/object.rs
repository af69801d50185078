//! The objects of nodes, pods and Jobs.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::resource::{JOB, POD};
use crate::store::Key;

/// The Job controller's finalizer on pods whose end it has not counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// Returns the pod of a Job, as the Job controller creates it.
pub(super) fn pod(job: &Key, object: &Value) -> Value {
    let template = &object["spec"]["template"];
    let (metadata, uid) = (&template["metadata"], &object["metadata"]["uid"]);
    let mut labels = metadata["labels"].as_object().cloned().unwrap_or_default();
    for (label, value) in [
        ("job-name", json!(job.name)),
        ("controller-uid", uid.clone()),
    ] {
        labels.insert(label.to_owned(), value.clone());
        labels.insert(format!("batch.kubernetes.io/{label}"), value);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_key(job).name, "namespace": job.namespace, "labels": labels,
            "annotations": metadata["annotations"],
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": job.name,
            "uid": uid, "controller": true, "blockOwnerDeletion": true }],
        },
        "spec": template["spec"],
    })
}

/// Returns the key of the pod of a Job.
pub(super) fn pod_key(job: &Key) -> Key {
    Key::new(POD, &job.namespace, &format!("{}-x5k2w", job.name))
}

/// Returns the key of the Job of a pod.
pub(super) fn job_of(pod: &Value) -> Key {
    let metadata = &pod["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Key::new(
        JOB,
        &text(&metadata["namespace"]),
        &text(&metadata["labels"]["batch.kubernetes.io/job-name"]),
    )
}

/// Sets the state of the container of a Job's pod.
pub(super) fn set_pod(cluster: &Cluster, job: &Key, phase: &str, state: &Value) {
    let status = json!({ "phase": phase, "containerStatuses": [
        { "name": "installer", "image": "i", "imageID": "", "ready": phase == "Running",
        "restartCount": 0, "state": state }] });
    // The pod of a Job that was deleted is gone.
    let _ = cluster.edit(&pod_key(job), |pod| pod["status"] = status);
}

/// Adds the finalizer that keeps the pod of a Job.
pub(super) fn hold_pod(cluster: &Cluster, job: &Key) {
    // The pod of a Job that was deleted is gone.
    let _ = cluster.edit(&pod_key(job), |pod| {
        pod["metadata"]["finalizers"] = json!([TRACKING]);
    });
}

/// Whether a pod was deleted and is kept by its finalizer.
pub(super) fn is_to_end(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    metadata["deletionTimestamp"].is_string()
        && metadata["finalizers"].to_string().contains(TRACKING)
}

/// Ends and releases a pod that was deleted before its container was created.
pub(super) fn end_unstarted_pod(cluster: &Cluster, pod: &Key) {
    let message = "The container could not be located when the pod was terminated";
    let state = json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown",
        "message": message } });
    let status = json!({ "phase": "Failed", "containerStatuses": [
        { "name": "installer", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": state }] });
    // Another client may have removed it.
    let _ = cluster.edit(pod, |pod| pod["status"] = status);
    let _ = cluster.update(pod, |pod| pod["metadata"]["finalizers"] = json!([]));
}

/// Publishes a warning about an object.
pub(super) fn warn(cluster: &Cluster, object: &Key, reason: &str, note: &str) {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "type": "Warning", "reason": reason,
        "note": note,
        "metadata": { "name": format!("{}.{}", object.name, reason.to_lowercase()),
        "namespace": object.namespace },
        "regarding": { "kind": object.resource.kind, "namespace": object.namespace,
        "name": object.name },
        "eventTime": cluster.now().to_string(), "action": "Run",
        "reportingController": "kubernetes", "reportingInstance": "kubernetes",
    });
    // The same warning exists already.
    let _ = cluster.create(event);
}

/// Ends the container of a Job's pod.
pub(super) fn end_pod(
    cluster: &Cluster,
    job: &Key,
    code: i64,
    reason: &str,
    message: Option<String>,
) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let now = cluster.now().to_string();
    let mut end =
        json!({ "exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now });
    if let Some(message) = message {
        end["message"] = message.into();
    }
    set_pod(cluster, job, phase, &json!({ "terminated": end }));
}

/// Marks a Job as succeeded.
pub(super) fn complete_job(cluster: &Cluster, job: &Key) {
    let now = cluster.now().to_string();
    let condition = |kind: &str| {
        json!({ "type": kind, "status": "True", "lastTransitionTime": now,
        "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods" })
    };
    // A Job that was deleted has no status.
    let _ = cluster.edit(job, |job| {
        job["status"] = json!({ "succeeded": 1, "completionTime": now,
                "conditions": [condition("SuccessCriteriaMet"), condition("Complete")] });
    });
}

/// Marks a Job as failed.
pub(super) fn fail_job(cluster: &Cluster, job: &Key, reason: &str, message: &str) {
    end_job(cluster, job, &["FailureTarget", "Failed"], reason, message);
}

/// Marks a Job as failing: it fails when its pod has ended.
pub(super) fn doom_job(cluster: &Cluster, job: &Key, reason: &str, message: &str) {
    end_job(cluster, job, &["FailureTarget"], reason, message);
}

fn end_job(cluster: &Cluster, job: &Key, kinds: &[&str], reason: &str, message: &str) {
    let now = cluster.now().to_string();
    let condition = |kind: &&str| {
        json!({ "type": kind, "status": "True",
        "lastTransitionTime": now, "reason": reason, "message": message })
    };
    let conditions: Vec<Value> = kinds.iter().map(condition).collect();
    // As above.
    let _ = cluster.edit(job, |job| {
        job["status"] = json!({ "failed": 1, "conditions": conditions });
    });
}

/// Whether a Job has ended.
pub(crate) fn has_ended(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Complete" || condition["type"] == "Failed")
}

/// Sets the condition Ready to True or Unknown.
pub(super) fn set_ready(node: &mut Value, ready: bool) {
    let (status, reason) = if ready {
        ("True", "KubeletReady")
    } else {
        ("Unknown", "NodeStatusUnknown")
    };
    for condition in node["status"]["conditions"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if condition["type"] == "Ready" {
            condition["status"] = status.into();
            condition["reason"] = reason.into();
        }
    }
}

/// Sets the handlers that the node lists, if it lists any.
pub(super) fn set_handlers(node: &mut Value, handlers: Option<&[String]>) {
    let entry = |name: &String| {
        json!({ "name": name,
        "features": { "recursiveReadOnlyMounts": true, "userNamespaces": false } })
    };
    match handlers {
        Some(handlers) => node["status"]["runtimeHandlers"] = handlers.iter().map(entry).collect(),
        None => {
            if let Some(status) = node["status"].as_object_mut() {
                status.remove("runtimeHandlers");
            }
        }
    }
}
