//! The containers of a node by the program that serves them: from containerd's bundles and from its
//! API.
//!
//! A bundle names the program of its container, and with it the version of the runtime. The bundles
//! are in containerd's state folder. If the installer cannot see that folder, the API decides. A
//! folder that cannot be read is never treated as empty.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use installer_protocol::layout::Mount;

use crate::node_root::{NodePath, NodeRoot};

/// The bundles of tasks, below containerd's state folder. containerd creates the folder when it
/// starts.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// The bundles of sandboxes that a runtime makes.
const SANDBOXES: &str = "io.containerd.sandbox.controller.v1.shim";
/// The file of a bundle with the path of the program that serves it. containerd writes it for every
/// program that it starts since runtimes can be named by path: 1.6.0, the oldest supported version
/// (`runtime/v2/binary.go` there). A container that is served by its sandbox's program has no such
/// file; the sandbox's file stays as long.
const PROGRAM: &str = "shim-binary-path";
/// containerd's namespace of pods.
const PODS: &str = "k8s.io";

/// A container or a pod sandbox that runs, or that containerd has not deleted yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningContainer {
    /// containerd's namespace; `k8s.io` for pods.
    pub namespace: String,
    /// Its identifier.
    pub id: String,
    /// The path on the node of the program that serves it; none if it may be any of the runtime's.
    pub program: Option<String>,
}

/// A running pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningPod {
    /// The identifier of its sandbox, or of a container without a sandbox.
    pub id: String,
    /// The handler that it was created with, empty for the default one; none if that is not known
    /// any more.
    pub handler: Option<String>,
}

/// The configuration of a running containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerdSettings {
    /// Its state folder.
    pub state: Option<String>,
    /// The name of its default handler.
    pub default: String,
    /// The program of each handler, or its type if the program is not named.
    pub launchers: BTreeMap<String, String>,
}

/// The pods and containers that run on a node, as containerd's API reports them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningWorkloads {
    /// containerd's configuration; none if it does not publish it.
    pub settings: Option<ContainerdSettings>,
    /// The pods.
    pub pods: Vec<RunningPod>,
    /// Containers of any namespace with a program's path as runtime.
    pub containers: Vec<RunningContainer>,
}

/// The bundles in a state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bundles {
    /// All containers of the containerd.
    Listed(Vec<RunningContainer>),
    /// They are not known; the cause.
    Hidden(String),
}

/// The containers that use a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// These and no others.
    Known(Vec<RunningContainer>),
    /// It cannot be determined; the cause.
    Unknown(String),
}

impl RunningContainer {
    /// Returns whether a program below `folder` serves it, or may.
    pub fn uses(&self, folder: &NodePath) -> bool {
        self.program
            .as_deref()
            .is_none_or(|program| is_below(program, folder))
    }
}

impl Usage {
    /// Returns whether a container runs from `folder`, or may.
    pub fn may_include(&self, folder: &NodePath) -> bool {
        match self {
            Self::Known(containers) => containers.iter().any(|container| container.uses(folder)),
            Self::Unknown(_) => true,
        }
    }
}

/// Lists the bundles in the state folder `state`, for a process that sees `mounts` of the node.
pub fn bundles(root: &NodeRoot, mounts: &[Mount], state: &NodePath) -> Bundles {
    // systemd makes /var/run a link to /run, and the installer does not see the link.
    let state = match state
        .as_str()
        .strip_prefix("/var/run/")
        .map(|rest| NodePath::new(&format!("/run/{rest}")))
    {
        Some(Ok(real)) => real,
        _ => state.clone(),
    };
    let is_mounted = mounts
        .iter()
        .any(|mount| Path::new(state.as_str()).starts_with(&mount.path));
    if root.as_path() != Path::new("/") && !is_mounted {
        return Bundles::Hidden(format!(
            "containerd's state folder {state} is not one of the folders that an installer sees"
        ));
    }
    match listed(root, &state) {
        Ok(Some(containers)) => Bundles::Listed(containers),
        Ok(None) => Bundles::Hidden(format!(
            "{state} on the node has no folder {TASKS}, which containerd's state folder has"
        )),
        Err(error) => Bundles::Hidden(format!("read {state} on the node: {error}")),
    }
}

