//! Whether the node is one that the request can be fulfilled on. Nothing is changed.

use installer_protocol::layout::{Restarter, Support};
use installer_protocol::{CgroupDriver, Distribution, Mode, Reason, Verb};

use super::{Because as _, Failure, Job};
use crate::containerd::Version;
use crate::detect::{self, Driver};
use crate::host::HostPath;

/// What the further stages need to know of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The unit that runs containerd; none where systemd runs none and the distribution restarts it.
    pub unit: Option<String>,
    /// containerd's program.
    pub program: HostPath,
    /// Its version.
    pub version: Version,
}

/// Looks at the host.
///
/// # Errors
/// When it is another one than the request says, or one that cannot be used.
pub fn run(job: &Job<'_>) -> Result<Facts, Failure> {
    supported(job)?;
    expected(job)?;
    let machine = job.node.machine;
    let unit = detect::unit(machine, &job.layout).because(Reason::HostFiles, || "ask systemd which unit runs containerd".to_owned())?;
    if unit.is_none() && job.layout.restarter == Restarter::Installer && job.request.mode != Mode::Preinstalled {
        let message = format!(
            "none of the units {} is active on the host: start containerd, or name its unit in containerd.paths",
            job.layout.units.join(", ")
        );
        return Err(Failure::new(Reason::Unsupported, message));
    }
    let program =
        detect::program(job.node.root, &job.layout, unit.as_ref()).because(Reason::Unsupported, || "find containerd".to_owned())?;
    let version = detect::version(machine, &program).because(Reason::Unsupported, || "ask for containerd's version".to_owned())?;
    Ok(Facts { unit: unit.map(|unit| unit.name), program, version })
}

/// Who sets up the cgroups of the node's pods, as the request says or as is seen.
///
/// # Errors
/// When the request leaves it open and the node does not show it.
pub fn driver(job: &Job<'_>) -> Result<Driver, Failure> {
    match job.request.cgroup_driver {
        CgroupDriver::Systemd => Ok(Driver::Systemd),
        CgroupDriver::Cgroupfs => Ok(Driver::Cgroupfs),
        CgroupDriver::Auto => {
            detect::cgroup_driver(job.node.root).because(Reason::InvalidRequest, || "look who sets up cgroups".to_owned())
        }
    }
}

/// Whether anything can be done with such a distribution.
fn supported(job: &Job<'_>) -> Result<(), Failure> {
    match (job.layout.support, job.request.mode) {
        (Support::Full, _) | (Support::PreinstalledOnly(_), Mode::Preinstalled) => Ok(()),
        (Support::PreinstalledOnly(why) | Support::No(why), _) => Err(Failure::new(Reason::Unsupported, why)),
    }
}

/// Whether the host is the distribution that the request says.
fn expected(job: &Job<'_>) -> Result<(), Failure> {
    let seen = detect::look(job.node.root, job.node.machine, &job.layout).because(Reason::HostFiles, || "look at the host".to_owned())?;
    // An admin who names the unit has said what the host is.
    let named = job.request.paths.unit.as_ref().is_some_and(|unit| seen.active.contains(unit));
    let Some(found) = detect::distribution(&seen) else { return Ok(()) };
    if found == job.request.distribution || named {
        return Ok(());
    }
    // Where it cannot work at all, that is what there is to say.
    if let Support::No(why) = found.layout().support {
        return Err(Failure::new(Reason::Unsupported, why));
    }
    let doing = match job.request.verb {
        Verb::Install => "installed",
        Verb::Uninstall => "removed",
    };
    let step = match found {
        Distribution::MicroK8s => "give the Node object the label microk8s.io/cluster=true",
        _ => "compare the kubelet's version and the OS image that the Node object shows",
    };
    let message = format!(
        "the host is {found:?} (active units: {}), its Node object was taken for {:?}: nothing is {doing}; {step}, or, if the node is meant \
         as it is, say in spec.containerd.paths which unit runs its containerd and where that one's files are",
        seen.active.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        job.request.distribution
    );
    Err(Failure::new(Reason::DistributionMismatch, message))
}
