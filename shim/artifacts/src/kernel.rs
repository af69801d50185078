//! System calls without a wrapper in the crates that are used here.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Sets attributes `MOUNT_ATTR_*` of the detached mount that `mount` refers to, and makes it
/// private: nothing that is mounted at its origin appears in it.
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let itself: &CStr = c"";
    #[expect(unsafe_code, reason = "no crate here wraps mount_setattr")]
    // SAFETY: the path and the attributes outlive the call, the size is that of the attributes; the
    // kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            itself.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
