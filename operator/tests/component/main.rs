//! Component tests: the whole operator, on a fake API server in the same process with simulated
//! nodes.
//!
//! * [`context`], [`fixture`]: cluster, nodes and operators. [`access`]: the rights that are used.
//! * [`rollout`], [`failure`], [`unstarted`], [`removal`], [`class`], [`repair`]: behaviour.
//! * [`restart`], [`leader`]: operators that stop.
//! * [`random_events`]: a failing API server and a cluster that changes all the time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, also outside of the functions that are marked as such"
)]

mod context;
mod fixture;
mod access;
mod rollout;
mod failure;
mod unstarted;
mod removal;
mod class;
mod repair;
mod restart;
mod leader;
mod random_events;