/// Decides which containers run from `versions`. Bundles have precedence over the API, because only
/// they name the programs.
pub fn usage(
    bundles: Bundles,
    reported: Result<RunningWorkloads, String>,
    versions: &NodePath,
) -> Usage {
    let ours = |container: &RunningContainer| container.uses(versions);
    match (bundles, reported) {
        (Bundles::Listed(containers), Err(_)) => {
            Usage::Known(containers.into_iter().filter(ours).collect())
        }
        (Bundles::Listed(mut containers), Ok(running)) => {
            let is_new = |other: &RunningContainer| {
                !containers
                    .iter()
                    .any(|known| (&known.namespace, &known.id) == (&other.namespace, &other.id))
            };
            let more: Vec<RunningContainer> =
                running.containers.into_iter().filter(is_new).collect();
            containers.extend(more);
            Usage::Known(containers.into_iter().filter(ours).collect())
        }
        (
            Bundles::Hidden(_),
            Ok(RunningWorkloads {
                settings,
                pods,
                containers,
            }),
        ) => {
            // The program of most pods is known; their handlers need not be looked up.
            let is_known = |pod: &RunningPod| {
                containers
                    .iter()
                    .any(|known| known.namespace == PODS && known.id == pod.id)
            };
            let pods = pods
                .into_iter()
                .filter(|pod| !is_known(pod) && may_be_of(pod, settings.as_ref(), versions));
            let pods = pods.map(|pod| RunningContainer {
                namespace: PODS.to_owned(),
                id: pod.id,
                program: None,
            });
            let mut found: Vec<RunningContainer> = pods
                .chain(
                    containers
                        .iter()
                        .filter(|container| ours(container))
                        .cloned(),
                )
                .collect();
            found.sort();
            Usage::Known(found)
        }
        (Bundles::Hidden(hidden), Err(silent)) => Usage::Unknown(format!(
            "{hidden}, and containerd does not answer: {silent}"
        )),
    }
}

/// Returns whether a pod's handler leads to a program below `versions`, or may: the configuration
/// may have lost the handler since.
fn may_be_of(pod: &RunningPod, settings: Option<&ContainerdSettings>, versions: &NodePath) -> bool {
    let (Some(handler), Some(settings)) = (&pod.handler, settings) else {
        return true;
    };
    let handler = if handler.is_empty() {
        &settings.default
    } else {
        handler
    };
    settings
        .launchers
        .get(handler)
        .is_none_or(|program| is_below(program, versions))
}

fn is_below(program: &str, folder: &NodePath) -> bool {
    Path::new(program).starts_with(folder.as_str())
}

/// Lists the containers below a state folder, sorted; none if it is not the state folder of a
/// containerd.
fn listed(root: &NodeRoot, state: &NodePath) -> io::Result<Option<Vec<RunningContainer>>> {
    if !root.locate(&state.join(TASKS))?.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for bundles in [TASKS, SANDBOXES] {
        for namespace in entries(&root.locate(&state.join(bundles))?)? {
            found.extend(containers_of(&namespace)?);
        }
    }
    found.sort();
    Ok(Some(found))
}

/// Lists the containers of one of containerd's namespaces.
fn containers_of(namespace: &Path) -> io::Result<Vec<RunningContainer>> {
    let mut found = Vec::new();
    for bundle in entries(namespace)? {
        let program = match fs::read_to_string(bundle.join(PROGRAM)) {
            Ok(program) => program,
            // The bundle is being made or deleted, or its sandbox has the file.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        found.push(RunningContainer {
            namespace: name(namespace),
            id: name(&bundle),
            program: Some(program.trim().to_owned()),
        });
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
