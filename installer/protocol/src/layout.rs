//! The paths of each Kubernetes distribution, as one table.
//!
//! Sources: the distributions' documentation and source code as of 2026-08. This project tests only
//! [`Distribution::Systemd`] on a running system (kind); the others are tested on file trees made
//! from their documentation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::request::Paths;

/// The folder of all runtimes, in [`Layout::install`].
pub const INSTALL_FOLDER: &str = "wasmedge-runtime";

/// A family of nodes with the same paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Distribution {
    /// containerd as its own systemd unit with `/etc/containerd/config.toml`: kubeadm, kind,
    /// minikube, AKS, EKS on Amazon Linux 2023, GKE on Ubuntu.
    Systemd,
    /// k3s, server or agent: containerd is a child of k3s, which writes its configuration.
    K3s,
    /// RKE2, server or agent: like k3s.
    Rke2,
    /// k0s: watches a folder of drop-ins and restarts its containerd.
    K0s,
    /// MicroK8s: a snap; its configuration is rendered from a template at each start.
    MicroK8s,
    /// Talos: read-only; a system extension adds the runtime.
    Talos,
    /// Bottlerocket: read-only, configured through its own API.
    Bottlerocket,
    /// Google's Container-Optimized OS: does not execute files from writable folders.
    ContainerOptimized,
    /// A node with another container runtime than containerd.
    OtherRuntime,
}

/// The support of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The runtime can be installed.
    Full,
    /// The runtime can be used if the node's image contains it, mode `Preinstalled`; the reason why
    /// it cannot be installed.
    PreinstalledOnly(&'static str),
    /// The runtime cannot be used; the reason.
    No(&'static str),
}

/// The way in which a handler is added to a distribution's containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configuration {
    /// The admin owns the main file: a drop-in beside it if containerd merges those correctly, else
    /// the file itself.
    MainFile,
    /// The main file is rendered at each start and imports these folders: the first for schema
    /// version 2, the second for 3.
    Rendered {
        /// Drop-ins of schema version 2.
        v2: String,
        /// Drop-ins of schema version 3 and later.
        v3: String,
    },
    /// The distribution watches this folder of drop-ins.
    Watched {
        /// The folder.
        folder: String,
    },
    /// The main file is a template: edited in place, whatever containerd's version.
    Template,
}

/// The component that restarts containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarter {
    /// The installer, through systemd.
    Installer,
    /// The distribution, when the configuration changes.
    Distribution,
}

/// Paths on a node. All are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The support of the distribution.
    pub support: Support,
    /// The main configuration file, or the template that it is rendered from.
    pub config: String,
    /// The way in which a handler is added.
    pub configuration: Configuration,
    /// Units that may run containerd; the active one does.
    pub units: Vec<String>,
    /// The component that restarts containerd.
    pub restarter: Restarter,
    /// containerd's socket.
    pub socket: String,
    /// containerd's state folder, in which each container's bundle names its shim.
    pub state: String,
    /// Possible paths of containerd's program.
    pub programs: Vec<String>,
    /// The folders that contain the program and the targets of its links, if outside of `/usr`.
    pub program_folders: Vec<String>,
    /// The folder in which `wasmedge-runtime` is created.
    pub install: String,
}

/// A path of the node that the installer sees, at the same path below its node root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The path.
    pub path: String,
    /// The installer's access.
    pub access: MountAccess,
    /// The behaviour if the path is absent.
    pub absent: Absent,
}

/// The access of an installer to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountAccess {
    /// Read-only.
    Read,
    /// Read and write.
    Write,
}

/// The behaviour if a mount's path is absent on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absent {
    /// The installer does not start.
    Refused,
    /// An empty folder is created.
    Made,
}

