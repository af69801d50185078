//! A pod's namespaces, held by a thread in place of a pause process.
//!
//! containerd lets a runtime run a container for the pod itself, only to keep the
//! namespaces that the pod's containers share: its network, its System V and POSIX IPC, its host
//! name. A namespace lives as long as any thread is in it, so one parked thread of the node host is
//! enough: no process, no binary, no root file system. containerd and Kubernetes read
//! `/proc/<pid>/ns/*` and `/proc/<pid>/net/dev`, which resolve for a thread's id as for a
//! process's.
//!
//! | file | contents | does I/O |
//! |---|---|---|
//! | `new_pod` | OCI spec, or a list of namespaces → [`NewPod`], the thread's set-up | no |
//! | `sysctl` | a sysctl's name → its file, and the namespace that it belongs to | no |
//! | [`cri`] | a pod in CRI's form → the OCI spec of its sandbox, for containerd's Sandbox API | no |
//! | [`files`] | the files that a pod's containers share, for that API too | yes |
//! | `thread` | [`NewPod`] → the parked thread | yes |
//! | `process` | [`NewPod`] → a process in its place, for a pod with a user namespace | yes |
//! | `pod` | [`Pod`]: either of them | yes |
//! | `error` | errors | no |
//!
//! Three differences to a pause process matter to callers:
//! - **No pid namespace.** A thread shares that of its process, so `/proc/<tid>/ns/pid` is the
//!   node's. Never join it for a container of a pod with a shared process namespace.
//! - **No user namespace.** Only single-threaded processes can enter one: such a pod has a process,
//!   forked like those of guests.
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
