//! Native containers of a pod (its sidecars), through libcontainer.
//!
//! ```text
//! host ── spawn request ─► forker ── clone3 ─► worker ── libcontainer ─► container's process
//!  │                                            ▲ │ ends                   waits for its start
//!  └── control socket: task, streams ───────────┘ │
//!      ◄── replies, the process's number ─────────┘
//! ```
//!
//! Every process here is a child of the host: the worker, and what libcontainer forks in it, are
//! forked as siblings. So the host can wait for the container's process, and that process can ask
//! the kernel to die with the host. A worker creates one container, or starts one process in a
//! container, and ends; no process of the runtime stays with a container. Starting and deleting
//! need no fork and run in the host.
//!
//! | module | content |
//! |---|---|
//! | `container` | a container: created, started, deleted; further processes in it |
//! | `config` | its configuration, adapted to libcontainer |
//! | `stdio` | its standard streams |
//! | `task` | the task of a worker |
//! | `spawn` | the host's side of a worker |
//! | `worker` | the worker's own side: libcontainer |
//! | `reply` | the worker's replies |
//! | `reap` | reaping of workers and of what a failed task left |
//! | `error` | errors |

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
