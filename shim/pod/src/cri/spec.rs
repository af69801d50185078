//! The OCI spec of a pod's sandbox, in the form of containerd's own sandbox controller: so pods are
//! created in one way through either API, and containerd can store the spec with its other data of
//! the pod.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{PodConfig, Scope};

/// The sysctls that containerd sets in each pod's network by default: any user may open any port,
/// and may ping. The Sandbox API does not pass containerd's configuration of them.
const DEFAULT_SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

impl PodConfig {
    /// Returns the spec of the sandbox `id` with the network namespace `netns`, without I/O.
    pub fn spec(&self, id: &str, netns: &str) -> Spec {
        let mut spec = json!({
            "ociVersion": "1.2.0",
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["pause"]},
            "root": {"path": "rootfs", "readonly": true},
            "annotations": {
                "io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-id": id,
                "io.kubernetes.cri.sandbox-name": self.name,
                "io.kubernetes.cri.sandbox-namespace": self.namespace,
                "io.kubernetes.cri.sandbox-uid": self.uid,
            },
            "linux": {
                "namespaces": self.namespaces(netns),
                "sysctl": self.all_sysctls(),
            },
        });
        if !self.hostname.is_empty() {
            spec["hostname"] = json!(self.hostname);
        }
        if !self.cgroup_parent.is_empty() {
            spec["linux"]["cgroupsPath"] = json!(self.cgroup_of(id));
        }
        serde_json::from_value(spec)
            .expect("each field has the type that the OCI runtime spec gives it")
    }

    fn namespaces(&self, netns: &str) -> Vec<Value> {
        let mut namespaces = vec![json!({"type": "mount"})];
        if self.network != Scope::Node {
            // Without a path containerd made none, and the pod gets an empty one.
            namespaces.push(if netns.is_empty() {
                json!({"type": "network"})
            } else {
                json!({"type": "network", "path": netns})
            });
            namespaces.push(json!({"type": "uts"}));
        }
        if self.ipc != Scope::Node {
            namespaces.push(json!({"type": "ipc"}));
        }
        if self.pid != Scope::Node {
            namespaces.push(json!({"type": "pid"}));
        }
        if self.own_users {
            namespaces.push(json!({"type": "user"}));
        }
        namespaces
    }

    fn all_sysctls(&self) -> Value {
        let mut sysctls = self.sysctls.clone();
        if self.network != Scope::Node {
            for (name, value) in DEFAULT_SYSCTLS {
                sysctls
                    .entry(name.to_owned())
                    .or_insert_with(|| value.to_owned());
            }
        }
        json!(sysctls)
    }

    /// Returns the sandbox's cgroup below the pod's. Children of a slice are named in systemd's
    /// form: slice, prefix, name.
    fn cgroup_of(&self, id: &str) -> String {
        match self.slice() {
            Some(slice) => format!("{slice}:cri-containerd:{id}"),
            None => Path::new(&self.cgroup_parent)
                .join(id)
                .display()
                .to_string(),
        }
    }

    /// Returns the slice that is the pod's cgroup, if systemd sets up cgroups.
    pub fn slice(&self) -> Option<&str> {
        let name = self.cgroup_parent.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".slice")
            .filter(|stem| !stem.is_empty())
            .map(|_| name)
    }
}
