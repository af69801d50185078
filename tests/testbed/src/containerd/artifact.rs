//! Containers of Wasm artifacts. `ctr` makes none: it wants the configuration of a Linux image. CRI does, from the pod
//! alone; so the container is made here as CRI makes it, through containerd's own interface, and `ctr` then runs it.

use anyhow::{Context as _, Result};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{Container, CreateContainerRequest, container};
use containerd_client::tonic::Request;
use containerd_client::with_namespace;
use serde_json::{Value, json};

use super::{Containerd, Runtime};

/// By this name containerd knows a spec of the OCI runtime specification.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Makes the container `id` of the artifact `image`, with an empty root that is its own.
pub(super) fn create(containerd: &Containerd, image: &str, id: &str, runtime: Runtime, args: &[String]) -> Result<()> {
    containerd.ctr().args(["snapshots", "prepare", id]).done()?;
    let default = containerd.ctr().args(["oci", "spec"]).text()?;
    let spec: Value = serde_json::from_str(&default).context("read containerd's default spec")?;
    let spec = spec_for(spec, &format!("/{}/{id}", containerd.namespace()), args);
    let mut container = Container {
        id: id.to_owned(),
        image: image.to_owned(),
        runtime: Some(container::Runtime { name: runtime.name().to_owned(), options: None }),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: id.to_owned(),
        ..Container::default()
    };
    let mut packed = container.spec.take().unwrap_or_default();
    SPEC.clone_into(&mut packed.type_url);
    packed.value = serde_json::to_vec(&spec).context("write the spec")?;
    container.spec = Some(packed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime for the client")?;
    runtime.block_on(send(containerd, container)).with_context(|| format!("create container {id} of the artifact {image}"))
}

async fn send(containerd: &Containerd, container: Container) -> Result<()> {
    // The socket lies on a file system that only the cell has; the kernel shows it under the cell's first process.
    let socket = format!("/proc/{}/root{}", containerd.cell().init_pid(), containerd.address().display());
    let channel = containerd_client::connect(&socket).await.with_context(|| format!("connect to {socket}"))?;
    let request = with_namespace!(CreateContainerRequest { container: Some(container) }, containerd.namespace());
    ContainersClient::new(channel).create(request).await.context("ask containerd")?;
    Ok(())
}

/// The default spec with what a pod's container says.
fn spec_for(mut spec: Value, cgroup: &str, args: &[String]) -> Value {
    spec["process"]["args"] = json!(args);
    spec["linux"]["cgroupsPath"] = json!(cgroup);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_keeps_what_the_default_says() {
        let spec = spec_for(json!({"process": {"cwd": "/"}, "linux": {"cgroupsPath": "/default"}}), "/ns/id", &["a".to_owned()]);
        assert_eq!(spec, json!({"process": {"cwd": "/", "args": ["a"]}, "linux": {"cgroupsPath": "/ns/id"}}));
    }
}
