//! Our own filter, for every process that runs a guest: the calls that an engine, WASI and the C
//! library need.
//!
//! It is an allow list. Every other call fails with `ENOSYS`, as on a kernel without it, so that a
//! library falls back to an older call; calls in `calls::FORBIDDEN` fail with `EPERM`. System calls
//! of another architecture, to which a process can switch by itself, kill the process.

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::calls::{ALLOWED, ALLOWED_IF, FORBIDDEN, Test};
use super::{FilterError, SeccompFilter, profile};

/// Compiles the filter.
pub(super) fn compile() -> Result<SeccompFilter, FilterError> {
    let mut filter = profile::context(ScmpAction::Errno(libc::ENOSYS))?;
    filter
        .set_act_badarch(ScmpAction::KillProcess)
        .map_err(FilterError::part("other architectures"))?;
    for name in names(ALLOWED) {
        add(&mut filter, ScmpAction::Allow, name, &[])?;
    }
    for (name, tests) in ALLOWED_IF {
        let conditions: Vec<_> = tests.iter().map(condition).collect();
        add(&mut filter, ScmpAction::Allow, name, &conditions)?;
    }
    for name in names(FORBIDDEN) {
        add(&mut filter, ScmpAction::Errno(libc::EPERM), name, &[])?;
    }
    profile::export(&filter, 0)
}

pub(super) fn names(lines: &[&'static str]) -> impl Iterator<Item = &'static str> {
    lines.iter().flat_map(|line| line.split_whitespace())
}

/// Adds a rule. A name that this machine's architecture or this libseccomp does not have needs
/// none: such a call gives `ENOSYS`.
fn add(
    filter: &mut ScmpFilterContext,
    action: ScmpAction,
    name: &str,
    conditions: &[ScmpArgCompare],
) -> Result<(), FilterError> {
    match ScmpSyscall::from_name(name) {
        Ok(number) => filter
            .add_rule_conditional(action, number, conditions)
            .map(drop)
            .map_err(FilterError::part(name)),
        Err(_) => Ok(()),
    }
}

fn condition(test: &Test) -> ScmpArgCompare {
    match *test {
        Test::Is(argument, value) => ScmpArgCompare::new(argument, ScmpCompareOp::Equal, value),
        Test::Bits(argument, mask, value) => {
            ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(mask), value)
        }
    }
}
