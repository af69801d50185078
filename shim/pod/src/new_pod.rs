//! What the thread of a pod has to do, decided from the sandbox container's OCI spec; nothing is
//! done here.
//!
//! Of the spec only the namespaces, the names and the sysctls count. The rest describes the process
//! of a pause image (its arguments, mounts, capabilities, seccomp filter, devices), and there is no
//! such process.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::error::PodError;
use crate::sysctl::{Owner, Sysctl};

/// A pod's namespaces as they shall be. Whatever a value of this type says can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPod {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) users: Users,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) network: Network,
    pub(crate) ipc: Ipc,
    pub(crate) uts: Uts,
    pub(crate) sysctls: Vec<Sysctl>,
}

/// The network that a pod's containers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The namespace at this path, which containerd made and connected before.
    Join(PathBuf),
    /// A new one in which no interface is up, for sandboxes that nobody makes a network for (`ctr`;
    /// CRI always joins).
    Own,
    /// The node's.
    Host,
}

/// Whose users a pod's containers have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// The node's.
    Node,
    /// Those of the user namespace at this path, which containerd made before, with the pod's
    /// network (`hostUsers: false`).
    Join(PathBuf),
}

/// Where a pod's System V and POSIX message queues, semaphores and shared memory live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipc {
    /// In a namespace of the pod's own.
    Own,
    /// In the node's (`hostIPC: true`).
    Host,
}

/// Whose host name a pod's containers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uts {
    /// The pod's own; a name that is not given stays as the node's is.
    Own {
        /// The host name.
        hostname: Option<String>,
        /// The NIS domain name.
        domainname: Option<String>,
    },
    /// The node's (`hostNetwork: true`).
    Host,
}

impl NewPod {
    /// From the spec of the sandbox container `id`. Pure.
    pub fn of(id: &str, spec: &Spec) -> Result<Self, PodError> {
        let linux = spec.linux().as_ref().ok_or(PodError::NotLinux)?;
        let mut network = Network::Host;
        let mut ipc = Ipc::Host;
        let mut own_uts = false;
        let mut users = Users::Node;
        for namespace in linux.namespaces().iter().flatten() {
            match namespace.typ() {
                LinuxNamespaceType::Network => {
                    network = namespace.path().clone().map_or(Network::Own, Network::Join);
                }
                LinuxNamespaceType::Ipc => ipc = own("ipc", namespace).map(|()| Ipc::Own)?,
                LinuxNamespaceType::Uts => own_uts = own("uts", namespace).map(|()| true)?,
                LinuxNamespaceType::User => {
                    users =
                        Users::Join(namespace.path().clone().ok_or(PodError::NewUserNamespace)?);
                }
                LinuxNamespaceType::Time => return Err(PodError::Namespace { kind: "time" }),
                // Of the pause process alone: no container joins them, but for the pid namespace of
                // pods that share it, which a thread cannot give (see the crate's description).
                LinuxNamespaceType::Pid
                | LinuxNamespaceType::Mount
                | LinuxNamespaceType::Cgroup => {}
            }
        }
        let hostname = spec.hostname().clone().filter(|name| !name.is_empty());
        let domainname = spec.domainname().clone().filter(|name| !name.is_empty());
        let uts = match (own_uts, hostname, domainname) {
            (true, hostname, domainname) => Uts::Own {
                hostname,
                domainname,
            },
            (false, None, None) => Uts::Host,
            (false, Some(value), _) => {
                return Err(PodError::NameOfNode {
                    field: "hostname",
                    value,
                });
            }
            (false, None, Some(value)) => {
                return Err(PodError::NameOfNode {
                    field: "domainname",
                    value,
                });
            }
        };
        let sysctls = linux
            .sysctl()
            .iter()
            .flat_map(HashMap::iter)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let oom_score_adj = spec
            .process()
            .as_ref()
            .and_then(oci_spec::runtime::Process::oom_score_adj);
        Ok(Self {
            users,
            oom_score_adj,
            ..Self::new(id, network, ipc, uts, &sysctls)?
        })
    }

    /// Whose users its containers have.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// From the namespaces that a pod shall have; `sysctls` maps names to values. Pure.
    ///
    /// Fails for a sysctl of a namespace that is not the pod's own: its value would be the node's.
    pub fn new(
        id: &str,
        network: Network,
        ipc: Ipc,
        uts: Uts,
        sysctls: &BTreeMap<String, String>,
    ) -> Result<Self, PodError> {
        let sysctls = sysctls.iter().map(|(name, value)| {
            let sysctl = Sysctl::parse(name, value)?;
            let refuse = |reason| {
                Err(PodError::Sysctl {
                    name: name.clone(),
                    reason,
                })
            };
            match sysctl.owner {
                Owner::Network if network == Network::Host => {
                    refuse("the pod uses the node's network (hostNetwork), whose value this is")
                }
                Owner::Ipc if ipc == Ipc::Host => {
                    refuse("the pod uses the node's IPC namespace (hostIPC), whose value this is")
                }
                Owner::Uts if uts == Uts::Host => {
                    refuse("the pod uses the node's host name (hostNetwork), whose value this is")
                }
                Owner::Network | Owner::Ipc | Owner::Uts => Ok(sysctl),
            }
        });
        let sysctls = sysctls.collect::<Result<_, _>>()?;
        Ok(Self {
            id: id.to_owned(),
            name: thread_name(id),
            users: Users::Node,
            oom_score_adj: None,
            network,
            ipc,
            uts,
            sysctls,
        })
    }
}

/// Fails for a namespace that is somebody else's.
fn own(kind: &'static str, namespace: &LinuxNamespace) -> Result<(), PodError> {
    match namespace.path() {
        None => Ok(()),
        Some(path) => Err(PodError::Joined {
            kind,
            path: path.clone(),
        }),
    }
}

/// What `ps -L` shows for the thread: as much of the id as fits into Linux' 15 bytes. NULs, which
/// no name can hold, go.
fn thread_name(id: &str) -> String {
    let mut name = "pod-".to_owned();
    for c in id.chars().filter(|c| *c != '\0') {
        if name.len() + c.len_utf8() > 15 {
            break;
        }
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests;
