//! The tests, by theme; each runs with both cgroup drivers.
//!
//! * [`run`]: containers that exit, and further processes in them.
//! * [`limits`]: limits, statistics, pause.
//! * [`faults`]: restarts and losses.
//! * [`pod`]: a pod of CRI.

use anyhow::Result;

use crate::fixture::{Driver, Fixture};

mod run;
mod limits;
mod faults;
mod pod;

/// A test: a rule, and the function that checks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Fixture, Driver) -> Result<()>,
}

/// Makes a list of tests from functions with these names.
macro_rules! checks {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CHECKS: &[super::Check] = &[$(super::Check { name: stringify!($name),
            body: $name }),+];
    };
}
use checks;

/// Returns all tests. Those that kill the host are the last.
pub(crate) fn themes() -> impl Iterator<Item = &'static Check> {
    [run::CHECKS, limits::CHECKS, pod::CHECKS, faults::CHECKS]
        .into_iter()
        .flatten()
}