impl Distribution {
    /// All distributions, for tables and tests.
    pub const ALL: &'static [Self] = &[
        Self::Systemd,
        Self::K3s,
        Self::Rke2,
        Self::K0s,
        Self::MicroK8s,
        Self::Talos,
        Self::Bottlerocket,
        Self::ContainerOptimized,
        Self::OtherRuntime,
    ];

    /// Returns the distribution's paths.
    pub fn layout(self) -> Layout {
        match self {
            Self::Systemd => Layout::systemd(),
            Self::K3s => Layout::rancher(
                "k3s",
                &["k3s.service", "k3s-agent.service"],
                "data/current/bin/containerd",
                &["data"],
            ),
            Self::Rke2 => Layout::rancher(
                "rke2",
                &["rke2-server.service", "rke2-agent.service"],
                "bin/containerd",
                &["bin", "data"],
            ),
            Self::K0s => Layout::k0s(),
            Self::MicroK8s => Layout::microk8s(),
            Self::Talos => Layout {
                support: Support::PreinstalledOnly(
                    "Talos cannot be changed: add a system extension with the runtime and set \
                     containerd.mode to Preinstalled",
                ),
                ..Layout::systemd()
            },
            Self::Bottlerocket => Layout {
                support: Support::No(
                    "Bottlerocket cannot be changed from a pod: use nodes of another image for \
                     WebAssembly",
                ),
                ..Layout::systemd()
            },
            Self::ContainerOptimized => Layout {
                support: Support::No(
                    "Container-Optimized OS does not execute files from writable folders: use \
                     Ubuntu nodes",
                ),
                ..Layout::systemd()
            },
            Self::OtherRuntime => Layout {
                support: Support::No(
                    "the node's container runtime is not containerd, which the runtime needs",
                ),
                ..Layout::systemd()
            },
        }
    }
}

impl Layout {
    fn systemd() -> Self {
        Self {
            support: Support::Full,
            config: "/etc/containerd/config.toml".to_owned(),
            configuration: Configuration::MainFile,
            units: vec!["containerd.service".to_owned()],
            restarter: Restarter::Installer,
            socket: "/run/containerd/containerd.sock".to_owned(),
            state: "/run/containerd".to_owned(),
            programs: vec![
                "/usr/bin/containerd".to_owned(),
                "/usr/local/bin/containerd".to_owned(),
            ],
            program_folders: Vec::new(),
            install: "/opt".to_owned(),
        }
    }

    fn rancher(name: &str, units: &[&str], program: &str, folders: &[&str]) -> Self {
        let data = format!("/var/lib/rancher/{name}");
        let folder = format!("{data}/agent/etc/containerd");
        Self {
            config: format!("{folder}/config.toml"),
            configuration: Configuration::Rendered {
                v2: format!("{folder}/config.toml.d"),
                v3: format!("{folder}/config-v3.toml.d"),
            },
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
            socket: "/run/k3s/containerd/containerd.sock".to_owned(),
            state: "/run/k3s/containerd".to_owned(),
            programs: vec![format!("{data}/{program}")],
            program_folders: folders
                .iter()
                .map(|folder| format!("{data}/{folder}"))
                .collect(),
            ..Self::systemd()
        }
    }

    fn k0s() -> Self {
        Self {
            config: "/etc/k0s/containerd.toml".to_owned(),
            configuration: Configuration::Watched {
                folder: "/etc/k0s/containerd.d".to_owned(),
            },
            units: vec![
                "k0sworker.service".to_owned(),
                "k0scontroller.service".to_owned(),
            ],
            restarter: Restarter::Distribution,
            socket: "/run/k0s/containerd.sock".to_owned(),
            state: "/run/k0s/containerd".to_owned(),
            programs: vec!["/var/lib/k0s/bin/containerd".to_owned()],
            program_folders: vec!["/var/lib/k0s/bin".to_owned()],
            ..Self::systemd()
        }
    }

    fn microk8s() -> Self {
        Self {
            config: "/var/snap/microk8s/current/args/containerd-template.toml".to_owned(),
            configuration: Configuration::Template,
            units: vec!["snap.microk8s.daemon-containerd.service".to_owned()],
            socket: "/var/snap/microk8s/common/run/containerd.sock".to_owned(),
            state: "/var/snap/microk8s/common/run/containerd".to_owned(),
            programs: vec!["/snap/microk8s/current/bin/containerd".to_owned()],
            program_folders: vec!["/snap/microk8s".to_owned()],
            install: "/var/snap/microk8s/common".to_owned(),
            ..Self::systemd()
        }
    }

    /// Replaces the distribution's paths by an admin's.
    #[must_use]
    pub fn with(mut self, paths: &Paths) -> Self {
        let Paths {
            config,
            socket,
            unit,
            install,
        } = paths.clone();
        self.config = config.unwrap_or(self.config);
        self.socket = socket.unwrap_or(self.socket);
        self.units = unit.map_or(self.units, |unit| vec![unit]);
        self.install = install.unwrap_or(self.install);
        self
    }

