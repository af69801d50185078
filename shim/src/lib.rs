//! A containerd shim that runs WebAssembly images on WasmEdge. The modules, in the order in which a
//! request visits them:
//!
//! | module | takes → gives |
//! |---|---|
//! | [`serve`] | command line → the services on the inherited socket, until nobody needs them |
//! | [`host`] | what all containers share; which there are; how long the host lives |
//! | [`service`] | containerd's Task API → [`verbs`] |
//! | [`request`] | whether containerd still waits for the answer |
//! | [`verbs`] | request → verdict → deed → response and event |
//! | [`lifecycle`] | (state, verb) → verdict |
//! | `options` | request, bundle and pod → runtime options |
//! | [`create`] | bundle → container |
//! | [`oom`] | a guest that the kernel killed for memory while it was loaded → a container that ends by it |
//! | [`bundle`] | bundle folder → the OCI spec and what Kubernetes says in annotations |
//! | [`workload`] | command line, image and files → what to run |
//! | [`wasi`] | command line → what the guest sees of the world |
//! | [`program`] | guest → what crosses into the process that runs it |
//! | [`engine`] | guest and world → [`outcome`]; in the guest's process |
//! | [`outcome`] | how a guest ended → exit code and words |
//! | [`task`] | a container from Create to Delete |
//! | [`process`] | one of its processes: signalled, waited for, told of |
//! | [`exec`] | a further process in it |
//! | [`wait`] | a process that is set up → one that waits for its start, in time or not at all |
//! | [`delete`] | what is left of it goes |
//! | [`streams`], [`mounted`] | descriptors and mounts, handed from one crate to the other |
//!
//! Around them stand crates that know nothing of each other: `shim-protocol` (what launcher and
//! host agree on), `guest-sandbox`, `native-container`, `pod-sandbox` (three ways to make a
//! container), `container-cgroup`, `container-io` and `host-reports`.
//!
//! [`paths`] marks paths of the node; [`error`] is the one table from our errors to containerd's
//! codes.

pub mod serve;
pub mod host;
pub mod service;
pub mod request;
mod verbs;
pub mod lifecycle;
pub mod create;
mod options;
pub mod oom;
pub mod bundle;
pub mod workload;
pub mod wasi;
pub mod program;
pub mod engine;
pub mod outcome;
pub mod task;
pub mod process;
pub mod exec;
pub mod wait;
pub mod delete;
pub mod streams;
pub mod mounted;
pub mod paths;
pub mod error;
