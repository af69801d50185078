//! Errors of holding a pod's namespaces. Each text names the object and, if there is one, the next
//! step.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of holding a pod's namespaces.
#[derive(Debug, Error)]
pub enum PodError {
    /// The spec is not one of a Linux container.
    #[error("the sandbox's OCI spec has no linux section, which lists the pod's namespaces")]
    NotLinux,
    /// A user namespace that containerd did not create (`hostUsers: false` with `hostNetwork:
    /// true`, or with the Sandbox API).
    #[error(
        "the pod asks for a user namespace (hostUsers: false), and containerd has made none: it \
         makes one for a pod with a network of \
         its own, unless the handler has sandboxer = \"shim\"; remove hostUsers from the pod, or \
         run it with another RuntimeClass"
    )]
    NewUserNamespace,
    /// The pod's cgroup cannot be created or joined.
    #[error("cannot create or join the cgroup of the holder of the pod's namespaces")]
    Cgroup(#[from] container_cgroup::CgroupError),
    /// The process that holds the pod's namespaces could not be started.
    #[error("cannot start the process that holds the pod's namespaces")]
    Holder(#[from] guest_sandbox::SandboxError),
    /// A kind of namespace that pods do not have.
    #[error(
        "the sandbox asks for a {kind} namespace, which this runtime does not make for pods: \
         remove it from the handler's configuration"
    )]
    Namespace {
        /// `time` is the only kind of the OCI runtime spec that is not supported.
        kind: &'static str,
    },
    /// A namespace that must be the pod's own is given by path.
    #[error(
        "the sandbox joins the {kind} namespace {path}, but this runtime makes a pod's own one or \
         uses the node's"
    )]
    Joined {
        /// `ipc` or `uts`.
        kind: &'static str,
        /// The path in the spec.
        path: PathBuf,
    },
    /// A host name for a pod that uses the node's.
    #[error(
        "the sandbox sets {field} to {value:?} but uses the node's UTS namespace (host network), \
         whose names belong to the node"
    )]
    NameOfNode {
        /// `hostname` or `domainname`.
        field: &'static str,
        /// The requested name.
        value: String,
    },
    /// A sysctl that cannot be set for this pod.
    #[error("sysctl {name} cannot be set for a pod: {reason}")]
    Sysctl {
        /// The name in the pod's spec.
        name: String,
        /// The reason and the next step.
        reason: &'static str,
    },
    /// The thread could not be started.
    #[error("cannot start the thread that holds the pod's namespaces")]
    Spawn {
        /// The system's error.
        source: io::Error,
    },
    /// A step of the thread's set-up failed.
    #[error("cannot {step}")]
    Step {
        /// The operation and its object.
        step: String,
        /// The system's error.
        source: io::Error,
    },
    /// The thread panicked before it held the namespaces.
    #[error("the thread that holds the pod's namespaces panicked: {message}")]
    Panicked {
        /// The panic's text.
        message: String,
    },
}
