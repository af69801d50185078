//! fork and clone3.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// From linux/sched.h: libc's constant has a type that is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// In which process a fork returned.
pub(crate) enum Fork {
    InChild,
    InParent(Child),
}

/// A process that was forked.
#[derive(Debug)]
pub struct Child {
    /// Its number, in the pid namespace of the process that forked it.
    pub pid: u32,
    /// A handle that stays right if the number is reused.
    pub pidfd: OwnedFd,
}

/// Forks an ordinary child of the calling process, which has one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    #[expect(unsafe_code, reason = "fork has no safe form")]
    // SAFETY: the process has one thread, so that no lock of the C library or of ours is held by a
    // thread that the child does not have.
    let result = unsafe { nix::unistd::fork() }?;
    Ok(match result {
        nix::unistd::ForkResult::Child => Fork::InChild,
        nix::unistd::ForkResult::Parent { child } => {
            let pid = rustix::process::Pid::from_raw(child.as_raw())
                .expect("the number of a process is not 0");
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
            Fork::InParent(Child {
                pid: child.as_raw().unsigned_abs(),
                pidfd,
            })
        }
    })
}

/// Forks a sibling of the calling process, which has one thread: the new process's parent is the
/// caller's.
///
/// `namespaces` are the `CLONE_NEW*` that it gets new; `cgroup` is the folder of the cgroup, of
/// version 2, that it is born in.
pub(crate) fn fork_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    let parent_and_pidfd = u64::from((libc::CLONE_PARENT | libc::CLONE_PIDFD).unsigned_abs());
    let (into_cgroup, cgroup) = match cgroup {
        Some(folder) => (
            CLONE_INTO_CGROUP,
            u64::from(folder.as_raw_fd().unsigned_abs()),
        ),
        None => (0, 0),
    };
    let (set_tid, child_tid) = match tid_address() {
        Some(address) => (u64::from(libc::CLONE_CHILD_SETTID.unsigned_abs()), address),
        None => (0, 0),
    };
    let mut arguments = libc::clone_args {
        flags: namespaces | parent_and_pidfd | into_cgroup | set_tid,
        pidfd: &raw mut pidfd as u64,
        child_tid,
        parent_tid: 0,
        // With CLONE_PARENT it is the caller's: SIGCHLD, since the caller was made by fork.
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    #[expect(unsafe_code, reason = "no crate here wraps clone3")]
    // SAFETY: without CLONE_VM the child goes on in a copy of this memory, on the same stack, as
    // after fork; the process has one thread, so no lock is held by a thread that the child does
    // not have. The kernel writes the descriptor to `pidfd`, which outlives the call, and the
    // child's number to where the C library keeps it (`tid_address`).
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => Ok(Fork::InChild),
        pid @ 1.. => {
            #[expect(unsafe_code, reason = "the kernel hands over a bare number")]
            // SAFETY: with CLONE_PIDFD the kernel made this descriptor, and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::InParent(Child {
                pid: u32::try_from(pid).expect("numbers of processes are below 2^22"),
                pidfd,
            }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the address at which the C library keeps the calling thread's number. Its own fork
/// updates the number, clone3 does not: functions that take a thread (such as
/// pthread_getaffinity_np) would use the number of the process that forked. A kernel without
/// checkpoints does not know the address; then those functions fail in a forked process.
pub fn tid_address() -> Option<u64> {
    let mut address: u64 = 0;
    #[expect(unsafe_code, reason = "no crate here wraps this option of prctl")]
    // SAFETY: the kernel writes one pointer to `address`, which outlives the call.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    (result == 0 && address != 0).then_some(address)
}
