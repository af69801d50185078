//! A pod in CRI's form, for containerd's Sandbox API, in which the runtime itself creates the pod.
//!
//! Of the message `PodSandboxConfig` only the fields that a pod of this runtime uses are parsed;
//! labels, port mappings, the log folder and the process of a pause image are skipped. Numbers and
//! meanings: `k8s.io/cri-api`, `pkg/apis/runtime/v1/api.proto`, as of Kubernetes 1.37; the meaning
//! of a number never changes.

use std::collections::BTreeMap;

use shim_protocol::wire::{self, Field, Malformed, Value};

mod spec;

/// A pod in CRI's form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodConfig {
    /// The pod's name in Kubernetes.
    pub name: String,
    /// The pod's namespace in Kubernetes.
    pub namespace: String,
    /// The pod's uid in Kubernetes.
    pub uid: String,
    /// Its host name; empty if it has the node's.
    pub hostname: String,
    /// The content of its `/etc/resolv.conf`; `None` if that is the node's.
    pub dns: Option<Dns>,
    /// The cgroup that kubelet created for it: a path, or a slice's name if systemd sets up
    /// cgroups.
    pub cgroup_parent: String,
    /// Sysctls by name.
    pub sysctls: BTreeMap<String, String>,
    /// The network namespace.
    pub network: Scope,
    /// The pid namespace.
    pub pid: Scope,
    /// The IPC namespace.
    pub ipc: Scope,
    /// Whether it has its own user namespace (`hostUsers: false`).
    pub own_users: bool,
}

/// A pod's name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains in which short names are looked up.
    pub searches: Vec<String>,
    /// Options in the form of resolv.conf(5).
    pub options: Vec<String>,
}

/// The sharing of a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// Shared by the pod's containers.
    #[default]
    Pod,
    /// Each container has its own, or another container's.
    Container,
    /// The node's.
    Node,
}

impl PodConfig {
    /// Decodes a `runtime.v1.PodSandboxConfig`.
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

    /// Decodes a `LinuxPodSandboxConfig`.
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

    /// Decodes a `NamespaceOption`.
    fn read_namespaces(&mut self, message: &[u8]) -> Result<(), Malformed> {
        for Field { number, value } in wire::fields(message)? {
            match (number, value) {
                (1, Value::Varint(mode)) => self.network = Scope::of_mode(mode),
                (2, Value::Varint(mode)) => self.pid = Scope::of_mode(mode),
                (3, Value::Varint(mode)) => self.ipc = Scope::of_mode(mode),
                // The mode of the pod's own `UserNamespace` is 0, which is not sent.
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

/// Returns a string field; protobuf guarantees UTF-8, and other bytes count as an empty text.
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

/// Decodes a map's entry, a message of its key and its value.
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
