//! Checks that the request can be fulfilled on the node. Changes nothing.

use anyhow::{Context as _, Result, ensure};
use installer_protocol::layout::{Configuration, Restarter, Support};
use installer_protocol::{CgroupDriver, ConfigMode, Distribution, Reason, Verb};

use crate::detect::{self, ContainerdService, Flag, PodCgroupDriver, StartCommand};
use crate::failure::{Failure, WithReason as _};
use crate::installation::{Installation, InstallationPaths};
use crate::machine::READY_TIMEOUT;
use crate::node_root::NodePath;
use crate::record::Record;

/// Checks the distribution and finds the node's containerd.
///
/// # Errors
/// If the node is another distribution than the request states, or cannot be used.
pub fn run(installation: &Installation<'_>) -> Result<ContainerdService, Failure> {
    is_supported(installation)?;
    is_requested_distribution(installation)?;
    let (machine, layout) = (installation.node.machine, &installation.layout);
    let unit = detect::unit(machine, layout).with_reason(Reason::HostFiles, || {
        "ask systemd which unit runs containerd".to_owned()
    })?;
    if unit.is_none()
        && layout.restarter == Restarter::Installer
        && installation.request.mode != ConfigMode::Preinstalled
    {
        let message = format!(
            "none of the units {} is active on the node: start containerd, or name its unit in \
             containerd.paths",
            layout.units.join(", ")
        );
        return Err(Failure::new(Reason::Unsupported, message));
    }
    let program = detect::program(installation.node.root, layout, unit.as_ref())
        .with_reason(Reason::Unsupported, || "find containerd".to_owned())?;
    let version = detect::version(machine, &program).with_reason(Reason::Unsupported, || {
        "ask containerd for its version".to_owned()
    })?;
    let command = unit.as_ref().map_or(StartCommand::Other, StartCommand::of);
    Ok(ContainerdService {
        unit: unit.map(|unit| unit.name),
        command,
        program,
        version,
    })
}

/// Checks that the runtime works on the node's kernel.
///
/// # Errors
/// If it does not.
pub fn kernel(installation: &Installation<'_>) -> Result<(), Failure> {
    let kernel = installation
        .node
        .machine
        .kernel()
        .with_reason(Reason::HostFiles, || {
            "read the features of the node's kernel".to_owned()
        })?;
    kernel.check_supported().map_err(|lack| Failure {
        reason: Reason::Unsupported,
        error: lack.into(),
    })
}

/// Fails while the change of another runtime is pending: a restart would make containerd read it.
/// This runtime's own pending change does not wait, else two runtimes could wait for each other.
///
/// # Errors
/// If another runtime has a pending change, or its record cannot be read.
pub fn no_other_pending_change(
    installation: &Installation<'_>,
    record: &Record,
) -> Result<(), Failure> {
    if record.pending.is_some() {
        return Ok(());
    }
    let states = installation.paths.base.join(InstallationPaths::STATE);
    for name in installation
        .list(&states)?
        .into_iter()
        .filter(|name| *name != installation.request.runtime)
    {
        let path = states.join(&name).join("record.json");
        let other = Record::load(installation.node.root, &path)
            .with_reason(Reason::HostFiles, || {
                format!("check that no change of runtime {name} is pending on this node")
            })?;
        if other.is_some_and(|other| other.pending.is_some()) {
            let message = format!(
                "a change of runtime {name} on this node is not finished, because its installer \
                 was interrupted: its next installer, or the guard on the node, finishes it first"
            );
            return Err(Failure::new(Reason::Locked, message));
        }
    }
    Ok(())
}

/// Checks that containerd reads the file that would be edited, as far as its unit's command shows,
/// and that it listens on the expected socket. Otherwise the restart would have no effect.
///
/// # Errors
/// If it reads another file, if its file is not known and the request does not name it, or if it
/// does not answer.
pub fn configuration(
    installation: &Installation<'_>,
    service: &ContainerdService,
) -> Result<(), Failure> {
    let layout = &installation.layout;
    // Only an admin's own main file can be elsewhere: the other distributions start containerd
    // themselves.
    if let (Configuration::MainFile, Some(unit)) = (&layout.configuration, &service.unit) {
        let problem = match main_file(installation, &service.command) {
            MainFile::Same => None,
            MainFile::Other(path) => Some(format!(
                "{unit} starts containerd with the configuration {path}, and the one to edit would \
                 be {}: set spec.containerd.paths.config to {path}",
                layout.config
            )),
            MainFile::Unclear(_) if installation.request.paths.config.is_some() => None,
            MainFile::Unclear(what) => Some(format!(
                "{unit} starts {what}, so it is not known which configuration containerd reads: \
                 set spec.containerd.paths.config to that file; `ps -o args= -C containerd` on the \
                 node shows it after --config ({} without that flag)",
                detect::DEFAULT_CONFIG
            )),
        };
        if let Some(problem) = problem {
            let message = format!(
                "{problem}; the path of a WasmRuntime cannot be changed later: give such nodes a \
                 WasmRuntime of their own"
            );
            return Err(Failure::new(Reason::Unsupported, message));
        }
    }
    let socket = &installation.paths.socket;
    installation
        .node
        .machine
        .served(socket, READY_TIMEOUT)
        .map(drop)
        .with_reason(Reason::ContainerdRestart, || {
            format!(
                "ask containerd at {socket}, before anything is changed; if it listens elsewhere, \
                 set spec.containerd.paths.socket"
            )
        })
}

