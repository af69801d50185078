//! The keyring of a container's process: one of its own, not the host's.

use std::io;

/// Operations of keyctl(2).
const JOIN_KEYRING: libc::c_long = 1;
const SETPERM: libc::c_long = 5;
/// Everything for processes that possess a keyring, nothing for others of the same user
/// (keyrings(7)).
const POSSESSOR_ALONE: libc::c_long = 0x3f00_0000;

/// Gives this process, and what it forks, a new keyring. It has no name by which another process
/// could join it, and root of another container cannot read it. A kernel without keys has none to
/// keep from the container.
///
/// # Errors
/// When root may have no more keys.
pub(super) fn enter_own() -> io::Result<()> {
    match keyctl(JOIN_KEYRING, 0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => keyctl(SETPERM, joined?, POSSESSOR_ALONE).map(drop),
    }
}

/// keyctl(2) with an operation whose arguments are numbers, or a null pointer.
#[expect(unsafe_code, reason = "no library offers keyctl(2) to safe code")]
fn keyctl(
    operation: libc::c_long,
    first: libc::c_long,
    second: libc::c_long,
) -> io::Result<libc::c_long> {
    // SAFETY: the two operations take numbers, and a name which is null here. They change
    // credentials of this process's one thread and keys of the kernel, and no memory.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
