//! The distribution, the containerd and the cgroup driver of a node. Functions here read the node;
//! the decisions are pure functions in the submodules.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use installer_protocol::{Distribution, Layout};
use systemd_client::{ActiveState, Unit};

use crate::containerd::Version;
use crate::machine::Machine;
use crate::node_root::{NodePath, NodeRoot};

mod distribution;
mod command;
mod cgroup;

pub use cgroup::{PodCgroupDriver, driver};
pub use command::{DEFAULT_CONFIG, Flag, StartCommand};
pub use distribution::{DistributionHints, distribution};

/// The containerd of a node, and the unit that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdService {
    /// The unit; none if systemd runs none and the distribution restarts containerd.
    pub unit: Option<String>,
    /// The command of the unit.
    pub command: StartCommand,
    /// containerd's program.
    pub program: NodePath,
    /// Its version.
    pub version: Version,
}

/// Returns the units of all distributions that may run a container runtime.
pub fn units(layout: &Layout) -> BTreeSet<String> {
    let known = Distribution::ALL
        .iter()
        .flat_map(|distribution| distribution.layout().units);
    known
        .chain(layout.units.iter().cloned())
        .chain([distribution::OTHER_RUNTIME.to_owned()])
        .collect()
}

/// Reads the node's OS and its active units.
///
/// # Errors
/// If systemd runs and does not return the state of a unit.
pub fn distribution_hints(
    root: &NodeRoot,
    machine: &dyn Machine,
    layout: &Layout,
) -> Result<DistributionHints> {
    // /etc is not mounted; distributions keep the file itself here.
    let os_release = root
        .read(&NodePath::new("/usr/lib/os-release")?)
        .context("read /usr/lib/os-release on the node")?;
    let os = os_release
        .map(|bytes| distribution::os_of(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_default();
    let mut active = BTreeSet::new();
    if root.has(&NodePath::new("/run/systemd/private")?) {
        for name in units(layout) {
            if is_active(&machine.unit(&name)?) {
                active.insert(name);
            }
        }
    }
    Ok(DistributionHints { os, active })
}

/// Returns whether a unit runs or is being started.
pub fn is_active(unit: &Unit) -> bool {
    matches!(
        unit.active,
        ActiveState::Active | ActiveState::Reloading | ActiveState::Activating
    )
}

/// Returns the unit of `layout` that runs containerd; none if systemd runs none of them.
///
/// # Errors
/// If systemd does not return the state of a unit.
pub fn unit(machine: &dyn Machine, layout: &Layout) -> Result<Option<Unit>> {
    for name in &layout.units {
        let unit = machine.unit(name)?;
        if is_active(&unit) {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// Finds containerd's program: the one that its unit starts, else the distribution's.
///
/// # Errors
/// If there is none.
pub fn program(root: &NodeRoot, layout: &Layout, unit: Option<&Unit>) -> Result<NodePath> {
    // The unit of k3s starts k3s, which starts containerd.
    let started = unit
        .and_then(|unit| unit.program.clone())
        .filter(|program| program.ends_with("/containerd"));
    let candidates: Vec<String> = started
        .into_iter()
        .chain(layout.programs.iter().cloned())
        .collect();
    for candidate in &candidates {
        let path = NodePath::new(candidate)?;
        if root.has(&path) {
            return Ok(path);
        }
    }
    bail!(
        "containerd's program is at none of {} on the node: which one does the node's containerd \
         run from?",
        candidates.join(", ")
    )
}

/// Asks containerd's program for its version.
///
/// # Errors
/// If it does not run, or prints no version.
pub fn version(machine: &dyn Machine, program: &NodePath) -> Result<Version> {
    let output = machine
        .run(program, &["--version"])
        .with_context(|| format!("run {program} --version on the node"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{program} --version ended with {} on the node: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Version::parse(&printed).with_context(|| format!("read the version of {program} on the node"))
}

/// Detects the cgroup driver by the cgroups that the kubelet made for pods.
///
/// # Errors
/// If they do not show the driver.
pub fn cgroup_driver(root: &NodeRoot) -> Result<PodCgroupDriver> {
    let folder = NodePath::new("/sys/fs/cgroup")?;
    let place = root
        .locate(&folder)
        .with_context(|| format!("find {folder} on the node"))?;
    Ok(driver(
        &cgroup::folders(&place).with_context(|| format!("list {folder} on the node"))?,
    )?)
}
