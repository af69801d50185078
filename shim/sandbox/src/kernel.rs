//! System calls without a wrapper in the crates that are used here.
//!
//! Everything unsafe of the executing half stands in this file. What forks is `process-forker`, but
//! for the one fork behind filters ([`fork_behind_gate`]).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::plan::{AttributeChange, Propagation, Reach};
use crate::seccomp::{FORK, Pass};

/// Signals that end a program by default, and that Kubernetes or a user may send.
const ENDING_SIGNALS: &[libc::c_int] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
];
/// The exit code of a program that a signal ended is this plus the signal's number.
const SIGNAL_BASE: libc::c_int = 128;

/// Returns a random number of the kernel's. A generator of the process would give all forks of a
/// zygote the same number.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    #[expect(
        unsafe_code,
        reason = "no crate here wraps getrandom with the features that it has"
    )]
    // SAFETY: the kernel writes as many bytes as there are.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // The kernel gives up to 256 bytes whole.
    if usize::try_from(filled) == Ok(bytes.len()) {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Forks a sibling of the calling process, which has one thread and may be under filters behind a
/// gate: the one fork that passes there. The new process is in the pid namespace that the caller
/// has chosen for its children. Returns its number, or none in the new process. `tid_address` was
/// read before there were filters.
pub(crate) fn fork_behind_gate(pass: Pass, tid_address: Option<u64>) -> io::Result<Option<u32>> {
    let (none, child_tid) = (0_u64, tid_address.unwrap_or(0));
    // The order of the last two is the architecture's.
    #[cfg(target_arch = "x86_64")]
    let (fourth, fifth) = (child_tid, none);
    #[cfg(target_arch = "aarch64")]
    let (fourth, fifth) = (none, child_tid);
    #[expect(
        unsafe_code,
        reason = "no crate here wraps clone(2) with the argument that a filter looks at"
    )]
    // SAFETY: without CLONE_VM the child goes on in a copy of this memory, on the same stack, as
    // after fork; the process has one thread, so no lock is held by a thread that the child does
    // not have. The kernel writes the child's number to where the C library keeps it
    // (`tid_address`), and does not read the last argument.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            FORK,
            none,
            none,
            fourth,
            fifth,
            pass.argument(),
        )
    };
    match result {
        0 => Ok(None),
        pid @ 1.. => Ok(Some(
            u32::try_from(pid).expect("numbers of processes are below 2^22"),
        )),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks the kernel to kill the process when the host ends, also under filters behind a gate.
pub(crate) fn die_with_parent_behind_gate(pass: Pass) -> io::Result<()> {
    let (signal, none) = (u64::from(libc::SIGKILL.unsigned_abs()), 0_u64);
    let option = u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs());
    #[expect(
        unsafe_code,
        reason = "the safe wrapper has no argument that a filter could look at"
    )]
    // SAFETY: the option takes a number, and the kernel does not read the last argument.
    check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            option,
            signal,
            none,
            none,
            none,
            pass.argument(),
        )
    })
}

/// Calls setsid, also under filters behind a gate.
pub(crate) fn setsid_behind_gate(pass: Pass) -> io::Result<()> {
    let none = 0_u64;
    #[expect(
        unsafe_code,
        reason = "the safe wrapper has no argument that a filter could look at"
    )]
    // SAFETY: setsid has no arguments.
    check(unsafe {
        libc::syscall(
            libc::SYS_setsid,
            none,
            none,
            none,
            none,
            none,
            pass.argument(),
        )
    })
}

/// Makes standard input the controlling terminal of the process, also under filters behind a gate.
pub(crate) fn take_terminal_behind_gate(pass: Pass) -> io::Result<()> {
    let (stdin, none) = (u64::from(libc::STDIN_FILENO.unsigned_abs()), 0_u64);
    #[expect(
        unsafe_code,
        reason = "the safe wrapper has no argument that a filter could look at"
    )]
    // SAFETY: the request takes a number: 0, not to take the terminal from others.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioctl,
            stdin,
            libc::TIOCSCTTY,
            none,
            none,
            none,
            pass.argument(),
        )
    })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Changes the attributes of the mount that `mount` refers to, and of all below it if `reach` is
/// recursive.
pub(crate) fn set_mount_attributes(
    mount: impl AsFd,
    change: AttributeChange,
    reach: Reach,
) -> io::Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    mount_setattr(
        mount.as_fd(),
        libc::mount_attr {
            attr_set: change.set,
            attr_clr: change.clear,
            propagation: 0,
            userns_fd: 0,
        },
        reach,
    )
}

/// Maps the owners of the files of the mount that `mount` refers to, which is not attached yet, to
/// the users with the same numbers in the user namespace `users`.
pub(crate) fn map_owners(mount: impl AsFd, users: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::from(users.as_raw_fd().unsigned_abs());
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd,
    };
    mount_setattr(mount.as_fd(), attributes, Reach::Single)
}

/// Changes the propagation of the mount that `mount` refers to.
pub(crate) fn set_mount_propagation(mount: impl AsFd, propagation: Propagation) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: propagation.kind.flag(),
        userns_fd: 0,
    };
    mount_setattr(mount.as_fd(), attributes, propagation.reach)
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: libc::mount_attr,
    reach: Reach,
) -> io::Result<()> {
    let recursive = match reach {
        Reach::Single => 0,
        Reach::Recursive => libc::AT_RECURSIVE,
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
            libc::AT_EMPTY_PATH | recursive,
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

/// Installs handlers that end the process for the signals that end other processes by default. To
/// the first process of a pid namespace the kernel delivers no signal without a handler, except
/// SIGKILL from outside.
pub(crate) fn end_on_signals() -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet};
    // On the alternative stack where there is one: an engine may catch the overflow of a guest's
    // stack there.
    let action = SigAction::new(
        SigHandler::Handler(end_on_signal),
        SaFlags::SA_ONSTACK | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    let action = libc::sigaction::from(action);
    // The real-time ones too: an image's stop signal may be one of them.
    for signal in ENDING_SIGNALS
        .iter()
        .copied()
        .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
    {
        #[expect(
            unsafe_code,
            reason = "a handler must do nothing but what signal-safety(7) allows; no crate knows \
                      all signals"
        )]
        // SAFETY: the action outlives the call; its handler calls _exit alone, which is allowed in
        // one; no earlier handler is called again.
        let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn end_on_signal(signal: libc::c_int) {
    process_forker::exit(u8::try_from(SIGNAL_BASE + signal).unwrap_or(u8::MAX));
}

/// Switches on the loopback interface of the calling process's network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).expect("letters are ASCII");
    }
    let up = libc::c_short::try_from(libc::IFF_UP).expect("IFF_UP is 1");
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
    };
    #[expect(unsafe_code, reason = "no crate here wraps this request of ioctl")]
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call and whose flags are filled
    // in.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the unused memory of the process's allocator to the kernel.
#[expect(
    unsafe_code,
    reason = "the C library has no safe interface to its allocator"
)]
pub fn trim_memory() {
    // SAFETY: takes no pointer, and may be called whenever malloc may.
    unsafe { libc::malloc_trim(0) };
}
