//! Compilation of the spec's filter (`linux.seccomp`) by libseccomp.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::str::FromStr as _;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use rustix::fs::MemfdFlags;

use super::{FilterError, SeccompFilter};
use crate::plan::WorkloadKind;

/// Compiles `profile`.
///
/// A guest's process makes system calls of the machine's own architecture only: our own filter
/// kills it otherwise. So the other architectures of a profile, which would triple the filter, are
/// included for a native program alone.
///
/// # Errors
/// If the profile requests what is not supported. System calls that libseccomp does not know are
/// skipped, as runc does: profiles name calls of newer kernels.
pub(super) fn compile(
    profile: &LinuxSeccomp,
    runs: WorkloadKind,
) -> Result<SeccompFilter, FilterError> {
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let asks = profile.listener_path().is_some()
        || calls
            .iter()
            .any(|call| call.action() == Action::ScmpActNotify);
    if asks || profile.default_action() == Action::ScmpActNotify {
        return Err(FilterError::Notify);
    }
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut filter = context(default)?;
    if runs == WorkloadKind::Native {
        for name in profile
            .architectures()
            .iter()
            .flatten()
            .map(ToString::to_string)
        {
            let add = ScmpArch::from_str(&name).and_then(|arch| filter.add_arch(arch).map(drop));
            add.map_err(FilterError::part(format!("architecture {name}")))?;
        }
    }
    for call in calls {
        let action = action(call.action(), call.errno_ret());
        // libseccomp refuses a rule with the default action.
        if action != default {
            add(&mut filter, call, action)?;
        }
    }
    export(
        &filter,
        flags(profile.flags().as_deref().unwrap_or_default()),
    )
}

/// Creates an empty filter with the settings that all filters have.
pub(super) fn context(default: ScmpAction) -> Result<ScmpFilterContext, FilterError> {
    let mut filter = ScmpFilterContext::new(default)
        .map_err(FilterError::part(format!("default action {default:?}")))?;
    // A binary tree: the kernel runs the filter once for each of its system calls when it is
    // installed, and through a list of hundreds of comparisons that takes longer than the rest of a
    // sandbox's set-up.
    filter
        .set_ctl_optimize(2)
        .map_err(FilterError::part("search tree"))?;
    Ok(filter)
}

/// Exports the filter in the kernel's form.
pub(super) fn export(filter: &ScmpFilterContext, flags: u32) -> Result<SeccompFilter, FilterError> {
    let read = || -> io::Result<Result<Vec<u8>, FilterError>> {
        let mut file = File::from(rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC)?);
        if let Err(source) = filter.export_bpf(&file) {
            return Ok(Err(FilterError::part("the filter as a whole")(source)));
        }
        file.rewind()?;
        let mut instructions = Vec::new();
        file.read_to_end(&mut instructions)?;
        Ok(Ok(instructions))
    };
    Ok(SeccompFilter::new(
        flags,
        read().map_err(FilterError::Export)??,
    ))
}

fn add(
    filter: &mut ScmpFilterContext,
    call: &LinuxSyscall,
    action: ScmpAction,
) -> Result<(), FilterError> {
    let conditions: Vec<_> = call.args().iter().flatten().map(condition).collect();
    for name in call.names() {
        let Ok(number) = ScmpSyscall::from_name(name) else {
            tracing::debug!(
                syscall = name,
                "the seccomp profile names a system call that libseccomp does not know"
            );
            continue;
        };
        for rule in rules(call.args().as_deref().unwrap_or_default(), &conditions) {
            filter
                .add_rule_conditional(action, number, rule)
                .map_err(FilterError::part(format!("syscall {name}")))?;
        }
    }
    Ok(())
}

/// Returns the rules of a call. All conditions of one rule must hold. libseccomp takes one
/// condition for each argument; as in runc, a call with two conditions on one argument becomes a
/// rule for each condition, so that one of them is enough.
fn rules<'a>(
    args: &[LinuxSeccompArg],
    conditions: &'a [ScmpArgCompare],
) -> Vec<&'a [ScmpArgCompare]> {
    let mut seen = HashSet::new();
    if args.iter().all(|arg| seen.insert(arg.index())) {
        vec![conditions]
    } else {
        conditions.chunks(1).collect()
    }
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (compare, value) = match arg.op() {
        Operator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Operator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Operator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Operator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Operator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Operator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // `value` is the mask, and `valueTwo` the expected value (runtime spec, "Seccomp").
        Operator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    // No system call has an argument of a higher index: libseccomp refuses it.
    ScmpArgCompare::new(
        u32::try_from(arg.index()).unwrap_or(u32::MAX),
        compare,
        value,
    )
}

fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    let errno = errno.map_or(libc::EPERM, |errno| {
        i32::try_from(errno).unwrap_or(i32::MAX)
    });
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(errno),
        Action::ScmpActNotify => ScmpAction::Notify,
        Action::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).unwrap_or(u16::MAX)),
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
    }
}

/// Converts the flags for seccomp(2). Of the others, one is about several threads, but the process
/// has one, and one about notifications.
fn flags(flags: &[Flag]) -> u32 {
    let bits = flags.iter().map(|flag| match flag {
        Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Flag::SeccompFilterFlagTsync | Flag::SeccompFilterFlagWaitKillableRecv => 0,
    });
    let all = bits.fold(0, |all, bit| all | bit);
    u32::try_from(all).expect("the kernel's flags have at most 32 bits")
}
