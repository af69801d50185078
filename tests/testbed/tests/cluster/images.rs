//! Images that the node pulls from a registry, in the usual forms for guests.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::cluster::End;

use crate::fixture::{Namespace, PROBE, PROBE_ARTIFACT, in_pods, tests};
use crate::manifest::pod_of;

tests![
    a_root_file_system_image_is_pulled_and_runs,
    a_wasm_artifact_is_pulled_and_runs,
    missing_image_is_named_in_the_status_of_its_pod
];

fn a_root_file_system_image_is_pulled_and_runs(namespace: &Namespace<'_>) -> Result<()> {
    pulled_and_run(namespace, PROBE)
}

fn a_wasm_artifact_is_pulled_and_runs(namespace: &Namespace<'_>) -> Result<()> {
    pulled_and_run(namespace, PROBE_ARTIFACT)
}

fn pulled_and_run(namespace: &Namespace<'_>, image: &str) -> Result<()> {
    let mut pod = pod_of("pulled", image, &["exit", "0"]);
    // An artifact has no entrypoint: its command begins with argument 0 of the guest.
    pod["spec"]["containers"][0]["command"] = json!(["/app.wasm"]);
    pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    namespace.apply(&pod)?;
    ensure!(
        namespace.cluster.end_of(&namespace.name, "pulled")? == End::Succeeded,
        "the pod failed"
    );
    let pod = namespace.get("pod/pulled")?.context("the pod is gone")?;
    let id = pod["status"]["containerStatuses"][0]["imageID"]
        .as_str()
        .unwrap_or_default();
    let (repository, _) = image.split_once(':').unwrap_or((image, ""));
    ensure!(
        id.starts_with(&format!("{}@sha256:", in_pods(repository))),
        "the image's id is {id}"
    );
    Ok(())
}

fn missing_image_is_named_in_the_status_of_its_pod(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("missing", "tests/no-such-image:1", &[]))?;
    let message = namespace.cluster.wait_for(
        &namespace.name,
        "pod/missing",
        "to be refused its image",
        |pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            let refused = matches!(
                waiting["reason"].as_str(),
                Some("ErrImagePull" | "ImagePullBackOff")
            );
            Ok(refused.then(|| waiting["message"].as_str().unwrap_or_default().to_owned()))
        },
    )?;
    ensure!(
        message.contains("no-such-image"),
        "the message does not name the image: {message}"
    );
    Ok(())
}
