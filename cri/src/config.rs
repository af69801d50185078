//! Configuration of pods and containers in CRI's terms.

use std::collections::BTreeMap;

/// The namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NamespaceMode {
    /// The pod's.
    Pod = 0,
    /// The container's own.
    Container = 1,
    /// The node's.
    Node = 2,
    /// That of another container.
    Target = 3,
}

/// Number of users of a pod with a user namespace, as kubelet maps them.
const USERS_PER_POD: u32 = 65536;

/// Configures a pod of this name in the Kubernetes namespace `default`, with the namespaces
/// `network` and `pid`, and the parent cgroup `cgroup`.
pub fn pod(name: &str, network: NamespaceMode, pid: NamespaceMode, cgroup: &str) -> PodConfig {
    let metadata = PodMetadata {
        name: name.to_owned(),
        uid: name.to_owned(),
        namespace: "default".to_owned(),
    };
    let options = NamespaceOptions {
        network: network.into(),
        pid: pid.into(),
        ipc: NamespaceMode::Pod.into(),
        target: String::new(),
        users: None,
    };
    // A pod on the node's network has the node's host name.
    let hostname = if network == NamespaceMode::Node {
        String::new()
    } else {
        name.to_owned()
    };
    let security_context = Some(PodSecurity {
        namespace_options: Some(options),
    });
    let linux = LinuxPod {
        cgroup_parent: cgroup.to_owned(),
        security_context,
        sysctls: BTreeMap::new(),
    };
    PodConfig {
        metadata: Some(metadata),
        hostname,
        log_directory: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        linux: Some(linux),
    }
}

impl PodConfig {
    /// Returns its name.
    pub fn name(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }

    /// Returns its uid.
    pub fn uid(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.uid)
    }

    /// Moves it to another Kubernetes namespace than `default`.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.metadata.get_or_insert_default().namespace);
        self
    }

    /// Sets its uid, which is its name by default.
    #[must_use]
    pub fn with_uid(mut self, uid: String) -> Self {
        self.metadata.get_or_insert_default().uid = uid;
        self
    }

    /// Sets a sysctl in the pod's namespaces.
    #[must_use]
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        self.linux
            .get_or_insert_default()
            .sysctls
            .insert(name.to_owned(), value.to_owned());
        self
    }

    /// Gives it a user namespace: each id is increased by `first` on the node.
    #[must_use]
    pub fn with_users_from(mut self, first: u32) -> Self {
        let all = || {
            vec![IdMapping {
                host_id: first,
                container_id: 0,
                length: USERS_PER_POD,
            }]
        };
        let users = UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: all(),
            gids: all(),
        };
        self.linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default()
            .namespace_options
            .get_or_insert_default()
            .users = Some(users);
        self
    }

    fn users(&self) -> Option<&UserNamespace> {
        self.linux
            .as_ref()?
            .security_context
            .as_ref()?
            .namespace_options
            .as_ref()?
            .users
            .as_ref()
    }

    /// Configures a container of `image` in this pod with the command line `args`.
    pub fn container(&self, name: &str, image: &str, args: &[&str]) -> ContainerConfig {
        let options = self
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|context| context.namespace_options.clone());
        let command = args.iter().map(|word| (*word).to_owned()).collect();
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.to_owned(),
            }),
            image: Some(ImageSpec::named(image)),
            command,
            mounts: Vec::new(),
            labels: BTreeMap::new(),
            log_path: String::new(),
            linux: Some(LinuxContainer {
                resources: None,
                security_context: Some(ContainerSecurity {
                    capabilities: None,
                    namespace_options: options,
                    run_as_user: None,
                }),
            }),
        }
    }
}

