//! Whether the node is one that the request can be fulfilled on. Nothing is changed.

use anyhow::{Context as _, Result, ensure};
use installer_protocol::layout::{Configuration, Restarter, Support};
use installer_protocol::{CgroupDriver, Distribution, Mode, Reason, Verb};

use super::verify::READY;
use super::{Because as _, Failure, Job};
use crate::containerd::Version;
use crate::detect::{self, Command, Driver, Flag};
use crate::host::HostPath;

/// What the further stages need to know of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The unit that runs containerd; none where systemd runs none and the distribution restarts
    /// it.
    pub unit: Option<String>,
    /// What that unit starts.
    pub command: Command,
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
    let unit = detect::unit(machine, &job.layout).because(Reason::HostFiles, || {
        "ask systemd which unit runs containerd".to_owned()
    })?;
    if unit.is_none()
        && job.layout.restarter == Restarter::Installer
        && job.request.mode != Mode::Preinstalled
    {
        let message = format!(
            "none of the units {} is active on the host: start containerd, or name its unit in \
             containerd.paths",
            job.layout.units.join(", ")
        );
        return Err(Failure::new(Reason::Unsupported, message));
    }
    let program = detect::program(job.node.root, &job.layout, unit.as_ref())
        .because(Reason::Unsupported, || "find containerd".to_owned())?;
    let version = detect::version(machine, &program).because(Reason::Unsupported, || {
        "ask for containerd's version".to_owned()
    })?;
    let command = unit.as_ref().map_or(Command::Other, Command::of);
    Ok(Facts {
        unit: unit.map(|unit| unit.name),
        command,
        program,
        version,
    })
}

/// Whether the runtime works on the node's kernel.
///
/// # Errors
/// When it does not.
pub fn kernel(job: &Job<'_>) -> Result<(), Failure> {
    let kernel = job.node.machine.kernel().because(Reason::HostFiles, || {
        "look which kernel the node has".to_owned()
    })?;
    kernel.must_do().map_err(|lack| Failure {
        reason: Reason::Unsupported,
        error: lack.into(),
    })
}

/// Whether containerd reads the file that would be edited, as far as its unit's command shows it,
/// and whether it listens where it would be asked. Otherwise it would be restarted for nothing.
///
/// # Errors
/// When it reads another file, when that cannot be found out and the request does not name the
/// file, or when it does not answer.
pub fn configuration(job: &Job<'_>, facts: &Facts) -> Result<(), Failure> {
    // Only an admin's own main file can lie elsewhere: the other distributions start containerd
    // themselves.
    if let (Configuration::MainFile, Some(unit)) = (&job.layout.configuration, &facts.unit) {
        let why = match main_file(job, &facts.command) {
            MainFile::Same => None,
            MainFile::Other(path) => Some(format!(
                "{unit} starts containerd with the configuration {path}, and the one to edit would \
                 be {}: set spec.containerd.paths.config to \
                 {path}",
                job.layout.config
            )),
            MainFile::Unclear(_) if job.request.paths.config.is_some() => None,
            MainFile::Unclear(what) => Some(format!(
                "{unit} starts {what}, so it cannot be seen which configuration containerd reads: \
                 set spec.containerd.paths.config to that file; \
                 `ps -o args= -C containerd` on the node shows it behind --config ({} where there \
                 is none)",
                detect::DEFAULT_CONFIG
            )),
        };
        if let Some(why) = why {
            let once = "the path of a WasmRuntime cannot be changed later: give such nodes one of \
                        their own";
            return Err(Failure::new(Reason::Unsupported, format!("{why}; {once}")));
        }
    }
    let socket = &job.places.socket;
    let answered = job.node.machine.served(socket, READY).because(
        Reason::ContainerdRestart,
        || {
            format!(
                "ask containerd at {socket}, before anything is changed; if it listens elsewhere, \
                 set spec.containerd.paths.socket"
            )
        },
    );
    answered.map(drop)
}

