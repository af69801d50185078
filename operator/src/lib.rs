//! Puts the runtime on the nodes of a cluster, one by one, and lets pods land only where it works.
//!
//! In the order in which an event passes through:
//!
//! 1. [`cli`], [`commands`]: the command line, and what it can do. [`crd`]: the API. [`names`]:
//!    every label, annotation and finalizer. [`access`]: every right that is needed, and why.
//! 2. [`lease`]: one operator leads; [`controller`] watches and calls, for each runtime, the four
//!    steps below.
//! 3. [`observe`]: watched objects as a value.
//! 4. [`plan`]: from that value to a list of actions. No client, no clock: all of it is tested as a
//!    function.
//! 5. [`objects`]: the objects that actions make; [`apply`]: one action, one call; [`error`]: what
//!    can go wrong there.
//! 6. [`status`]: what the runtime's object says of itself; [`events`]: what people are told as it
//!    happens.
//! 7. [`context`]: what all of these share; [`clock`]; [`admin`], [`metrics`]: `/livez`, `/readyz`,
//!    `/metrics`; [`telemetry`]: logs.
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