/// The configuration of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    /// The node's folder for its containers' logs.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "6")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPod {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<PodSecurity>,
    #[prost(btree_map = "string, string", tag = "3")]
    sysctls: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOptions {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    network: i32,
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pid: i32,
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    ipc: i32,
    #[prost(string, tag = "4")]
    target: String,
    #[prost(message, optional, tag = "5")]
    users: Option<UserNamespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UserNamespace {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    mode: i32,
    #[prost(message, repeated, tag = "2")]
    uids: Vec<IdMapping>,
    #[prost(message, repeated, tag = "3")]
    gids: Vec<IdMapping>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct IdMapping {
    #[prost(uint32, tag = "1")]
    host_id: u32,
    #[prost(uint32, tag = "2")]
    container_id: u32,
    #[prost(uint32, tag = "3")]
    length: u32,
}

/// The configuration of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// The path of its log in the pod's `log_directory`.
    #[prost(string, tag = "11")]
    pub log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

impl ContainerConfig {
    /// Sets its limits.
    #[must_use]
    pub fn limited_to(mut self, resources: Resources) -> Self {
        self.linux.get_or_insert_default().resources = Some(resources);
        self
    }

    /// Sets its user, as numbered in the pod.
    #[must_use]
    pub fn run_as(mut self, user: i64) -> Self {
        self.security().run_as_user = Some(user);
        self
    }

    /// Adds the name that the pod has for its image, as kubelet 1.28 and later passes it beside the
    /// image's id.
    #[must_use]
    pub fn of_image_named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.image.get_or_insert_default().user_specified_image);
        self
    }

    /// Mounts a folder of the node that is read-only, and recursively so.
    #[must_use]
    pub fn with_volume_read_only_recursively(mut self, folder: &str, at: &str) -> Self {
        let (container_path, host_path) = (at.to_owned(), folder.to_owned());
        self.mounts.push(Mount {
            container_path,
            host_path,
            readonly: true,
            recursive_read_only: true,
            ..Mount::default()
        });
        self
    }

    /// Puts it into the pid namespace of the container `target`, as a debugging container.
    #[must_use]
    pub fn among_processes_of(mut self, target: &str) -> Self {
        let options = self.security().namespace_options.get_or_insert_default();
        options.pid = NamespaceMode::Target.into();
        target.clone_into(&mut options.target);
        self
    }

    /// Adds a capability, such as `SYS_PTRACE`.
    #[must_use]
    pub fn with_capability(mut self, name: &str) -> Self {
        self.security()
            .capabilities
            .get_or_insert_default()
            .added
            .push(name.to_owned());
        self
    }

    /// Removes all capabilities.
    #[must_use]
    pub fn without_capabilities(mut self) -> Self {
        self.security()
            .capabilities
            .get_or_insert_default()
            .dropped
            .push("ALL".to_owned());
        self
    }

    fn security(&mut self) -> &mut ContainerSecurity {
        self.linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default()
    }

    /// Mounts a folder of the node with files that belong to the users of `pod`, as kubelet mounts
    /// volumes.
    #[must_use]
    pub fn with_volume(mut self, pod: &PodConfig, folder: &str, at: &str) -> Self {
        let (uids, gids) = pod
            .users()
            .map(|users| (users.uids.clone(), users.gids.clone()))
            .unwrap_or_default();
        self.mounts.push(Mount {
            container_path: at.to_owned(),
            host_path: folder.to_owned(),
            uids,
            gids,
            ..Mount::default()
        });
        self
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(bool, tag = "3")]
    readonly: bool,
    #[prost(message, repeated, tag = "6")]
    uids: Vec<IdMapping>,
    #[prost(message, repeated, tag = "7")]
    gids: Vec<IdMapping>,
    #[prost(bool, tag = "8")]
    recursive_read_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

/// A reference of an image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

impl ImageSpec {
    /// Refers to an image by a name or an id.
    pub fn named(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            user_specified_image: String::new(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "1")]
    resources: Option<Resources>,
    #[prost(message, optional, tag = "2")]
    security_context: Option<ContainerSecurity>,
}

/// Limits of a container.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Resources {
    /// `cpu.shares` of cgroup v1.
    #[prost(int64, tag = "3")]
    pub cpu_shares: i64,
    /// Memory limit in bytes.
    #[prost(int64, tag = "4")]
    pub memory_limit_in_bytes: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Capabilities {
    #[prost(string, repeated, tag = "1")]
    added: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    dropped: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "1")]
    capabilities: Option<Capabilities>,
    #[prost(message, optional, tag = "3")]
    namespace_options: Option<NamespaceOptions>,
    #[prost(message, optional, tag = "5")]
    run_as_user: Option<i64>,
}
