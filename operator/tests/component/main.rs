//! The operator as a whole, against an API server in the same process and nodes that are simulated.
//!
//! * [`context`], [`stage`]: cluster, nodes and operators. * [`access`]: the rights that it uses.
//! * [`rollout`], [`failure`], [`unstarted`], [`removal`], [`class`], [`repair`]: what it does, and
//!   when.
//! * [`restart`], [`leader`]: operators that end. * [`chaos`]: an API server in trouble.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, also outside of the functions that are marked as such"
)]

mod context;
mod stage;
mod access;
mod rollout;
mod failure;
mod unstarted;
mod removal;
mod class;
mod repair;
mod restart;
mod leader;
mod chaos;
