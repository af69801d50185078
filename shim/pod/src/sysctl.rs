//! Parsing of a sysctl's name: its file, and the namespace that it belongs to.
//!
//! A pod may set only sysctls that belong to its own namespaces; any other would change the node.
//! Files of such sysctls show the values of the opening process's namespaces, so the pod's thread
//! writes them after it has joined its namespaces.

use std::path::PathBuf;

use crate::error::PodError;

/// A sysctl that is safe to write from inside the namespace it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodSysctl {
    /// The name in the pod's spec, for messages.
    pub(crate) name: String,
    /// The path below `/proc/sys`.
    pub(crate) file: PathBuf,
    /// The value to write.
    pub(crate) value: String,
    /// The namespace that it belongs to.
    pub(crate) owner: Owner,
}

/// The namespace that a sysctl belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Network,
    Ipc,
    Uts,
}

/// The sysctls outside `net` and `fs/mqueue` that Linux keeps per IPC namespace and the OCI
/// runtimes agree on.
const OF_IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

impl PodSysctl {
    /// Parses a name as sysctl(8) does, and refuses sysctls that a pod cannot set.
    pub(crate) fn parse(name: &str, value: &str) -> Result<Self, PodError> {
        let refuse = |reason| PodError::Sysctl {
            name: name.to_owned(),
            reason,
        };
        let key = slashed(name);
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refuse("it is not a sysctl's name"));
        }
        let owner = match key.as_str() {
            "kernel/hostname" => return Err(refuse("set the pod's hostname instead")),
            "kernel/domainname" => Owner::Uts,
            key if key.starts_with("net/") => Owner::Network,
            key if key.starts_with("fs/mqueue/") || OF_IPC.contains(&key) => Owner::Ipc,
            _ => {
                return Err(refuse(
                    "Linux has one value of it for the whole node; an administrator sets it there",
                ));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            file: PathBuf::from("/proc/sys").join(key),
            value: value.to_owned(),
            owner,
        })
    }
}

/// Returns the name with slashes between its parts. The first separator decides which of `.` and
/// `/` separates; the other one is then a dot inside a part, as in an interface's name:
/// `net.ipv4.conf.eth0/100.forwarding` is about `eth0.100`.
fn slashed(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_parsed_with_dots_or_slashes() {
        for (name, file, owner) in [
            (
                "net.ipv4.ip_unprivileged_port_start",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                Owner::Network,
            ),
            (
                "net/ipv4/ip_forward",
                "/proc/sys/net/ipv4/ip_forward",
                Owner::Network,
            ),
            (
                "net.ipv4.conf.eth0/100.forwarding",
                "/proc/sys/net/ipv4/conf/eth0.100/forwarding",
                Owner::Network,
            ),
            (
                "net/ipv4/conf/eth0.100/forwarding",
                "/proc/sys/net/ipv4/conf/eth0.100/forwarding",
                Owner::Network,
            ),
            (
                "kernel.shm_rmid_forced",
                "/proc/sys/kernel/shm_rmid_forced",
                Owner::Ipc,
            ),
            (
                "fs.mqueue.msg_max",
                "/proc/sys/fs/mqueue/msg_max",
                Owner::Ipc,
            ),
            (
                "kernel.domainname",
                "/proc/sys/kernel/domainname",
                Owner::Uts,
            ),
        ] {
            let sysctl = PodSysctl::parse(name, "1").unwrap();
            assert_eq!(
                (
                    sysctl.file.to_str().unwrap(),
                    sysctl.owner,
                    sysctl.name.as_str()
                ),
                (file, owner, name)
            );
        }
    }

    #[test]
    fn sysctl_of_the_node_or_outside_the_folder_is_refused() {
        for name in [
            "vm.overcommit_memory",
            "kernel.pid_max",
            "kernel.hostname",
            "net",
            "",
            "net..ipv4",
            "net/../kernel/pid_max",
            "net.ipv4.//.x",
            "kernel.sem.x",
        ] {
            let error = PodSysctl::parse(name, "1").unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("sysctl {name} cannot be set for a pod: ")),
                "{error}"
            );
        }
    }
}
