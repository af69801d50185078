//! Keys of hosts: containers with the same key share a host.

use std::fmt;
use std::path::Path;

use crate::hash;
use runtime_options::Grouping;

/// The pod of a container, from the bundle's annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// The id of the pod's sandbox: `io.kubernetes.cri.sandbox-id`.
    pub sandbox: Option<String>,
    /// The Kubernetes namespace: `io.kubernetes.cri.sandbox-namespace`.
    pub namespace: Option<String>,
}

/// The containers that share a host, among those of one containerd namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// All containers of the node.
    Node,
    /// Those of this Kubernetes namespace; empty: those without Kubernetes.
    Namespace(String),
    /// Those of the pod with this sandbox, or the one container with this id.
    Pod(String),
}

impl Group {
    /// Returns the group of container `id`. `pod` is `None` for a sandbox without a spec:
    /// containerd's Sandbox API passes its namespace too late, when the host already runs. Such a
    /// pod gets its own host if namespaces must not share one.
    pub fn of(grouping: Grouping, pod: Option<&Pod>, id: &str) -> Self {
        match (grouping, pod) {
            (Grouping::Node, _) => Self::Node,
            (Grouping::Namespace, Some(pod)) => {
                Self::Namespace(pod.namespace.clone().unwrap_or_default())
            }
            (
                Grouping::Pod,
                Some(Pod {
                    sandbox: Some(sandbox),
                    ..
                }),
            ) => Self::Pod(sandbox.clone()),
            (Grouping::Namespace, None) | (Grouping::Pod, _) => Self::Pod(id.to_owned()),
        }
    }

    fn parts(&self) -> [&str; 2] {
        match self {
            Self::Node => [Grouping::Node.as_str(), ""],
            Self::Namespace(namespace) => [Grouping::Namespace.as_str(), namespace],
            Self::Pod(id) => [Grouping::Pod.as_str(), id],
        }
    }
}

/// A short name for everything that decides which host serves a container; part of file names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostKey(String);

impl HostKey {
    /// The number of hash bytes in the name: few enough for a socket's path (108 bytes), enough to
    /// avoid collisions.
    const BYTES: usize = 16;

    /// Makes the key. `namespace` and `address` are containerd's; `bundle` is the root folder of
    /// the runtime bundle and `build` its version and revision, so that a newer bundle serves new
    /// pods with its own host while the older host drains.
    pub fn new(namespace: &str, address: &str, bundle: &Path, build: &str, group: &Group) -> Self {
        let [grouping, name] = group.parts();
        let parts = [
            namespace.as_bytes(),
            address.as_bytes(),
            bundle.as_os_str().as_encoded_bytes(),
            build.as_bytes(),
        ];
        Self(hash::name_of(
            parts
                .into_iter()
                .chain([grouping.as_bytes(), name.as_bytes()]),
            Self::BYTES,
        ))
    }

    /// Parses a key's name; `None` if it is not one.
    pub fn from_name(name: &str) -> Option<Self> {
        let fits = name.len() == 2 * Self::BYTES
            && name
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(name.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(sandbox: &str, namespace: &str) -> Pod {
        Pod {
            sandbox: Some(sandbox.to_owned()),
            namespace: Some(namespace.to_owned()),
        }
    }

    #[test]
    fn grouping_decides_which_containers_share_a_host() {
        let alone = Pod::default();
        for (grouping, of, expected) in [
            (Grouping::Node, Some(&pod("s1", "shop")), Group::Node),
            (Grouping::Node, None, Group::Node),
            (
                Grouping::Namespace,
                Some(&pod("s1", "shop")),
                Group::Namespace("shop".to_owned()),
            ),
            (
                Grouping::Namespace,
                Some(&alone),
                Group::Namespace(String::new()),
            ),
            (Grouping::Namespace, None, Group::Pod("c1".to_owned())),
            (
                Grouping::Pod,
                Some(&pod("s1", "shop")),
                Group::Pod("s1".to_owned()),
            ),
            (Grouping::Pod, Some(&alone), Group::Pod("c1".to_owned())),
            (Grouping::Pod, None, Group::Pod("c1".to_owned())),
        ] {
            assert_eq!(
                Group::of(grouping, of, "c1"),
                expected,
                "{grouping:?} {of:?}"
            );
        }
    }

    #[test]
    fn keys_differ_exactly_if_a_part_differs() {
        let key = |namespace: &str, address: &str, bundle: &str, build: &str, group: &Group| {
            HostKey::new(namespace, address, Path::new(bundle), build, group)
        };
        let pod = Group::Pod("x".to_owned());
        let namespace = Group::Namespace("x".to_owned());
        let base = key("k8s.io", "/c.sock", "/opt/1", "1", &pod);
        assert_eq!(base, key("k8s.io", "/c.sock", "/opt/1", "1", &pod));
        for other in [
            key("moby", "/c.sock", "/opt/1", "1", &pod),
            key("k8s.io", "/d.sock", "/opt/1", "1", &pod),
            key("k8s.io", "/c.sock", "/opt/2", "1", &pod),
            key("k8s.io", "/c.sock", "/opt/1", "2", &pod),
            key("k8s.io", "/c.sock", "/opt/1", "1", &namespace),
            key("k8s.io", "/c.sock", "/opt/1", "1", &Group::Node),
            key("k8s.io/c", ".sock", "/opt/1", "1", &pod),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn only_the_name_of_a_key_is_parsed_as_one() {
        let key = HostKey::new("a", "b", Path::new("c"), "d", &Group::Node);
        assert_eq!(HostKey::from_name(key.as_str()), Some(key));
        for name in [
            "",
            "../../etc/passwd",
            "ABCDEF0123456789ABCDEF0123456789",
            "0123",
        ] {
            assert_eq!(HostKey::from_name(name), None, "{name}");
        }
    }
}
