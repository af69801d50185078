//! What a host is: its distribution, its kernel, its containerd, who sets up its cgroups, which
//! runtimes are in use. Looking is done here; what it means is decided by pure functions of what
//! was seen.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use installer_protocol::{Distribution, Layout};
use systemd_client::{ActiveState, Unit};

use crate::containerd::Version;
use crate::host::{HostPath, HostRoot};
use crate::machine::Machine;

mod distribution;
mod kernel;
mod command;
mod cgroup;
mod containers;

pub use cgroup::{Driver, driver};
pub use command::{Command, DEFAULT_CONFIG, Flag};
pub use containers::{Bundles, Container, Pod, Running, Settings, Usage, bundles, usage};
pub use distribution::{Seen, distribution};
pub use kernel::{Kernel, KernelLack};

/// The unit of every distribution that may run containerd, or another runtime.
pub fn units(layout: &Layout) -> BTreeSet<String> {
    let known = Distribution::ALL
        .iter()
        .flat_map(|distribution| distribution.layout().units);
    known
        .chain(layout.units.iter().cloned())
        .chain([distribution::OTHER_RUNTIME.to_owned()])
        .collect()
}

/// What is seen of a host of which nothing is known yet.
///
/// # Errors
/// When systemd, which is there, does not say which units are active.
pub fn look(root: &HostRoot, machine: &dyn Machine, layout: &Layout) -> Result<Seen> {
    // Not below /etc, which is not mounted; distributions keep the file itself here.
    let os_release = root
        .read(&HostPath::new("/usr/lib/os-release")?)
        .context("read /usr/lib/os-release of the host")?;
    let os = os_release
        .map(|bytes| distribution::os_of(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_default();
    let mut active = BTreeSet::new();
    if root.has(&HostPath::new("/run/systemd/private")?) {
        for name in units(layout) {
            if is_active(&machine.unit(&name)?) {
                active.insert(name);
            }
        }
    }
    Ok(Seen { os, active })
}

/// Whether a unit runs, or is about to.
pub fn is_active(unit: &Unit) -> bool {
    matches!(
        unit.active,
        ActiveState::Active | ActiveState::Reloading | ActiveState::Activating
    )
}

/// The unit of `layout` that runs containerd; none where systemd runs none of them.
///
/// # Errors
/// When systemd does not say.
pub fn unit(machine: &dyn Machine, layout: &Layout) -> Result<Option<Unit>> {
    for name in &layout.units {
        let unit = machine.unit(name)?;
        if is_active(&unit) {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// containerd's program: what its unit starts, else where the distribution puts it.
///
/// # Errors
/// When it is nowhere.
pub fn program(root: &HostRoot, layout: &Layout, unit: Option<&Unit>) -> Result<HostPath> {
    // A unit of k3s starts k3s, which starts containerd.
    let started = unit
        .and_then(|unit| unit.program.clone())
        .filter(|program| program.ends_with("/containerd"));
    let candidates: Vec<String> = started
        .into_iter()
        .chain(layout.programs.iter().cloned())
        .collect();
    for candidate in &candidates {
        let path = HostPath::new(candidate)?;
        if root.has(&path) {
            return Ok(path);
        }
    }
    bail!(
        "containerd's program is at none of {} on the host: which one does the node's containerd \
         run from?",
        candidates.join(", ")
    )
}

/// What containerd's program says its version is.
///
/// # Errors
/// When it does not run, or says none.
pub fn version(machine: &dyn Machine, program: &HostPath) -> Result<Version> {
    let output = machine
        .run(program, &["--version"])
        .with_context(|| format!("run {program} --version on the host"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{program} --version ended with {} on the host: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Version::parse(&said).with_context(|| format!("ask {program} of the host for its version"))
}

/// Which of the folders that the kubelet makes for pods are there.
///
/// # Errors
/// When they do not say who sets up the node's cgroups.
pub fn cgroup_driver(root: &HostRoot) -> Result<Driver> {
    let folder = HostPath::new("/sys/fs/cgroup")?;
    let place = root
        .locate(&folder)
        .with_context(|| format!("look at {folder} of the host"))?;
    Ok(driver(
        &cgroup::folders(&place).with_context(|| format!("list {folder} of the host"))?,
    )?)
}
