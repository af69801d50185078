//! The first steps of a forked process, and its end.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::request::Entry;

/// The exit code of a process that could not be separated from the one that forked it.
const NEVER_RAN: u8 = 125;
/// The exit code of a process that panicked, as a Rust program's.
const PANICKED: u8 = 101;

/// Runs a process that was just forked, to its end.
pub(crate) fn run(entry: Entry, control: OwnedFd) -> ! {
    // An unwinding panic would go on into frames of the forking process.
    let code = catch_unwind(AssertUnwindSafe(|| match close_all_but(control.as_fd()) {
        Ok(()) => entry(control),
        Err(_) => NEVER_RAN,
    }));
    exit(code.unwrap_or(PANICKED));
}

/// Ends the process at once: nothing is flushed, nothing that was registered for the end is run.
pub fn exit(code: u8) -> ! {
    #[expect(
        unsafe_code,
        reason = "the standard library's exit would run what the host registered before the fork"
    )]
    // SAFETY: _exit touches no memory.
    unsafe {
        libc::_exit(code.into())
    }
}

/// Closes every descriptor from 3 on but `kept`. For a process that was just forked: what the
/// forking process opened is closed under its owners' feet.
///
/// # Errors
/// When the kernel has no close_range(2).
fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    if kept > 3 {
        close_range(3, kept - 1)?;
    }
    close_range(kept.max(2) + 1, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no crate here wraps close_range")]
    // SAFETY: called in a process that was just forked and owns nothing but its control socket:
    // values that own one of the closed descriptors belong to frames of the forking process, to
    // which this one never returns (`run`).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(result).map(drop)
}

/// Gives the process a new keyring. It has no name by which another process could join it, and root
/// of another container cannot read it. A kernel without keys has none to keep from the container.
///
/// # Errors
/// When root may have no more keys.
pub fn enter_own_keyring() -> io::Result<()> {
    /// Operations of keyctl(2).
    const JOIN_KEYRING: libc::c_long = 1;
    const SETPERM: libc::c_long = 5;
    /// Everything for processes that possess a keyring, nothing for others of the same user
    /// (keyrings(7)).
    const POSSESSOR_ALONE: libc::c_long = 0x3f00_0000;

    let keyctl = |operation: libc::c_long, first: libc::c_long, second: libc::c_long| {
        #[expect(unsafe_code, reason = "no library offers keyctl(2) to safe code")]
        // SAFETY: the two operations take numbers, and a name which is null here. They change
        // credentials of this process's one thread and keys of the kernel, and no memory.
        check(unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second) })
    };
    match keyctl(JOIN_KEYRING, 0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => keyctl(SETPERM, joined?, POSSESSOR_ALONE).map(drop),
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
