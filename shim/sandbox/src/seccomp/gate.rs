//! The gate in the filters of an exec process: the few calls between its confinement and its fork
//! into the container.
//!
//! The process is confined before it enters the container's pid namespace, because a program there
//! may be allowed to attach to it at once. So its filters must allow the fork, and the fork's calls
//! such as setsid, whatever the spec's profile is. A gate lets exactly these calls pass, and only
//! with the pass in an argument that the kernel does not read: a random number that is unknown in
//! the container.

use super::SeccompFilter;
use super::program::Instruction;
use crate::kernel;

/// The random number that opens a gate.
#[derive(Clone, Copy)]
pub(crate) struct Pass(u64);

/// The flags of the one clone(2) that passes: a fork with the caller's parent, without namespaces.
pub(crate) const FORK: u64 =
    (libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::SIGCHLD).unsigned_abs() as u64;

/// `AUDIT_ARCH_*` of this machine (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
/// The argument for the pass: the last one, which none of these calls has.
const PASS: u32 = 5;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();

/// Returns the calls of a gate, with the argument that decides about each.
fn calls() -> [(libc::c_long, Option<(u32, u64)>); 5] {
    let number = |number: libc::c_int| u64::from(number.unsigned_abs());
    [
        (libc::SYS_clone, Some((0, FORK))),
        (libc::SYS_setsid, None),
        (libc::SYS_prctl, Some((0, number(libc::PR_SET_PDEATHSIG)))),
        (libc::SYS_ioctl, Some((1, libc::TIOCSCTTY))),
        (
            libc::SYS_seccomp,
            Some((0, u64::from(libc::SECCOMP_SET_MODE_FILTER))),
        ),
    ]
}

impl Pass {
    /// Generates a random number.
    pub(crate) fn new() -> std::io::Result<Self> {
        kernel::random().map(Self)
    }

    /// Returns it for the last argument of a call.
    pub(crate) fn argument(self) -> u64 {
        self.0
    }
}

impl SeccompFilter {
    /// Returns this filter behind a gate: the calls of the gate pass, and the filter decides on all
    /// others.
    pub(crate) fn behind_gate(&self, pass: Pass) -> Self {
        self.after(&gate(pass, ALLOW))
    }

    /// Returns a filter that closes a gate for the rest of the process's life.
    pub(crate) fn closing_gate(pass: Pass) -> Self {
        Self::of(&[gate(pass, REFUSE), vec![Instruction::ret(ALLOW)]].concat())
    }
}

/// Returns instructions that end with `verdict` for a call with the pass, and continue after them
/// for any other.
///
/// The number of the call is tested before any argument: the kernel caches verdicts that depend on
/// the number alone.
fn gate(pass: Pass, verdict: u32) -> Vec<Instruction> {
    let mut made = Vec::new();
    // From the last call to the first one, so that the distance to the end is known.
    for (number, argument) in calls().into_iter().rev() {
        let mut tests = equals(PASS, pass.argument());
        tests.extend(
            argument
                .into_iter()
                .flat_map(|(index, value)| equals(index, value)),
        );
        let number = u32::try_from(number).expect("numbers of system calls have at most 32 bits");
        let mut block = vec![Test::Load(NUMBER), Test::Is(number, Otherwise::NextCall)];
        block.extend(tests);
        block.push(Test::Return(verdict));
        made = assemble(&block, made);
    }
    let architecture = [Test::Load(ARCH), Test::Is(NATIVE, Otherwise::End)];
    assemble(&architecture, made)
}

/// An instruction with jumps that are not resolved.
#[derive(Clone, Copy)]
enum Test {
    Load(u32),
    /// Continues if the loaded word has this value.
    Is(u32, Otherwise),
    Return(u32),
}

/// The target of a test that fails.
#[derive(Clone, Copy)]
enum Otherwise {
    NextCall,
    End,
}

/// Returns tests of both halves of an argument.
fn equals(index: u32, value: u64) -> Vec<Test> {
    let (low, high) = if cfg!(target_endian = "little") {
        (0, 4)
    } else {
        (4, 0)
    };
    let offset = ARGS + 8 * index;
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).expect("it is masked");
    let is = |value| Test::Is(value, Otherwise::End);
    vec![
        Test::Load(offset + low),
        is(half(value)),
        Test::Load(offset + high),
        is(half(value >> 32)),
    ]
}

/// Resolves the jumps of `block`, before `rest`.
fn assemble(block: &[Test], rest: Vec<Instruction>) -> Vec<Instruction> {
    let mut made: Vec<Instruction> = Vec::new();
    for (at, test) in block.iter().enumerate() {
        let to_next_call = block.len() - at - 1;
        made.push(match *test {
            Test::Load(offset) => Instruction::load(offset),
            Test::Return(verdict) => Instruction::ret(verdict),
            Test::Is(value, otherwise) => {
                let distance = match otherwise {
                    Otherwise::NextCall => to_next_call,
                    Otherwise::End => to_next_call + rest.len(),
                };
                Instruction::jump_unless(
                    value,
                    u8::try_from(distance).expect("a gate has fewer than 256 instructions"),
                )
            }
        });
    }
    made.extend(rest);
    made
}
