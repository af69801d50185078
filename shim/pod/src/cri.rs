//! A pod as CRI describes it, for containerd's Sandbox API, in which the runtime makes the pod
//! itself.
//!
//! Of the message `PodSandboxConfig` the fields are read that a pod of this runtime has a use for;
//! labels, port mappings, log folder and what describes the process of a pause image are not.
//! Numbers and meanings: `k8s.io/cri-api`, `pkg/apis/runtime/v1/api.proto`, as of Kubernetes 1.37;
//! a number never changes its meaning.

use std::collections::BTreeMap;

use shim_protocol::wire::{self, Field, Malformed, Value};

mod spec;

/// A pod as CRI describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodConfig {
    /// The pod's name in Kubernetes.
    pub name: String,
    /// The pod's namespace in Kubernetes.
    pub namespace: String,
    /// The pod's uid in Kubernetes.
    pub uid: String,
    /// Its host name; empty when it has the node's.
    pub hostname: String,
    /// What its `/etc/resolv.conf` says; `None` when that is the node's.
    pub dns: Option<Dns>,
    /// The cgroup that kubelet made for it: a path, or a slice's name if systemd sets up cgroups.
    pub cgroup_parent: String,
    /// Sysctls by name.
    pub sysctls: BTreeMap<String, String>,
    /// Whose network it sees.
    pub network: Scope,
    /// Whose processes it sees.
    pub pid: Scope,
    /// Whose IPC objects it sees.
    pub ipc: Scope,
    /// Whether it has user ids of its own (`hostUsers: false`).
    pub own_users: bool,
}

/// What a pod's name resolution asks, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains in which short names are looked up.
    pub searches: Vec<String>,
    /// Options as resolv.conf(5) has them.
    pub options: Vec<String>,
}

/// How far a namespace reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// It is shared by the pod's containers.
    #[default]
    Pod,
    /// Each container has its own, or another container's.
    Container,
    /// It is the node's.
    Node,
}

impl PodConfig {
    /// Reads a `runtime.v1.PodSandboxConfig`.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut config = Self::default();
        for Field { number, value } in wire::fields(message)? {
            match (number, value) {
                (1, Value::Bytes(metadata)) => config.read_metadata(metadata)?,
                (2, value) => config.hostname = text(value),
                (4, Value::Bytes(dns)) => config.dns = Some(Dns::decode(dns)?),
                (8, Value::Bytes(linux)) => config.read_linux(linux)?,
                _ => {}
            }
        }
        Ok(config)
    }

    fn read_metadata(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for Field { number, value } in wire::fields(message)? {
            match number {
                1 => self.name = text(value),
                2 => self.uid = text(value),
                3 => self.namespace = text(value),
                _ => {}
            }
        }
        Ok(())
    }

    /// A `LinuxPodSandboxConfig`.
    fn read_linux(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for Field { number, value } in wire::fields(message)? {
            match (number, value) {
                (1, value) => self.cgroup_parent = text(value),
                (2, Value::Bytes(security)) => {
                    for options in submessages(security, 1)? {
                        self.read_namespaces(options)?;
                    }
                }
                (3, Value::Bytes(entry)) => {
                    let (name, value) = entry_of_map(entry)?;
                    self.sysctls.insert(name, value);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A `NamespaceOption`.
    fn read_namespaces(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for Field { number, value } in wire::fields(message)? {
            match (number, value) {
                (1, Value::Varint(mode)) => self.network = Scope::of_mode(mode),
                (2, Value::Varint(mode)) => self.pid = Scope::of_mode(mode),
                (3, Value::Varint(mode)) => self.ipc = Scope::of_mode(mode),
                // The mode of a `UserNamespace` that is the pod's is 0, which is not sent.
                (5, Value::Bytes(users)) => {
                    let mode = wire::fields(users)?
                        .into_iter()
                        .find(|field| field.number == 1);
                    self.own_users = !matches!(mode, Some(Field { value: Value::Varint(mode),
                        .. }) if Scope::of_mode(mode) == Scope::Node);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Dns {
    fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut dns = Self::default();
        for Field { number, value } in wire::fields(message)? {
            match number {
                1 => dns.servers.push(text(value)),
                2 => dns.searches.push(text(value)),
                3 => dns.options.push(text(value)),
                _ => {}
            }
        }
        Ok(dns)
    }
}

impl Scope {
    fn of_mode(mode: u64) -> Self {
        match mode {
            0 => Self::Pod,
            2 => Self::Node,
            _ => Self::Container,
        }
    }
}

/// A string field; protobuf promises UTF-8, and what breaks that promise is no name of anything.
fn text(value: Value<'_>) -> String {
    value.text().unwrap_or_default().to_owned()
}

fn submessages(message: &[u8], number: u32) -> Result<Vec<&[u8]>, Malformed> {
    let mut found = Vec::new();
    for field in wire::fields(message)? {
        if let (true, Value::Bytes(bytes)) = (field.number == number, field.value) {
            found.push(bytes);
        }
    }
    Ok(found)
}

/// A map's entry is a message of its key and its value.
fn entry_of_map(message: &[u8]) -> Result<(String, String), Malformed> {
    let (mut key, mut content) = (String::new(), String::new());
    for Field { number, value } in wire::fields(message)? {
        match number {
            1 => key = text(value),
            2 => content = text(value),
            _ => {}
        }
    }
    Ok((key, content))
}

#[cfg(test)]
mod tests;
