//! The filter of system calls: what compilers, their linker and the libraries need, on files that
//! are open and in the working folder.
//!
//! Every other call fails with `ENOSYS`, as on a kernel without it. There is no way to another
//! process, a socket, another program or executable memory.

use std::io;

use libc::{sock_filter, sock_fprog};

/// Calls with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Files.
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // The reply: the one socket is the host's.
    libc::SYS_sendto,
    // Threads and their locks. Signals reach this process alone, in its pid namespace.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Identity.
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    // Time, randomness, the machine.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Older forms of these calls, which only some machines have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_gettimeofday,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_gettimeofday, libc::SYS_renameat];

/// The machine, as the kernel names it in a filter's data (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xc000_00b7;

/// A condition on the lower half of an argument (counted from 0).
#[derive(Debug, Clone, Copy)]
enum Test {
    Is(u32, u32),
    Has(u32, u32),
    Lacks(u32, u32),
}

/// Calls with a condition.
const ALLOWED_IF: &[(libc::c_long, Test)] = &[
    // No executable memory (PROT_EXEC).
    (libc::SYS_mmap, Test::Lacks(2, 4)),
    (libc::SYS_mprotect, Test::Lacks(2, 4)),
    // Threads (CLONE_THREAD), not processes. The C library falls back to it without clone3, with
    // flags that no filter can read.
    (libc::SYS_clone, Test::Has(0, 0x0001_0000)),
    // Limits of the process itself.
    (libc::SYS_prlimit64, Test::Is(0, 0)),
];

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Puts the calling thread, and what it starts, under the filter. It has `no_new_privs`.
pub(crate) fn install() -> io::Result<()> {
    let mut instructions = program();
    let program = sock_fprog {
        len: u16::try_from(instructions.len()).expect("it has a few hundred instructions"),
        filter: instructions.as_mut_ptr(),
    };
    #[expect(unsafe_code, reason = "no crate here wraps seccomp(2)")]
    // SAFETY: `program` and the instructions that it points to outlive the call, and the kernel
    // copies both before it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            0_u64,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn program() -> Vec<sock_filter> {
    let allow = ret(libc::SECCOMP_RET_ALLOW);
    let mut all = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, MACHINE, 1, 0),
        ret(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    for &call in ALLOWED.iter().chain(ALLOWED_HERE) {
        all.extend([jump(libc::BPF_JEQ, number(call), 0, 1), allow]);
    }
    for &(call, test) in ALLOWED_IF {
        // Skips the next instruction, which refuses, if the condition holds.
        let (argument, condition) = match test {
            Test::Is(argument, value) => (argument, jump(libc::BPF_JEQ, value, 1, 0)),
            Test::Has(argument, bit) => (argument, jump(libc::BPF_JSET, bit, 1, 0)),
            Test::Lacks(argument, bit) => (argument, jump(libc::BPF_JSET, bit, 0, 1)),
        };
        all.extend([
            jump(libc::BPF_JEQ, number(call), 0, 4),
            // Both machines have the lower half first.
            load(ARGUMENTS + 8 * argument),
            condition,
            ret(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
            allow,
        ]);
    }
    all.push(ret(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()));
    all
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of system calls are small")
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Skips `yes` instructions if the condition holds, else `no`.
fn jump(condition: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, yes, no, value)
}

fn ret(verdict: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

fn instruction(code: u32, yes: u8, no: u8, value: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt: yes,
        jf: no,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a call, as the kernel finds it.
    fn verdict(machine: u32, call: libc::c_long, arguments: [u32; 3]) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let skip = |holds| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = match k {
                        NUMBER => number(call),
                        ARCHITECTURE => machine,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize],
                    }
                }
                code if code == libc::BPF_JMP | libc::BPF_JEQ => at += skip(loaded == k),
                code if code == libc::BPF_JMP | libc::BPF_JSET => at += skip(loaded & k != 0),
                _ => return k,
            }
        }
    }

    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
    }

    #[test]
    fn filter_allows_what_a_compiler_needs_and_nothing_else() {
        let allow = libc::SECCOMP_RET_ALLOW;
        let cases = [
            (libc::SYS_read, [0; 3], allow),
            (libc::SYS_uname, [0; 3], allow),
            (libc::SYS_mmap, [0, 4096, 3], allow),
            (libc::SYS_mmap, [0, 4096, 7], errno(libc::EPERM)),
            (libc::SYS_mprotect, [0, 4096, 5], errno(libc::EPERM)),
            (libc::SYS_clone, [0x003d_0f00, 0, 0], allow),
            (libc::SYS_clone, [0x0120_0011, 0, 0], errno(libc::EPERM)),
            (libc::SYS_prlimit64, [0; 3], allow),
            (libc::SYS_prlimit64, [7, 0, 0], errno(libc::EPERM)),
            (libc::SYS_clone3, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_execve, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_socket, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_kill, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_ptrace, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_setuid, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_mount, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_seccomp, [0; 3], errno(libc::ENOSYS)),
            (libc::SYS_prctl, [1, 0, 0], errno(libc::ENOSYS)),
        ];
        for (call, arguments, expected) in cases {
            assert_eq!(
                verdict(MACHINE, call, arguments),
                expected,
                "{call} {arguments:?}"
            );
        }
    }

    #[test]
    fn calls_of_another_machine_kill_the_process() {
        let of_i386 = verdict(0x4000_0003, libc::SYS_read, [0; 3]);
        assert_eq!(of_i386, libc::SECCOMP_RET_KILL_PROCESS);
    }
}
