//! Puts the runtime on the nodes of a cluster, one by one, and lets pods land only where it works.
//!
//! In the order in which an event passes through:
//!
//! 1. [`crd`]: the API; [`names`]: every label, annotation and finalizer.
#![forbid(unsafe_code)]

#[expect(unreachable_pub, reason = "kube's derive repeats each type in a module of its own")]
pub mod crd;
pub mod names;
