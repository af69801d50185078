//! Native containers of a pod (its sidecars), through libcontainer.
//!
//! ```text
//! host ── spawn request ─► forker ── clone3 ─► worker ── libcontainer ─► container's process
//!  │                                            ▲ │ ends                   waits for its start
//!  └── control socket: task, streams ───────────┘ │
//!      ◄── replies, the process's number ─────────┘
//! ```
//!
//! Every process here is a child of the host: the worker and what libcontainer forks in it are made
//! as siblings. So the host can wait for the container's process, and that process can ask the
//! kernel to die with the host. A worker does one thing, creates a container or starts a process in
//! one, and ends; no process of ours stays with a container. Starting and deleting need no fork and
//! are done in the host itself.

mod config;
mod container;
mod error;
mod reap;
mod reply;
mod spawn;
mod stdio;
mod task;
mod worker;

pub use container::exec::{Exec, ExecProcess};
pub use container::{Container, NewContainer, Processes, create};
pub use error::{NativeError, ProgramFault};
pub use stdio::Stdio;
