//! Where the distributions of Kubernetes keep what the installer needs: one table.
//!
//! Sources: the distributions' documentation and sources as of 2026-08. Only
//! [`Distribution::Systemd`] is tested on a running system by this project (kind); the others are
//! tested on file trees made after their documentation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::request::Paths;

/// The folder of all runtimes, in [`Layout::install`].
pub const INSTALL_FOLDER: &str = "wasmedge-runtime";

/// A family of nodes that are laid out alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Distribution {
    /// containerd as a systemd unit of its own with `/etc/containerd/config.toml`: kubeadm, kind,
    /// minikube, AKS, EKS on Amazon Linux 2023, GKE on Ubuntu.
    Systemd,
    /// k3s, server or agent: containerd is a child of k3s, which writes its configuration.
    K3s,
    /// RKE2, server or agent: as k3s.
    Rke2,
    /// k0s: watches a folder of drop-ins and restarts its containerd itself.
    K0s,
    /// MicroK8s: a snap, whose configuration is made of a template at each start.
    MicroK8s,
    /// Talos: read-only; a system extension brings the runtime.
    Talos,
    /// Bottlerocket: read-only, configured through its own API.
    Bottlerocket,
    /// Google's Container-Optimized OS: no place to execute files from.
    ContainerOptimized,
    /// A node whose container runtime is not containerd.
    OtherRuntime,
}

/// What can be done with a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The runtime can be installed.
    Full,
    /// It can be used where the node's image brings it, mode `Preinstalled`; why it cannot be
    /// installed.
    PreinstalledOnly(&'static str),
    /// It cannot be used; why.
    No(&'static str),
}

/// How a distribution's containerd learns of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configuration {
    /// The main file is the admin's: a drop-in beside it where containerd merges those rightly,
    /// else the file itself.
    MainFile,
    /// The main file is rendered at each start and imports these folders, the first for schema 2,
    /// the second for 3.
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

/// Who restarts containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarter {
    /// The installer, through systemd.
    Installer,
    /// The distribution, when it sees a change.
    Distribution,
}

/// Paths on a host. All are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What can be done.
    pub support: Support,
    /// The main configuration file, or the template that it is made of.
    pub config: String,
    /// How containerd learns of a handler.
    pub configuration: Configuration,
    /// Units that may run containerd, the one that does being active.
    pub units: Vec<String>,
    /// Who restarts it.
    pub restarter: Restarter,
    /// containerd's socket.
    pub socket: String,
    /// containerd's state folder, in which each container's bundle says which shim serves it.
    pub state: String,
    /// Where its program may lie.
    pub programs: Vec<String>,
    /// The folders that hold it and what its links lead to, where that is not `/usr`.
    pub program_folders: Vec<String>,
    /// The folder that `wasmedge-runtime` is made in.
    pub install: String,
}

/// A path of the host that the installer sees, under the same path below its host root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The path.
    pub path: String,
    /// What the installer may do there.
    pub access: MountAccess,
    /// What is done where it is absent.
    pub absent: Absent,
}

/// What an installer may do with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountAccess {
    /// Look.
    Read,
    /// Change.
    Write,
}

/// What becomes of a mount whose path is not on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absent {
    /// The installer cannot start there.
    Refused,
    /// It is made, as an empty folder.
    Made,
}

impl Distribution {
    /// Every one, for tables and tests.
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

    /// Where it keeps what.
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
                    "Container-Optimized OS executes no files from folders that can be written: \
                     use Ubuntu nodes",
                ),
                ..Layout::systemd()
            },
            Self::OtherRuntime => Layout {
                support: Support::No(
                    "the node's container runtime is not containerd, which the runtime is made for",
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

    /// With an admin's own paths in place of the distribution's.
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

    /// What of the host an installer has to see, in the order of their paths: each only once, none
    /// inside another.
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
            // Programs of the host and their libraries: containerd judges a configuration before it
            // has to live with it.
            read("/usr"),
            // systemd's private socket.
            read("/run/systemd"),
            // Which driver the node's pods are seen to use.
            read("/sys/fs/cgroup"),
            write(parent(&self.config)),
            // The socket's folder, not the socket: a restarted containerd makes another one.
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

/// The mounts that lie in no other one; where a path is both read and written, it is written.
fn outermost(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.sort_by(|one, other| {
        one.path
            .cmp(&other.path)
            .then(other.access.cmp(&one.access))
    });
    mounts.dedup_by(|next, kept| next.path == kept.path);
    let all: BTreeSet<Mount> = mounts.iter().cloned().collect();
    // A folder that is written inside one that is only read stays a mount of its own.
    let inside = |mount: &Mount, other: &Mount| {
        mount.path != other.path
            && mount.path.starts_with(&format!("{}/", other.path))
            && other.access >= mount.access
    };
    mounts.retain(|mount| !all.iter().any(|other| inside(mount, other)));
    mounts
}

/// The folder that a path lies in.
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
    fn a_node_gives_the_installer_these_paths_and_no_others() {
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
    fn the_whole_root_is_never_mounted() {
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
    fn an_admins_path_replaces_the_distributions() {
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
