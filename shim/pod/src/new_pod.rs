//! The set-up of a pod's thread, decided from the sandbox container's OCI spec without I/O.
//!
//! Only the namespaces, names and sysctls of the spec are used. The rest describes the process of a
//! pause image (its arguments, mounts, capabilities, seccomp filter, devices), and there is no such
//! process.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::error::PodError;
use crate::sysctl::{Owner, PodSysctl};

/// The namespaces of a new pod. Every value of this type can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPod {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) users: Users,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) network: Network,
    pub(crate) ipc: Ipc,
    pub(crate) uts: Uts,
    pub(crate) sysctls: Vec<PodSysctl>,
}

/// The network of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The namespace at this path, which containerd created and connected.
    Join(PathBuf),
    /// A new namespace without an interface that is up, for sandboxes without a prepared network
    /// (`ctr`; CRI always joins).
    Own,
    /// The node's.
    Node,
}

/// The user namespace of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// The node's.
    Node,
    /// The user namespace at this path, which containerd created with the pod's network
    /// (`hostUsers: false`).
    Join(PathBuf),
}

/// The namespace of a pod's System V and POSIX message queues, semaphores and shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipc {
    /// The pod's own.
    Own,
    /// The node's (`hostIPC: true`).
    Node,
}

/// The host name of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uts {
    /// The pod's own; a name that is not given stays the node's.
    Own {
        /// The host name.
        hostname: Option<String>,
        /// The NIS domain name.
        domainname: Option<String>,
    },
    /// The node's (`hostNetwork: true`).
    Node,
}

impl NewPod {
    /// Parses the spec of the sandbox container `id`, without I/O.
    pub fn from_spec(id: &str, spec: &Spec) -> Result<Self, PodError> {
        let linux = spec.linux().as_ref().ok_or(PodError::NotLinux)?;
        let mut network = Network::Node;
        let mut ipc = Ipc::Node;
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
                // Used by the pause process alone: containers do not join them, except for the pid
                // namespace of pods that share it, which a thread cannot provide (see the crate's
                // description).
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
            (false, None, None) => Uts::Node,
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

    /// Returns the user namespace of its containers.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Makes a pod from its namespaces; `sysctls` maps names to values. Does no I/O.
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
            let sysctl = PodSysctl::parse(name, value)?;
            let refuse = |reason| {
                Err(PodError::Sysctl {
                    name: name.clone(),
                    reason,
                })
            };
            match sysctl.owner {
                Owner::Network if network == Network::Node => {
                    refuse("the pod uses the node's network (hostNetwork), whose value this is")
                }
                Owner::Ipc if ipc == Ipc::Node => {
                    refuse("the pod uses the node's IPC namespace (hostIPC), whose value this is")
                }
                Owner::Uts if uts == Uts::Node => {
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

/// Fails if the namespace is not a new one.
fn own(kind: &'static str, namespace: &LinuxNamespace) -> Result<(), PodError> {
    match namespace.path() {
        None => Ok(()),
        Some(path) => Err(PodError::Joined {
            kind,
            path: path.clone(),
        }),
    }
}

/// Returns the thread's name for `ps -L`: as much of the id as fits into Linux' 15 bytes, without
/// NULs, which no name can have.
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