    /// Returns the paths of the node that an installer has to see, sorted. No path is inside
    /// another one with the same access.
    pub fn mounts(&self) -> Vec<Mount> {
        let write = |path: &str| Mount {
            path: path.to_owned(),
            access: MountAccess::Write,
            absent: Absent::Made,
        };
        let read = |path: &str| Mount {
            path: path.to_owned(),
            access: MountAccess::Read,
            absent: Absent::Refused,
        };
        let mut mounts = vec![
            // Programs of the node and their libraries: containerd checks a configuration before it
            // is in force.
            read("/usr"),
            // systemd's private socket.
            read("/run/systemd"),
            // Shows the cgroup driver of the node's pods.
            read("/sys/fs/cgroup"),
            write(parent(&self.config)),
            // The socket's folder, not the socket: a restarted containerd creates a new socket.
            write(parent(&self.socket)),
            write(&self.state),
            write(&self.install),
        ];
        match &self.configuration {
            Configuration::Rendered { v2, v3 } => {
                mounts.extend([v2, v3].map(|folder| write(parent(folder))));
            }
            Configuration::Watched { folder } => mounts.push(write(parent(folder))),
            Configuration::MainFile | Configuration::Template => {}
        }
        mounts.extend(self.program_folders.iter().map(|folder| read(folder)));
        outermost(mounts)
    }
}

/// Removes the mounts that are inside another one. A path that is both read and written is written.
fn outermost(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.sort_by(|one, other| {
        one.path
            .cmp(&other.path)
            .then(other.access.cmp(&one.access))
    });
    mounts.dedup_by(|next, kept| next.path == kept.path);
    let all: BTreeSet<Mount> = mounts.iter().cloned().collect();
    // A writable folder inside a read-only one stays a mount of its own.
    let inside = |mount: &Mount, other: &Mount| {
        mount.path != other.path
            && mount.path.starts_with(&format!("{}/", other.path))
            && other.access >= mount.access
    };
    mounts.retain(|mount| !all.iter().any(|other| inside(mount, other)));
    mounts
}

/// Returns the parent folder of a path.
pub fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(distribution: Distribution) -> Vec<String> {
        let sign = |mount: &Mount| {
            if mount.access == MountAccess::Write {
                "w"
            } else {
                "r"
            }
        };
        distribution
            .layout()
            .mounts()
            .iter()
            .map(|mount| format!("{} {}", sign(mount), mount.path))
            .collect()
    }

    #[test]
    fn node_gives_the_installer_these_paths_and_no_others() {
        assert_eq!(
            paths(Distribution::Systemd),
            [
                "w /etc/containerd",
                "w /opt",
                "w /run/containerd",
                "r /run/systemd",
                "r /sys/fs/cgroup",
                "r /usr"
            ]
        );
        let k3s = paths(Distribution::K3s);
        for expected in [
            "w /run/k3s/containerd",
            "w /var/lib/rancher/k3s/agent/etc/containerd",
            "r /var/lib/rancher/k3s/data",
        ] {
            assert!(
                k3s.iter().any(|path| path == expected),
                "{expected} in {k3s:?}"
            );
        }
        let microk8s = paths(Distribution::MicroK8s);
        assert!(
            microk8s.contains(&"w /var/snap/microk8s/common".to_owned()),
            "{microk8s:?}"
        );
        assert!(
            !microk8s.iter().any(|path| path.ends_with("/opt")),
            "{microk8s:?}"
        );
    }

    #[test]
    fn whole_root_is_never_mounted() {
        for distribution in Distribution::ALL {
            for mount in distribution.layout().mounts() {
                assert!(
                    mount.path.len() > 1 && mount.path.starts_with('/'),
                    "{distribution:?} mounts {mount:?}"
                );
            }
        }
    }

    #[test]
    fn admins_path_replaces_the_distributions() {
        let own = Paths {
            config: Some("/data/ctd/config.toml".to_owned()),
            unit: Some("my.service".to_owned()),
            ..Paths::default()
        };
        let layout = Distribution::Systemd.layout().with(&own);
        assert_eq!(
            (layout.config.as_str(), layout.units.as_slice()),
            (
                "/data/ctd/config.toml",
                ["my.service".to_owned()].as_slice()
            )
        );
        assert!(
            layout
                .mounts()
                .iter()
                .any(|mount| mount.path == "/data/ctd")
        );
    }
}
