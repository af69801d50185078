//! The sandbox of a guest: planned from the OCI spec, set up in a fork of a single-threaded
//! process.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | from the OCI spec to everything that the set-up does: pure |
//! | [`seccomp`] | filters of system calls: made, kept, installed |
//! | [`rootfs`] | the root file system, mounted where nobody else sees it |
//! | `zygote` | the process from which guests are forked |
//! | `guest` | the host's side of a guest's process: asked for, waited for, started |
//! | `child` | the process's own side: set up, confined, run |
//! | `workload` | what runs in it |
//! | [`lookup`] | a program of a container's files, looked up in a process that may never answer |
//! | `wire` | values with descriptors in them, between these processes |
//! | `null` | the null device, opened and checked |
//! | `procfs` | the node's `/proc`, opened and checked |
//! | `detached` | file systems that are mounted nowhere |
//! | `kernel` | calls that no crate wraps: what is unsafe stands here |
//! | `error` | what can go wrong |

pub mod lookup;
pub mod plan;
pub mod seccomp;
pub mod rootfs;

mod child;
mod detached;
mod error;
mod guest;
mod kernel;
mod null;
mod procfs;
mod wire;
mod workload;
mod zygote;

pub use error::{Failure, SandboxError, ZygoteError};
pub use guest::{
    ForkedGuest, Guest, Killed, NewExec, NewGuest, NewHolder, NewNativeExec, Pending, Progress,
    Stdio, exec, exec_native, fork, hold,
};
pub use kernel::{exit, trim_memory};
pub use wire::WireFd;
pub use workload::Workload;
pub use zygote::Zygote;
