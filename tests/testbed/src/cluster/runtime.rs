//! The runtime on one worker, by the plainest means: files copied, containerd told, node labelled, RuntimeClass made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Cluster;
use crate::{progress, wait};

/// Name of the RuntimeClass and of containerd's handler.
pub const HANDLER: &str = "wasmedge";
/// The label, as `key=value`, of nodes that have the runtime.
pub const LABEL: &str = "runtime.wasmedge.dev/ready=true";
/// Where a node has its runtimes, one folder for each version.
const PLACE: &str = "/opt/wasmedge-runtime";
/// The name that containerd knows the shim by.
const RUNTIME_TYPE: &str = "io.containerd.wasmedge.v1";
/// The shim, in the runtime's folder.
const SHIM: &str = "bin/containerd-shim-wasmedge-v1";

/// What runs the pods of the RuntimeClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// The runtime in this folder, which is named for its version and holds `bin`, `lib` and `share`.
    Bundle(PathBuf),
    /// runc under the name of ours: proves everything of a cluster but the runtime.
    Runc,
    /// Nothing: an operator brings it, see [`super::operator`].
    Absent,
}

/// Puts `runtime` on the cluster's worker and makes the RuntimeClass that leads there.
pub(super) fn install(cluster: &Cluster, runtime: &Runtime) -> Result<()> {
    let folder = match runtime {
        Runtime::Absent => return Ok(()),
        Runtime::Runc => None,
        Runtime::Bundle(folder) => Some(folder.as_path()),
    };
    progress::step(format_args!("put the runtime on {}", cluster.worker), || copy(cluster, &cluster.worker, folder))
}

/// Puts the runtime in `folder` on `node`, or runc in its place.
fn copy(cluster: &Cluster, node: &str, folder: Option<&Path>) -> Result<()> {
    let engine = &cluster.engine;
    let path = match folder {
        None => None,
        Some(folder) => {
            let version = folder.file_name().and_then(|name| name.to_str()).context("the runtime's folder is named for its version")?;
            let place = format!("{PLACE}/{version}");
            engine.in_node(node, &["mkdir", "-p", &place]).done()?;
            let from = format!("{}/.", folder.display());
            engine.docker(&["cp", "--archive=false", &from, &format!("{node}:{place}")]).done()?;
            Some(format!("{place}/{SHIM}"))
        }
    };
    let settings = engine.in_node(node, &["cat", "/etc/containerd/config.toml"]).text()?;
    let section = handler(&settings, path.as_deref().map(Path::new))?;
    engine.write_in_node(node, "/etc/containerd/config.toml", &format!("{settings}\n{section}"))?;
    engine.in_node(node, &["systemctl", "restart", "containerd"]).done()?;
    wait::until(
        format_args!("containerd on {node} to answer again"),
        Duration::from_mins(1),
        || Ok(engine.in_node(node, &["ctr", "version"]).output()?.status.success().then_some(())),
        || cluster.journal(node),
    )?;
    cluster.kubectl().args(["label", "--overwrite", "node", node, LABEL]).done()?;
    cluster.kubectl().args(["apply", "-f", "-"]).input(runtime_class()).done()
}

/// The section of containerd's settings that makes the handler known, in the schema that `settings` are written in.
fn handler(settings: &str, shim: Option<&Path>) -> Result<String> {
    let version = settings.lines().find_map(|line| line.trim().strip_prefix("version")?.trim().strip_prefix('=')).map(str::trim);
    let plugin = match version {
        Some("2") => "io.containerd.grpc.v1.cri",
        Some("3" | "4") => "io.containerd.cri.v1.runtime",
        other => bail!("containerd's settings are of version {other:?}: 2, 3 and 4 are known"),
    };
    let table = format!("plugins.\"{plugin}\".containerd.runtimes.{HANDLER}");
    let runtime = match shim {
        None => "runtime_type = \"io.containerd.runc.v2\"".to_owned(),
        Some(path) => format!("runtime_type = \"{RUNTIME_TYPE}\"\nruntime_path = \"{}\"", path.display()),
    };
    // The same driver as the node's runc, which is kubelet's. The table has to be there: without it containerd sends
    // runc's own options, which no other shim can read.
    let systemd = settings.lines().any(|line| line.split_whitespace().collect::<String>() == "SystemdCgroup=true");
    Ok(format!("[{table}]\n{runtime}\n[{table}.options]\nSystemdCgroup = {systemd}\n"))
}

fn runtime_class() -> String {
    let (key, value) = LABEL.split_once('=').unwrap_or((LABEL, ""));
    serde_json::json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": { "name": HANDLER },
        "handler": HANDLER,
        "scheduling": { "nodeSelector": { key: value } },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_follows_the_schema_and_the_cgroup_driver_of_the_node() {
        let shim = Path::new("/opt/x/shim");
        let old = handler("version = 2\n", Some(shim)).unwrap();
        assert!(old.contains("io.containerd.grpc.v1.cri") && old.contains("SystemdCgroup = false"), "{old}");
        let new = handler("version = 3\n[x.options]\n  SystemdCgroup = true\n", Some(shim)).unwrap();
        assert!(new.contains("io.containerd.cri.v1.runtime") && new.contains("SystemdCgroup = true"), "{new}");
        assert!(new.contains("runtime_path = \"/opt/x/shim\""), "{new}");
    }

    #[test]
    fn an_unknown_schema_is_refused() {
        assert!(handler("root = '/x'\n", None).is_err());
    }
}
