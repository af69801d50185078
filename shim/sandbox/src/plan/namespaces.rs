//! Namespaces to make and to join, and their parameters.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType as Kind, Spec};
use serde::{Deserialize, Serialize};

use super::Refused;

/// A namespace of a container's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The one to which this file of the node refers. The host opens it.
    Join(PathBuf),
    /// A new one. The loopback interface of a new network namespace is brought up.
    New,
    /// The node's.
    Node,
}

/// The namespaces of a container's process. Its mount and pid namespaces are always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network.
    pub net: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host and domain name.
    pub uts: Namespace,
    /// The root of the visible cgroups.
    pub cgroup: Namespace,
}

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its file, below `/proc/sys`: relative, without `..`.
    pub file: PathBuf,
    /// The value to write.
    pub value: String,
}

impl Namespaces {
    /// Decides from `linux.namespaces`. A kind that is not listed is the node's.
    pub(super) fn of(linux: Option<&Linux>) -> Result<Self, Refused> {
        let mut listed = BTreeMap::new();
        for (index, namespace) in linux
            .and_then(|linux| linux.namespaces().as_ref())
            .into_iter()
            .flatten()
            .enumerate()
        {
            let field = format!("linux.namespaces[{index}]");
            let parsed = parse(&field, namespace)?;
            if listed.insert(namespace.typ().to_string(), parsed).is_some() {
                return Err(Refused::new(
                    field,
                    format!("a second namespace of type {}", namespace.typ()),
                ));
            }
        }
        let mut take = |kind: Kind| listed.remove(&kind.to_string()).unwrap_or(Namespace::Node);
        Ok(Self {
            net: take(Kind::Network),
            ipc: take(Kind::Ipc),
            uts: take(Kind::Uts),
            cgroup: take(Kind::Cgroup),
        })
    }
}

fn parse(field: &str, namespace: &LinuxNamespace) -> Result<Namespace, Refused> {
    let kind = namespace.typ();
    match (kind, namespace.path()) {
        (Kind::Time, _) => Err(Refused::new(
            field,
            "time namespaces are not supported: a guest has the node's clocks",
        )),
        (Kind::Mount, Some(path)) => Err(Refused::new(
            field,
            format!(
                "{}: a guest always gets a mount namespace of its own, and joins none",
                path.display()
            ),
        )),
        // `UserNamespace` handles the rest. If the containers of a pod share a pid namespace, that
        // is the node's, since a thread of the host holds the pod's sandbox; and a guest cannot see
        // processes.
        (Kind::Pid, _) | (_, None) => Ok(Namespace::New),
        (_, Some(path)) if path.is_absolute() => Ok(Namespace::Join(path.clone())),
        (_, Some(path)) => Err(Refused::new(
            field,
            format!("{}: not an absolute path", path.display()),
        )),
    }
}

/// Returns `hostname` or `domainname`, to be set in a UTS namespace of the container's own. A
/// joined one has its name already.
pub(super) fn name(
    field: &str,
    name: Option<&str>,
    uts: &Namespace,
) -> Result<Option<String>, Refused> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    match uts {
        Namespace::New => Ok(Some(name.to_owned())),
        Namespace::Join(_) => Ok(None),
        Namespace::Node => Err(Refused::new(
            field,
            "without a UTS namespace of the container's own it would rename the node",
        )),
    }
}

impl Sysctl {
    /// Returns `linux.sysctl`, sorted by name.
    pub(super) fn all(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<Self>, Refused> {
        let named = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.sysctl().as_ref());
        let sorted: BTreeMap<_, _> = named.into_iter().flatten().collect();
        sorted
            .into_iter()
            .map(|(name, value)| Self::of(name, value, namespaces))
            .collect()
    }

    fn of(name: &str, value: &str, namespaces: &Namespaces) -> Result<Self, Refused> {
        let refuse = |reason: &str| Refused::new(format!("linux.sysctl[{name}]"), reason);
        let file = sysctl_file(name);
        if !file
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(refuse("not the name of a kernel parameter"));
        }
        let namespace = match owner(&file) {
            SysctlOwner::Net => &namespaces.net,
            SysctlOwner::Ipc => &namespaces.ipc,
            SysctlOwner::UtsName => {
                return Err(refuse("set `hostname` or `domainname` in its place"));
            }
            SysctlOwner::Node => {
                return Err(refuse("belongs to the whole node and not to a container"));
            }
        };
        match namespace {
            Namespace::New => Ok(Self {
                file,
                value: value.to_owned(),
            }),
            Namespace::Join(_) => Err(refuse(
                "belongs to a namespace that the container shares: set it on the pod's sandbox",
            )),
            Namespace::Node => Err(refuse("belongs to a namespace that is the node's")),
        }
    }
}

/// Returns the file of a parameter. A name has `/` between its parts and dots in them, or the other
/// way round (sysctl(8)).
fn sysctl_file(name: &str) -> PathBuf {
    let slashes = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => name
            .chars()
            .map(|letter| {
                if letter == '.' {
                    '/'
                } else if letter == '/' {
                    '.'
                } else {
                    letter
                }
            })
            .collect(),
        _ => name.to_owned(),
    };
    PathBuf::from(slashes)
}

/// The namespace of a kernel parameter.
enum SysctlOwner {
    Net,
    Ipc,
    /// A UTS namespace; the spec has a field of its own for it.
    UtsName,
    Node,
}

fn owner(file: &Path) -> SysctlOwner {
    const IPC: &[&str] = &[
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
        "auto_msgmni",
        "msg_next_id",
        "sem_next_id",
        "shm_next_id",
    ];
    let kernel = file.strip_prefix("kernel").ok().and_then(Path::to_str);
    match kernel {
        Some("hostname" | "domainname") => SysctlOwner::UtsName,
        Some(name) if IPC.contains(&name) => SysctlOwner::Ipc,
        _ if file.starts_with("fs/mqueue") => SysctlOwner::Ipc,
        _ if file.starts_with("net") => SysctlOwner::Net,
        _ => SysctlOwner::Node,
    }
}
