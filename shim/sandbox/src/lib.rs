//! The sandbox of a guest: planned from the OCI spec, set up in a fork of a single-threaded
//! process.
//!
//! | module | content |
//! |---|---|
//! | [`plan`] | from the OCI spec to everything that the set-up does: pure |
//! | [`seccomp`] | filters of system calls: made, kept, installed |
//! | [`rootfs`] | the root file system, mounted where no other process sees it |
//! | `empty_root` | the root of the zygote, from which guests are forked |
//! | `guest` | the host's side of a guest's process: spawned, set up, waited for, started |
//! | `child` | the process's own side: set up, confined, run |
//! | `workload` | the interface to the engine that runs in it |
//! | [`lookup`] | a program of a container's files, looked up in a process that may never answer |
//! | `wire` | replies of these processes |
//! | `procfs` | the node's `/proc`, opened and checked |
//! | `detached` | file systems that are mounted nowhere |
//! | `kernel` | system calls without a safe wrapper: the unsafe code |
//! | `error` | errors |

pub mod lookup;
pub mod plan;
pub mod seccomp;
pub mod rootfs;

mod child;
mod detached;
mod empty_root;
mod error;
mod guest;
mod kernel;
mod procfs;
mod wire;
mod workload;

pub use empty_root::enter_empty_root;
pub use error::SandboxError;
pub use guest::{
    ForkedGuest, Guest, Killed, NewExec, NewGuest, NewHolder, NewNativeExec, Pending, Progress,
    Stdio, exec, exec_native, fork, hold,
};
pub use kernel::trim_memory;
pub use process_forker::{Failure, WireFd, Zygote};
pub use workload::{Refusal, Workload};
