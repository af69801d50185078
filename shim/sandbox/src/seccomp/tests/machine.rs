//! An emulated BPF machine (the part of classic BPF that libseccomp uses), so that tests get a
//! filter's decision on any system call of any architecture without making it.

use super::super::SeccompFilter;

/// A system call in a filter's view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: i32,
    pub(super) arch: u32,
    pub(super) args: [u64; 6],
}

/// `AUDIT_ARCH_*` of this machine (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

impl Call {
    pub(super) fn native(number: i32, args: [u64; 6]) -> Self {
        Self {
            number,
            arch: NATIVE,
            args,
        }
    }

    /// Returns a word of `struct seccomp_data`.
    fn word(&self, offset: u32) -> u32 {
        let halves = |value: u64| {
            if cfg!(target_endian = "little") {
                [value, value >> 32]
            } else {
                [value >> 32, value]
            }
        };
        match offset / 4 {
            0 => self.number.cast_unsigned(),
            1 => self.arch,
            2 | 3 => 0,
            word => {
                let half = halves(self.args[(word as usize - 4) / 2])[(word as usize) % 2];
                u32::try_from(half & 0xffff_ffff).unwrap()
            }
        }
    }
}

/// The decision of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    Log,
    Trace(u16),
    Errno(i32),
    Trap,
    KillThread,
    Kill,
}

impl Decision {
    /// Converts `SECCOMP_RET_*` (linux/seccomp.h).
    fn of(word: u32) -> Self {
        let data = u16::try_from(word & 0xffff).unwrap();
        match word & 0xffff_0000 {
            0x7fff_0000 => Self::Allow,
            0x7ffc_0000 => Self::Log,
            0x7ff0_0000 => Self::Trace(data),
            0x0005_0000 => Self::Errno(i32::from(data)),
            0x0003_0000 => Self::Trap,
            0x0000_0000 => Self::KillThread,
            0x8000_0000 => Self::Kill,
            other => panic!("{other:#x}"),
        }
    }
}

/// Runs `filter` on `call`.
pub(super) fn decide(filter: &SeccompFilter, call: Call) -> Decision {
    let program = filter.instructions();
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let now = program[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { now.jt } else { now.jf });
        match now.code {
            // BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_AND | BPF_K, BPF_JMP | BPF_JA.
            0x20 => accumulator = call.word(now.k),
            0x54 => accumulator &= now.k,
            0x05 => at += now.k as usize,
            // BPF_JMP with BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, all BPF_K.
            0x15 => at += jump(accumulator == now.k),
            0x25 => at += jump(accumulator > now.k),
            0x35 => at += jump(accumulator >= now.k),
            0x45 => at += jump(accumulator & now.k != 0),
            // BPF_RET | BPF_K.
            0x06 => return Decision::of(now.k),
            code => panic!("an instruction that this machine does not emulate: {code:#x}"),
        }
    }
}
