//! A pod's namespaces, held by a thread in place of a pause process.
//!
//! containerd lets a runtime run a container for the pod itself, whose only use is to keep the
//! namespaces that the pod's containers share: its network, its System V and POSIX IPC, its host
//! name. A namespace lives as long as any thread is in it, so one parked thread of the host does
//! that work: no process, no binary, no root file system. What containerd and Kubernetes look at,
//! `/proc/<pid>/ns/*` and `/proc/<pid>/net/dev`, resolves for a thread's id as it does for a
//! process'.
//!
//! | file | what | touches the system |
//! |---|---|---|
//! | `new_pod` | OCI spec, or a list of namespaces → [`NewPod`]: what the thread will do | no |
//! | `sysctl` | a sysctl's name → its file, and the namespace that it belongs to | no |
//! | [`cri`] | a pod as CRI describes it → the OCI spec of its sandbox, for containerd's Sandbox API | no |
//! | [`files`] | the files that a pod's containers share, for that API too | yes |
//! | `thread` | [`NewPod`] → the parked thread | yes |
//! | `process` | [`NewPod`] → a process in its place, for a pod with a user namespace | yes |
//! | `pod` | [`Pod`]: either of them | yes |
//! | `error` | why not | no |
//!
//! Three things that a pause process had are not there, and callers have to know:
//! - **No pid namespace.** A thread shares its process' one, so `/proc/<tid>/ns/pid` is the node's.
//!   Never join it for a container whose pod shares its process namespace.
//! - **No user namespace.** The kernel lets single-threaded processes alone enter one: such a pod
//!   has a process, a fork of the one that forks guests.
//! - **Signals go to the whole host.** `kill <tid>` from outside reaches the process that the
//!   thread belongs to.
#![forbid(unsafe_code)]

pub mod cri;
mod error;
pub mod files;
mod new_pod;
mod pod;
mod process;
mod sysctl;
mod thread;

pub use error::PodError;
pub use new_pod::{Ipc, Network, NewPod, Users, Uts};
pub use pod::{Pod, hold};
