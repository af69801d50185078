//! The operator: installs the runtime on the nodes of a cluster, a few at a time, and lets pods be
//! scheduled only where it works.
//!
//! The modules in the order in which a node event becomes a status condition:
//!
//! 1. [`cli`], [`commands`]: the command line and its subcommands. [`crd`]: the API. [`names`]:
//!    labels, annotations and finalizers. [`access`]: the rights in the cluster.
//! 2. [`lease`]: leader election. [`controller`]: watches the cluster, and runs the steps below for
//!    each runtime.
//! 3. [`observe`]: applies watch events to the cluster state, and derives the input of a plan.
//! 4. [`plan`]: from that input to a list of actions. It has no client and no clock, so that it is
//!    tested as a pure function.
//! 5. [`objects`]: the objects that actions create. [`apply`]: one action, one API call. [`error`]:
//!    the errors of these calls, and their backoff.
//! 6. [`status`]: the status of the WasmRuntime with its conditions. [`events`]: Kubernetes Events.
//! 7. [`context`]: what all of these share. [`clock`]. [`admin`], [`metrics`]: `/livez`, `/readyz`,
//!    `/metrics`. [`telemetry`]: logs.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
#[expect(
    unreachable_pub,
    reason = "kube's derive repeats each type in a module of its own"
)]
pub mod crd;
pub mod names;
pub mod access;
pub mod lease;
pub mod controller;
pub mod observe;
pub mod plan;
pub mod objects;
pub mod apply;
pub mod error;
pub mod status;
pub mod events;
pub mod context;
pub mod clock;
pub mod admin;
pub mod metrics;
pub mod telemetry;
