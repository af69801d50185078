//! Which containers of the node run from the runtime: asked of containerd, and looked for in its
//! state folder, which is where that containerd, or its configuration, says.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use installer_protocol::Reason;

use super::{Failure, Job, check, clean};
use crate::detect::{self, Bundles, Command, Flag, Running, Usage};
use crate::entry;
use crate::host::HostPath;

/// The containers that run from any version of the runtime.
///
/// # Errors
/// When the runtime's own folder cannot be listed. That containerd shows nothing is an answer.
pub fn look(job: &Job<'_>) -> Result<Usage, Failure> {
    // What is not there runs nothing.
    if clean::names(job, &job.places.shelf)?.is_empty() {
        return Ok(Usage::Known(Vec::new()));
    }
    let asked = job
        .node
        .machine
        .running(&job.places.socket)
        .map_err(|error| format!("{error:#}"));
    let bundles = match state(job, asked.as_ref().ok()) {
        Ok(state) => detect::bundles(job.node.root, &job.layout.mounts(), &state),
        Err(error) => Bundles::Hidden(format!("containerd's state folder is not known: {error:#}")),
    };
    let usage = detect::usage(bundles, asked, &job.places.shelf);
    tracing::debug!(?usage, "which containers use the runtime");
    Ok(usage)
}

/// The names of the versions that containers run, or may run, from, and of the entries that they
/// were started by.
///
/// # Errors
/// As [`look`].
pub fn versions(job: &Job<'_>) -> Result<BTreeSet<String>, Failure> {
    let programs = match look(job)? {
        Usage::Known(used) => used
            .into_iter()
            .map(|container| container.program)
            .collect::<Option<Vec<_>>>(),
        Usage::Unknown(_) => None,
    };
    // What is not known may be any.
    let Some(programs) = programs else {
        return Ok(clean::names(job, &job.places.shelf)?.into_iter().collect());
    };
    let folders = programs
        .iter()
        .filter_map(|program| folder_on(&job.places.shelf, program));
    Ok(folders
        .flat_map(|name| [name, entry::runtime_of(name)])
        .map(str::to_owned)
        .collect())
}

/// The name of the folder on the shelf that a program lies in.
pub(super) fn folder_on<'a>(shelf: &HostPath, program: &'a str) -> Option<&'a str> {
    program
        .strip_prefix(shelf.as_str())?
        .strip_prefix('/')?
        .split('/')
        .next()
}

/// containerd's state folder: of the one that runs, else of the one that would be started.
fn state(job: &Job<'_>, running: Option<&Running>) -> Result<HostPath> {
    if let Some(state) = running.and_then(|running| running.settings.as_ref()?.state.as_ref()) {
        return Ok(HostPath::new(state)?);
    }
    let machine = job.node.machine;
    let unit =
        detect::unit(machine, &job.layout).context("ask systemd which unit runs containerd")?;
    let state = match unit.as_ref().map(Command::of) {
        // The distribution starts it.
        None | Some(Command::Other) => job.layout.state.clone(),
        Some(Command::Containerd(flags)) => match flags.state {
            Flag::Is(state) => state,
            Flag::Unclear(word) => {
                bail!("its unit's command has {word}, which only systemd can resolve")
            }
            Flag::Absent => {
                let program = detect::program(job.node.root, &job.layout, unit.as_ref())?;
                check::dumped(job, &program)?
                    .get("state")
                    .and_then(|state| state.as_str())
                    .map_or_else(|| job.layout.state.clone(), str::to_owned)
            }
        },
    };
    Ok(HostPath::new(&state)?)
}

/// Refuses while containers run by the runtime, or may: without its programs containerd could not
/// even end them.
///
/// # Errors
/// When they do, or when it cannot be found out.
pub fn must_be_none(job: &Job<'_>) -> Result<(), Failure> {
    /// How many containers a refusal names.
    const NAMED: usize = 5;
    let shelf = &job.places.shelf;
    let message = match look(job)? {
        Usage::Known(used) if used.is_empty() => return Ok(()),
        Usage::Known(used) => {
            let names: Vec<String> = used
                .iter()
                .take(NAMED)
                .map(|container| format!("{}/{}", container.namespace, container.id))
                .collect();
            let more = if used.len() > NAMED {
                " and others"
            } else {
                ""
            };
            format!(
                "{} containers of this node run by {shelf}: {}{more}; delete their pods, then the \
                 runtime is removed by itself",
                used.len(),
                names.join(", ")
            )
        }
        Usage::Unknown(why) => format!(
            "cannot find out whether containers of this node run by {shelf}: {why}; start \
             containerd, then the runtime is removed by itself"
        ),
    };
    Err(Failure::new(Reason::InUse, message))
}
