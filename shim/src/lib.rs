//! A containerd shim that runs WebAssembly images on WasmEdge. The modules, in the order in which a request visits them:
//!
//! | module | takes → gives | runs in |
//! |---|---|---|
//! | [`serve`] | command line → a Task service on the inherited socket | host |
//! | [`service`] | request → task → response and event | host |
//! | [`lifecycle`] | (state, verb) → verdict | – |
//! | [`task`] | one task: created, started, killed, waited for, deleted | host |
//! | [`options`] | the handler's options in containerd's configuration | host |
//! | [`bundle`] | bundle folder → [`bundle::Bundle`]: the OCI spec and what Kubernetes says in annotations | host |
//! | [`guest`] | bundle and image → [`guest::Workload`]: which guest to run, or that the container is native | host |
//! | [`wasi`] | bundle → [`wasi::WasiContext`]: what the guest sees of the world | host |
//! | [`stdio`] | containerd's FIFOs → the three descriptors of the container's process | host |
//! | [`sandbox`] | all of these → a process in its namespaces and cgroup | host, then container |
//! | [`engine`] | guest and context → [`outcome::Outcome`] | container |
//! | [`outcome`] | how it ended → exit code and the words for the log | container |
//! | [`cgroup`] | a process → those that share its cgroup | host |
//! | [`events`] | what happened → containerd, in order | host |
//!
//! The *host* is this program; containerd starts it through the launcher (`shim/launcher`), one per pod. A *container*
//! process is forked from the host's single-threaded zygote, so no guest ever runs in the host.
//!
//! [`paths`] keeps the host's paths and the guest's apart; [`error`] is the one table from our errors to containerd's codes.

pub mod serve;
pub mod service;
pub mod lifecycle;
pub mod task;
pub mod options;
pub mod bundle;
pub mod guest;
pub mod wasi;
pub mod stdio;
pub mod sandbox;
pub mod engine;
pub mod outcome;
pub mod cgroup;
pub mod events;
pub mod paths;
pub mod error;
