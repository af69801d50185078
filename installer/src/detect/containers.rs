//! Which containers of a node run by which program: as containerd's folder of bundles shows it, and
//! as containerd answers.
//!
//! The folder names the program of each container, and with it the version of the runtime. It lies
//! in containerd's state folder, which may be one that an installer does not see; then what
//! containerd answers decides. A folder that cannot be looked at is never one without containers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use installer_protocol::layout::Mount;

use crate::host::{HostPath, HostRoot};

/// Where containerd keeps bundles of tasks, below its state folder. It makes the folder when it
/// starts.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Where it keeps bundles of sandboxes that a runtime makes.
const SANDBOXES: &str = "io.containerd.sandbox.controller.v1.shim";
/// The file of a bundle that says which program serves it. containerd writes it for every program
/// that it starts since it can be told where one lies: 1.6.0, the oldest that is installed on
/// (`runtime/v2/binary.go` there). A container that its sandbox's program serves without being
/// started for it has none; the sandbox's stays as long.
const PROGRAM: &str = "shim-binary-path";
/// containerd's namespace of pods.
const PODS: &str = "k8s.io";

/// A container or a pod's sandbox that runs, or that containerd has not deleted yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// containerd's namespace, `k8s.io` for those of pods.
    pub namespace: String,
    /// Its identifier.
    pub id: String,
    /// The program that serves it, on the host; none where it may be any of the runtime's.
    pub program: Option<String>,
}

/// A pod that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its sandbox's identifier, or that of a container whose sandbox is gone.
    pub id: String,
    /// The handler that it was made with, empty for the default one; none where that is not known
    /// any more.
    pub handler: Option<String>,
}

/// What a containerd that runs was configured with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its state folder.
    pub state: Option<String>,
    /// The name of its default handler.
    pub default: String,
    /// The program, or else the type, of each handler.
    pub launchers: BTreeMap<String, String>,
}

/// What runs on a node, as its containerd answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Its settings; none where it does not publish them.
    pub settings: Option<Settings>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// Containers of any namespace whose runtime is named by its program's path.
    pub containers: Vec<Container>,
}

/// What a state folder shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bundles {
    /// All containers of its containerd.
    Listed(Vec<Container>),
    /// Nothing that could be relied on; why.
    Hidden(String),
}

/// Which containers use a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// These and no others.
    Known(Vec<Container>),
    /// It cannot be found out; why.
    Unknown(String),
}

impl Container {
    /// Whether it is, or may be, served by a program below `folder`.
    pub fn uses(&self, folder: &HostPath) -> bool {
        self.program
            .as_deref()
            .is_none_or(|program| is_below(program, folder))
    }
}

impl Usage {
    /// Whether a container runs, or may run, from `folder`.
    pub fn is_of(&self, folder: &HostPath) -> bool {
        match self {
            Self::Known(containers) => containers.iter().any(|container| container.uses(folder)),
            Self::Unknown(_) => true,
        }
    }
}

/// Lists what the state folder of a containerd shows to a process that sees `mounts` of the host.
pub fn bundles(root: &HostRoot, mounts: &[Mount], state: &HostPath) -> Bundles {
    // Every systemd has this link, and an installer does not see it.
    let state = match state
        .as_str()
        .strip_prefix("/var/run/")
        .map(|rest| HostPath::new(&format!("/run/{rest}")))
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
            "{state} of the host has no folder {TASKS}, as the state folder of a containerd has"
        )),
        Err(error) => Bundles::Hidden(format!("read {state} of the host: {error}")),
    }
}

/// Decides which containers run from `shelf`. Where the folder of bundles shows all containers it
/// is relied on, since it alone names their programs.
pub fn usage(bundles: Bundles, asked: Result<Running, String>, shelf: &HostPath) -> Usage {
    let ours = |container: &Container| container.uses(shelf);
    match (bundles, asked) {
        (Bundles::Listed(containers), Err(_)) => {
            Usage::Known(containers.into_iter().filter(ours).collect())
        }
        (Bundles::Listed(mut containers), Ok(running)) => {
            let is_new = |other: &Container| {
                !containers
                    .iter()
                    .any(|known| (&known.namespace, &known.id) == (&other.namespace, &other.id))
            };
            let more: Vec<Container> = running.containers.into_iter().filter(is_new).collect();
            containers.extend(more);
            Usage::Known(containers.into_iter().filter(ours).collect())
        }
        (
            Bundles::Hidden(_),
            Ok(Running {
                settings,
                pods,
                containers,
            }),
        ) => {
            // Of most pods containerd knows the program: then their handlers say no more.
            let is_known = |pod: &Pod| {
                containers
                    .iter()
                    .any(|known| known.namespace == PODS && known.id == pod.id)
            };
            let pods = pods
                .into_iter()
                .filter(|pod| !is_known(pod) && may_be_of(pod, settings.as_ref(), shelf));
            let pods = pods.map(|pod| Container {
                namespace: PODS.to_owned(),
                id: pod.id,
                program: None,
            });
            let mut found: Vec<Container> = pods
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

/// Whether a pod's handler leads to a program below `shelf`, or may have: the configuration may
/// have lost it since.
fn may_be_of(pod: &Pod, settings: Option<&Settings>, shelf: &HostPath) -> bool {
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
        .is_none_or(|program| is_below(program, shelf))
}

fn is_below(program: &str, folder: &HostPath) -> bool {
    Path::new(program).starts_with(folder.as_str())
}

/// The containers below a state folder, in the order of their names; none where it is not one of a
/// containerd that ran.
fn listed(root: &HostRoot, state: &HostPath) -> io::Result<Option<Vec<Container>>> {
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

/// The containers of one of containerd's namespaces.
fn containers_of(namespace: &Path) -> io::Result<Vec<Container>> {
    let mut found = Vec::new();
    for bundle in entries(namespace)? {
        let program = match fs::read_to_string(bundle.join(PROGRAM)) {
            Ok(program) => program,
            // One that is being made or deleted, or one whose sandbox says it.
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
        found.push(Container {
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
