//! Creates a container of a Wasm artifact in containerd. `ctr` cannot: it needs the configuration
//! of a Linux image. CRI can from the pod alone, and so does this program; the container's OCI spec
//! is read from standard input.
#![forbid(unsafe_code)]

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{Container, CreateContainerRequest, container};
use containerd_client::tonic::Request;
use containerd_client::with_namespace;

/// containerd's type URL of an OCI runtime spec.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Creates a container of a Wasm artifact; its OCI spec is read from standard input
#[derive(Debug, clap::Parser)]
struct Args {
    /// containerd's socket
    #[arg(long)]
    address: PathBuf,
    /// containerd's namespace
    #[arg(long)]
    namespace: String,
    /// Name of the runtime
    #[arg(long)]
    runtime: String,
    /// The artifact's name in containerd
    image: String,
    /// The container's id, and the key of its snapshot
    id: String,
}

fn main() -> Result<()> {
    let Args {
        address,
        namespace,
        runtime,
        image,
        id,
    } = Args::parse();
    let mut spec = Vec::new();
    std::io::stdin()
        .read_to_end(&mut spec)
        .context("read the spec from standard input")?;
    let mut container = Container {
        id: id.clone(),
        image,
        runtime: Some(container::Runtime {
            name: runtime,
            options: None,
        }),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: id,
        ..Container::default()
    };
    let mut packed = container.spec.take().unwrap_or_default();
    SPEC.clone_into(&mut packed.type_url);
    packed.value = spec;
    container.spec = Some(packed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime for the client")?;
    runtime.block_on(async {
        let channel = containerd_client::connect(&address)
            .await
            .with_context(|| format!("connect to {}", address.display()))?;
        let request = with_namespace!(
            CreateContainerRequest {
                container: Some(container)
            },
            namespace
        );
        ContainersClient::new(channel)
            .create(request)
            .await
            .context("create the container")?;
        Ok(())
    })
}
