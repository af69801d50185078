//! Forks processes for a host that has threads.
//!
//! A fork of a process with threads may find locks held by threads that it does not have. So the
//! host forks two forkers while it has one thread, and whatever it needs later is forked by
//! processes with one thread:
//!
//! ```text
//! host, one thread ── fork ──► forker ◄─ replaces ─► forker (standby)
//! host, any thread
//!  │ spawn request {entry, control socket, namespaces, cgroup}
//!  ├────────────────────────► forker ── clone3(CLONE_PARENT) ──► entry(control): a worker, a helper
//!  │                             └───── clone3(CLONE_PARENT) ──► zygote: prepared, e.g. with an engine
//!  │ the same request                                              │
//!  ├───────────────────────────────────────────────────────────────┴── clone3 ──► entry(control):
//!  │ ◄── number and pidfd of the new process                                      a guest
//!  │ control socket: what the process is to do, and its replies ◄────────────────► │
//! ```
//!
//! Every process here is a child of the host's thread that called [`Forkers::start`]: it is waited
//! for by the host and can ask the kernel to die with it. This crate knows neither tasks nor
//! engines: an entry is the address of a function, which is the same in all these processes because
//! none of them executes another program in between.
//!
//! | module | content |
//! |---|---|
//! | `request` | the request that a forking process serves |
//! | `forkers` | the two forkers, each of which can replace the other |
//! | `zygote` | a prepared forking process, made when it is first needed; one for each engine |
//! | `process` | the host's handle on one forking process |
//! | `serve` | inside a forking process |
//! | `fork` | fork and clone3 |
//! | `child` | the first steps of a forked process, and its end |
//! | [`wire`] | values with descriptors in them, between all these processes |
//! | [`null`] | the null device, opened and checked |
//! | `error` | errors |

pub mod null;
pub mod wire;

mod child;
mod error;
mod fork;
mod forkers;
mod process;
mod request;
mod serve;
mod zygote;

pub use child::{enter_own_keyring, exit};
pub use error::{Failure, SpawnError, StartError, Step};
pub use fork::{Child, tid_address};
pub use forkers::Forkers;
pub use request::{Entry, SpawnRequest};
pub use wire::WireFd;
pub use zygote::{Prepare, Zygote};