/// Which main file containerd reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MainFile {
    /// The one that would be edited.
    Same,
    /// Another one.
    Other(String),
    /// It cannot be seen; what is started instead of a containerd whose flags are all known.
    Unclear(String),
}

fn main_file(job: &Job<'_>, command: &Command) -> MainFile {
    let flags = match command {
        Command::Containerd(flags) => flags,
        Command::Other => {
            return MainFile::Unclear("a program that is not containerd itself".to_owned());
        }
    };
    let path = match &flags.config {
        Flag::Absent => detect::DEFAULT_CONFIG,
        Flag::Is(path) => path,
        Flag::Unclear(word) => {
            return MainFile::Unclear(format!(
                "containerd with {word}, which a file of variables sets"
            ));
        }
    };
    let (Ok(read), Ok(edited)) = (HostPath::new(path), HostPath::new(&job.layout.config)) else {
        return MainFile::Unclear(format!(
            "containerd with the configuration {path}, which is not an absolute path"
        ));
    };
    let root = job.node.root;
    let is_same = || root.has(&edited) && root.locate(&read).ok() == root.locate(&edited).ok();
    if read == edited || is_same() {
        MainFile::Same
    } else {
        MainFile::Other(path.to_owned())
    }
}

/// The configuration that the node's containerd would start with, as its own program merges it.
///
/// # Errors
/// When the program does not take its configuration.
pub fn dumped(job: &Job<'_>, program: &HostPath) -> Result<toml_edit::DocumentMut> {
    let config = &job.layout.config;
    let has_config = job.node.root.has(&HostPath::new(config)?);
    // Asked about a file that is absent, containerd 1.x fails; started without one, it has its
    // defaults.
    let arguments: &[&str] = if has_config {
        &["-c", config, "config", "dump"]
    } else {
        &["config", "default"]
    };
    let output = job
        .node
        .machine
        .run(program, arguments)
        .with_context(|| format!("run {program} {} on the host", arguments.join(" ")))?;
    ensure!(
        output.status.success(),
        "{program} {} ended with {} on the host: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout)
        .parse()
        .with_context(|| format!("read what {program} makes of {config}"))
}

/// Who sets up the cgroups of the node's pods, as the request says or as is seen.
///
/// # Errors
/// When the request leaves it open and the node does not show it.
pub fn driver(job: &Job<'_>) -> Result<Driver, Failure> {
    match job.request.cgroup_driver {
        CgroupDriver::Systemd => Ok(Driver::Systemd),
        CgroupDriver::Cgroupfs => Ok(Driver::Cgroupfs),
        CgroupDriver::Auto => detect::cgroup_driver(job.node.root)
            .because(Reason::InvalidRequest, || {
                "look who sets up cgroups".to_owned()
            }),
    }
}

/// Whether anything can be done with such a distribution.
fn supported(job: &Job<'_>) -> Result<(), Failure> {
    match (job.layout.support, job.request.mode) {
        (Support::Full, _) | (Support::PreinstalledOnly(_), Mode::Preinstalled) => Ok(()),
        (Support::PreinstalledOnly(why) | Support::No(why), _) => {
            Err(Failure::new(Reason::Unsupported, why))
        }
    }
}

/// Whether the host is the distribution that the request says.
fn expected(job: &Job<'_>) -> Result<(), Failure> {
    let seen = detect::look(job.node.root, job.node.machine, &job.layout)
        .because(Reason::HostFiles, || "look at the host".to_owned())?;
    // An admin who names the unit has said what the host is.
    let named = job
        .request
        .paths
        .unit
        .as_ref()
        .is_some_and(|unit| seen.active.contains(unit));
    let Some(found) = detect::distribution(&seen) else {
        return Ok(());
    };
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
        "the host is {found:?} (active units: {}), its Node object was taken for {:?}: nothing is \
         {doing}; {step}, or, if the node is meant \
         as it is, say in spec.containerd.paths which unit runs its containerd and where that \
         one's files are",
        seen.active
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        job.request.distribution
    );
    Err(Failure::new(Reason::DistributionMismatch, message))
}
