//! Our own filter, for every process that runs a guest: what an engine, WASI and the C library
//! under them need.
//!
//! It is a list of what passes. Everything else fails with `ENOSYS`, as on a kernel that does not
//! have it, so that a library falls back to an older call; what `calls::FORBIDDEN` names fails with
//! `EPERM`. Code that was made for another architecture, which a process can switch to by itself,
//! ends the process.

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::calls::{ALLOWED, ALLOWED_IF, FORBIDDEN, Test};
use super::{FilterError, SeccompFilter, profile};

/// The program.
pub(super) fn program() -> Result<SeccompFilter, FilterError> {
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

/// Names that this machine's architecture or this libseccomp does not have need no rule: such a
/// call gives `ENOSYS`.
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
