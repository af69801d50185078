//! The tests, by theme; each is run with both drivers.
//!
//! * [`run`]: containers that end by themselves, and further processes in them.
//! * [`limits`]: limits, statistics, freezing.
//! * [`faults`]: what dies, and what stays.
//! * [`pod`]: a pod as kubelet asks for it.

use anyhow::Result;

use crate::fixture::{Driver, Fixture};

mod run;
mod limits;
mod faults;
mod pod;

/// A rule, and how to see that it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Fixture, Driver) -> Result<()>,
}

/// Makes a list of tests from functions, named as these are.
macro_rules! checks {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CHECKS: &[super::Check] = &[$(super::Check { name: stringify!($name),
            body: $name }),+];
    };
}
use checks;

/// All of them. Those that kill the host are the last.
pub(crate) fn themes() -> impl Iterator<Item = &'static Check> {
    [run::CHECKS, limits::CHECKS, pod::CHECKS, faults::CHECKS]
        .into_iter()
        .flatten()
}
