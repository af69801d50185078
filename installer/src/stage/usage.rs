//! The containers of the node that run from the runtime: as containerd reports them, and as its
//! state folder shows them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use installer_protocol::Reason;

use super::check;
use crate::containers::{self, Bundles, RunningWorkloads, Usage};
use crate::detect::{self, Flag, StartCommand};
use crate::entry;
use crate::failure::Failure;
use crate::installation::Installation;
use crate::node_root::NodePath;

/// Finds the containers that run from any version of the runtime.
///
/// # Errors
/// If the runtime's own folder cannot be listed. [`Usage::Unknown`] is not an error.
pub fn find(installation: &Installation<'_>) -> Result<Usage, Failure> {
    let versions = &installation.paths.versions;
    if installation.list(versions)?.is_empty() {
        return Ok(Usage::Known(Vec::new()));
    }
    let reported = installation
        .node
        .machine
        .running(&installation.paths.socket)
        .map_err(|error| format!("{error:#}"));
    let bundles = match state_folder(installation, reported.as_ref().ok()) {
        Ok(state) => containers::bundles(
            installation.node.root,
            &installation.layout.mounts(),
            &state,
        ),
        Err(error) => Bundles::Hidden(format!("containerd's state folder is not known: {error:#}")),
    };
    let usage = containers::usage(bundles, reported, versions);
    tracing::debug!(?usage, "containers that use the runtime");
    Ok(usage)
}

/// Returns the names of the versions that containers run from, and of the entries that they were
/// started by. If that is not known, returns all names.
///
/// # Errors
/// As [`find`].
pub fn versions(installation: &Installation<'_>) -> Result<BTreeSet<String>, Failure> {
    let versions = &installation.paths.versions;
    let programs = match find(installation)? {
        Usage::Known(used) => used
            .into_iter()
            .map(|container| container.program)
            .collect::<Option<Vec<_>>>(),
        Usage::Unknown(_) => None,
    };
    let Some(programs) = programs else {
        return Ok(installation.list(versions)?.into_iter().collect());
    };
    let folders = programs
        .iter()
        .filter_map(|program| version_folder(versions, program));
    Ok(folders
        .flat_map(|name| [name, entry::runtime_of(name)])
        .map(str::to_owned)
        .collect())
}

/// Returns the name of the folder in `versions` that contains `program`.
pub(super) fn version_folder<'a>(versions: &NodePath, program: &'a str) -> Option<&'a str> {
    program
        .strip_prefix(versions.as_str())?
        .strip_prefix('/')?
        .split('/')
        .next()
}

/// Returns the state folder of the running containerd, else of the one that its unit would start.
fn state_folder(
    installation: &Installation<'_>,
    running: Option<&RunningWorkloads>,
) -> Result<NodePath> {
    if let Some(state) = running.and_then(|running| running.settings.as_ref()?.state.as_ref()) {
        return Ok(NodePath::new(state)?);
    }
    let (machine, layout) = (installation.node.machine, &installation.layout);
    let unit = detect::unit(machine, layout).context("ask systemd which unit runs containerd")?;
    let state = match unit.as_ref().map(StartCommand::of) {
        // The distribution starts it.
        None | Some(StartCommand::Other) => layout.state.clone(),
        Some(StartCommand::Containerd(flags)) => match flags.state {
            Flag::Is(state) => state,
            Flag::Unclear(word) => {
                bail!("its unit's command has {word}, which only systemd can resolve")
            }
            Flag::Absent => {
                let program = detect::program(installation.node.root, layout, unit.as_ref())?;
                check::dumped_config(installation, &program)?
                    .get("state")
                    .and_then(|state| state.as_str())
                    .map_or_else(|| layout.state.clone(), str::to_owned)
            }
        },
    };
    Ok(NodePath::new(&state)?)
}

/// Fails if containers run from the runtime, or may: without its programs containerd could not even
/// stop them.
///
/// # Errors
/// If containers use the runtime, or that cannot be determined.
pub fn check_unused(installation: &Installation<'_>) -> Result<(), Failure> {
    /// Maximum number of containers that the message names.
    const MAX_NAMED: usize = 5;
    let versions = &installation.paths.versions;
    let message = match find(installation)? {
        Usage::Known(used) if used.is_empty() => return Ok(()),
        Usage::Known(used) => {
            let names: Vec<String> = used
                .iter()
                .take(MAX_NAMED)
                .map(|container| format!("{}/{}", container.namespace, container.id))
                .collect();
            let more = if used.len() > MAX_NAMED {
                " and others"
            } else {
                ""
            };
            format!(
                "{} containers of this node run from {versions}: {}{more}; delete their pods, then \
                 the runtime is removed automatically",
                used.len(),
                names.join(", ")
            )
        }
        Usage::Unknown(why) => format!(
            "cannot find out whether containers of this node run from {versions}: {why}; start \
             containerd, then the runtime is removed automatically"
        ),
    };
    Err(Failure::new(Reason::InUse, message))
}
