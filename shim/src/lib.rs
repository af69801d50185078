//! The node host: a containerd shim that runs WebAssembly images on WasmEdge. The modules, in the
//! order in which a request visits them:
//!
//! | module | takes → gives |
//! |---|---|
//! | `serve` | command line → the services on the inherited socket, until the host is idle |
//! | `host` | the state that all containers share, their tasks, and the decision when the host ends |
//! | `service` | containerd's Task and Sandbox APIs → `verbs` |
//! | `request` | whether containerd still waits for the response |
//! | `verbs` | request → verdict → action → response and event |
//! | `lifecycle` | (state, verb) → verdict |
//! | `bundle` | bundle folder → the OCI spec and CRI's annotations |
//! | `options` | request, bundle and pod → runtime options |
//! | `create` | bundle → container; the path to the first guest instruction starts here |
//! | `workload` | command line, image and files → guest or Linux program |
//! | `artifact` | guest and settings → the code that it runs, compiled if need be |
//! | `lookup` | entrypoint and files → file, by a separate process with a time limit |
//! | `streams`, `mounted` | standard streams and root, handed to the crate that makes the process |
//! | `wasi` | command line → WASI context |
//! | `zygotes` | engine → process that forks its guests |
//! | `program` | guest → setup request, and what its process does with it |
//! | `engine` | guest and WASI context → `outcome`; in the guest's process |
//! | `outcome` | end of a guest → exit code and text |
//! | `wait` | process under set-up → process that waits for its start, within a time limit |
//! | `oom` | guest that was OOM-killed while it was loaded → container that exits when started |
//! | `task` | a container, from Create to Delete |
//! | `process` | a process of it: signals, exit, waiters |
//! | `exec` | a further process in a container |
//! | `delete` | removal of a container |
//!
//! Below all of them: `blocking` (threads that may block), `error` (the table from our errors to
//! containerd's codes), `names` (names in messages). The modules form a tree: none of them uses one
//! that uses it.
//!
//! The crates around this one do not know each other: `shim-protocol` (the agreement of launcher
//! and host), `guest-sandbox`, `native-container`, `pod-sandbox` (three ways to make a container),
//! `container-cgroup`, `container-io` and `host-reports`.

pub mod serve;

mod host;
mod zygotes;
mod service;
mod request;
mod verbs;
mod lifecycle;
mod bundle;
mod options;
mod create;
mod workload;
mod artifact;
mod lookup;
mod streams;
mod mounted;
mod wasi;
mod program;
mod engine;
mod outcome;
mod wait;
mod oom;
mod task;
mod process;
mod exec;
mod delete;
mod blocking;
mod error;
mod names;

use failures::text;