/// The main file that containerd reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MainFile {
    /// The one that would be edited.
    Same,
    /// Another one.
    Other(String),
    /// It is not known; the description of the command that hides it.
    Unclear(String),
}

fn main_file(installation: &Installation<'_>, command: &StartCommand) -> MainFile {
    let flags = match command {
        StartCommand::Containerd(flags) => flags,
        StartCommand::Other => {
            return MainFile::Unclear("a program that is not containerd itself".to_owned());
        }
    };
    let path = match &flags.config {
        Flag::Absent => detect::DEFAULT_CONFIG,
        Flag::Is(path) => path,
        Flag::Unclear(word) => {
            return MainFile::Unclear(format!(
                "containerd with {word}, which an environment file sets"
            ));
        }
    };
    let (Ok(read), Ok(edited)) = (
        NodePath::new(path),
        NodePath::new(&installation.layout.config),
    ) else {
        return MainFile::Unclear(format!(
            "containerd with the configuration {path}, which is not an absolute path"
        ));
    };
    let root = installation.node.root;
    let is_same = || root.has(&edited) && root.locate(&read).ok() == root.locate(&edited).ok();
    if read == edited || is_same() {
        MainFile::Same
    } else {
        MainFile::Other(path.to_owned())
    }
}

/// Returns the configuration that the node's containerd would start with, merged by its own
/// program.
///
/// # Errors
/// If the program refuses its configuration.
pub fn dumped_config(
    installation: &Installation<'_>,
    program: &NodePath,
) -> Result<toml_edit::DocumentMut> {
    let config = &installation.layout.config;
    let has_config = installation.node.root.has(&NodePath::new(config)?);
    // containerd 1.x fails to dump an absent file; without a file it starts with its defaults.
    let arguments: &[&str] = if has_config {
        &["-c", config, "config", "dump"]
    } else {
        &["config", "default"]
    };
    let output = installation
        .node
        .machine
        .run(program, arguments)
        .with_context(|| format!("run {program} {} on the node", arguments.join(" ")))?;
    ensure!(
        output.status.success(),
        "{program} {} ended with {} on the node: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout)
        .parse()
        .with_context(|| format!("parse the configuration that {program} dumped from {config}"))
}

/// Returns the cgroup driver of the node's pods, from the request or as detected.
///
/// # Errors
/// If the request leaves it open and it cannot be detected.
pub fn driver(installation: &Installation<'_>) -> Result<PodCgroupDriver, Failure> {
    match installation.request.cgroup_driver {
        CgroupDriver::Systemd => Ok(PodCgroupDriver::Systemd),
        CgroupDriver::Cgroupfs => Ok(PodCgroupDriver::Cgroupfs),
        CgroupDriver::Auto => detect::cgroup_driver(installation.node.root)
            .with_reason(Reason::InvalidRequest, || {
                "detect the cgroup driver".to_owned()
            }),
    }
}

/// Checks that the distribution supports the requested mode.
fn is_supported(installation: &Installation<'_>) -> Result<(), Failure> {
    match (installation.layout.support, installation.request.mode) {
        (Support::Full, _) | (Support::PreinstalledOnly(_), ConfigMode::Preinstalled) => Ok(()),
        (Support::PreinstalledOnly(why) | Support::No(why), _) => {
            Err(Failure::new(Reason::Unsupported, why))
        }
    }
}

/// Checks that the node is the distribution that the request states.
fn is_requested_distribution(installation: &Installation<'_>) -> Result<(), Failure> {
    let (request, layout) = (installation.request, &installation.layout);
    let hints =
        detect::distribution_hints(installation.node.root, installation.node.machine, layout)
            .with_reason(Reason::HostFiles, || {
                "detect the node's distribution".to_owned()
            })?;
    // By naming the unit, an admin has decided the distribution.
    let is_named = request
        .paths
        .unit
        .as_ref()
        .is_some_and(|unit| hints.active.contains(unit));
    let Some(found) = detect::distribution(&hints) else {
        return Ok(());
    };
    if found == request.distribution || is_named {
        return Ok(());
    }
    // If the distribution is not supported at all, that is the message.
    if let Support::No(why) = found.layout().support {
        return Err(Failure::new(Reason::Unsupported, why));
    }
    let action = match request.verb {
        Verb::Install => "installed",
        Verb::Uninstall => "removed",
    };
    let step = match found {
        Distribution::MicroK8s => "give the Node object the label microk8s.io/cluster=true",
        _ => "compare the kubelet's version and the OS image that the Node object shows",
    };
    let message = format!(
        "the node is {found:?} (active units: {}), its Node object was taken for {:?}: nothing is \
         {action}; {step}, or, if the node is as intended, set spec.containerd.paths to its \
         containerd's unit and files",
        hints
            .active
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        request.distribution
    );
    Err(Failure::new(Reason::DistributionMismatch, message))
}
