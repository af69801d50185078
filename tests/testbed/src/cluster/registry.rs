//! The registry that a cluster's nodes pull from, with the same name in every cluster.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::docker::{Docker, Private};
use crate::cache::Cache;
use crate::registry;
use crate::teardown::Run;
use crate::wait;

/// The registry in image references of pods.
pub const REGISTRY: &str = "registry.local:5000";
const PORT: u16 = 5000;
/// The registry image beside the stock node image; that setup needs the internet anyway.
const STOCK: &str = "registry:2";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The addresses of a cluster's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `host:port`, seen from this machine.
    pub(super) here: String,
    /// The URL, seen from the nodes.
    pub(super) nodes: String,
}

impl Place {
    /// Returns the place of the registry in the engine's isolated namespace.
    pub(super) fn isolated(private: &Private) -> Self {
        let here = format!("{}:{PORT}", private.address());
        Self {
            nodes: format!("http://{here}"),
            here,
        }
    }
}

/// Starts a registry in the engine's isolated namespace.
pub(super) fn start_isolated(cache: &Cache, run: &Run, private: &Private) -> Result<Place> {
    let place = Place::isolated(private);
    let prepared = registry::prepare(cache, &run.disk_folder()?.join("registry"), &place.here)?;
    let mut command = private.isolated().command("env");
    // The registry would read some variables as settings.
    command
        .arg("--ignore-environment")
        .arg(prepared.program)
        .args(prepared.arguments);
    let service = private.isolated().spawn("registry", command)?;
    let address = SocketAddr::from((private.address(), PORT));
    wait::until(
        "the registry to listen",
        START_TIMEOUT,
        || {
            service.ensure_running().map(|()| {
                TcpStream::connect_timeout(&address, START_TIMEOUT)
                    .is_ok()
                    .then_some(())
            })
        },
        || service.log_tail(),
    )?;
    Ok(place)
}

/// Starts a registry beside the nodes in the user's Docker; its name contains the cluster's, and it
/// is removed with the cluster.
pub(super) fn start_beside(engine: &Docker, cluster: &str) -> Result<Place> {
    let publish = format!("127.0.0.1::{PORT}");
    let name = container(cluster);
    engine
        .docker(&[
            "run",
            "--detach",
            "--network",
            "kind",
            "--name",
            &name,
            "--publish",
            &publish,
            STOCK,
        ])
        .done()?;
    find_beside(engine, cluster)
}

/// Finds the registry that was started beside the nodes.
pub(super) fn find_beside(engine: &Docker, cluster: &str) -> Result<Place> {
    let name = container(cluster);
    let here = engine.docker(&["port", &name, &PORT.to_string()]).text()?;
    let here = here
        .lines()
        .next()
        .context("docker published no port of the registry")?
        .to_owned();
    Ok(Place {
        here,
        nodes: format!("http://{name}:{PORT}"),
    })
}

/// Returns the name of the registry's container for `cluster` in the user's Docker.
pub(super) fn container(cluster: &str) -> String {
    format!("{cluster}-registry")
}

/// Configures containerd on `nodes` with the real address of [`REGISTRY`]. containerd reads the
/// file at each pull, so no restart is needed.
pub(super) fn make_known(engine: &Docker, nodes: &[String], place: &Place) -> Result<()> {
    let url = &place.nodes;
    let text =
        format!("server = \"{url}\"\n\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    let path = format!("/etc/containerd/certs.d/{REGISTRY}/hosts.toml");
    nodes
        .iter()
        .try_for_each(|node| engine.write_in_node(node, &path, &text))
}
