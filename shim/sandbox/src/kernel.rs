//! Calls of the kernel that no crate here wraps.
//!
//! Everything unsafe of the executing half stands in this file, but for the call of a function by
//! its address (`zygote/serve.rs`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::plan::{AttributeChange, Propagation, Reach};
use crate::seccomp::{FORK, Pass};

/// Signals that end a program by default and that Kubernetes or a person may send.
const ENDING_SIGNALS: &[libc::c_int] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
];
/// A program that a signal ended has this and the signal's number as its exit code.
const SIGNAL_BASE: libc::c_int = 128;

/// From linux/sched.h: libc's constant has a type that is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Where a process is after it was forked.
pub(crate) enum Forked {
    /// In the new process.
    Child,
    /// In the old one.
    Parent(Newborn),
}

/// A process that was forked.
#[derive(Debug)]
pub(crate) struct Newborn {
    /// Its number, in the pid namespace of who forked it.
    pub(crate) pid: u32,
    /// A handle that stays right whatever becomes of the number.
    pub(crate) pidfd: OwnedFd,
}

/// Forks an ordinary child of the calling process, which has one thread.
pub(crate) fn fork() -> io::Result<Forked> {
    #[expect(unsafe_code, reason = "fork has no safe form")]
    // SAFETY: the process has one thread, so that no lock of the C library or of ours is held by a
    // thread that the child does not have.
    let result = unsafe { nix::unistd::fork() }?;
    Ok(match result {
        nix::unistd::ForkResult::Child => Forked::Child,
        nix::unistd::ForkResult::Parent { child } => {
            let pid = rustix::process::Pid::from_raw(child.as_raw())
                .expect("the number of a process is not 0");
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
            Forked::Parent(Newborn {
                pid: child.as_raw().unsigned_abs(),
                pidfd,
            })
        }
    })
}

/// Forks a sibling of the calling process, which has one thread: the new process's parent is the
/// caller's.
///
/// `namespaces` are the `CLONE_NEW*` that it gets new; `cgroup` the folder of the cgroup (version
/// 2) that it is born in.
pub(crate) fn fork_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
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
        0 => Ok(Forked::Child),
        pid @ 1.. => {
            #[expect(unsafe_code, reason = "the kernel hands over a bare number")]
            // SAFETY: with CLONE_PIDFD the kernel made this descriptor for us, and nobody else
            // knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(Newborn {
                pid: u32::try_from(pid).expect("numbers of processes are below 2^22"),
                pidfd,
            }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// A random number of the kernel's. Nothing of the process's own is used: what zygotes fork would
/// draw the same.
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
/// gate: the one fork that passes there. It is born in the pid namespace that the caller has chosen
/// for its children. Gives its number, or none in the new process. `tid_address` was asked for
/// before there were filters.
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

/// Has the host's end end this process too, also under filters behind a gate.
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

/// Where the C library keeps the calling thread's number, which its own fork brings up to date and
/// clone3 does not: functions that take a thread (pthread_getaffinity_np, say) would use the number
/// of the process that forked. A kernel without checkpoints does not tell; then those functions
/// fail in a guest's process.
pub(crate) fn tid_address() -> Option<u64> {
    let mut address: u64 = 0;
    #[expect(unsafe_code, reason = "no crate here wraps this option of prctl")]
    // SAFETY: the kernel writes one pointer to `address`, which outlives the call.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    (result == 0 && address != 0).then_some(address)
}

/// Gives the process a new keyring. It has no name by which another process could join it, and root
/// of another container cannot read it. A kernel without keys has none to keep from the container.
pub(crate) fn enter_own_keyring() -> io::Result<()> {
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
        let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second) };
        if result == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    match keyctl(JOIN_KEYRING, 0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => keyctl(SETPERM, joined?, POSSESSOR_ALONE).map(drop),
    }
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

/// Closes every descriptor from 3 on but `kept`.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    if kept > 3 {
        close_range(3, kept - 1)?;
    }
    close_range(kept.max(2) + 1, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "no crate here wraps close_range")]
    // SAFETY: called in a process that was just forked and owns nothing but what it is about to
    // use: values that own one of the closed descriptors belong to frames of the forking process,
    // to which this one never returns.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Changes the attributes of the mount that `mount` refers to, and of all below it if `reach` says
/// so.
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

/// Shows the files of the mount that `mount` refers to, which nobody sees yet, as those of the
/// users that have the same numbers in the user namespace `users`.
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

/// Changes how mounts under the mount that `mount` refers to reach others.
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

/// Has the signals end the process that would end any other: to the first process of a pid
/// namespace the kernel delivers no signal (but SIGKILL from outside) that it has no handler for.
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
    exit(u8::try_from(SIGNAL_BASE + signal).unwrap_or(u8::MAX));
}

/// Switches the loopback interface of the calling process's network namespace on.
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

/// Gives back to the kernel what the process's allocator holds and nobody uses.
#[expect(
    unsafe_code,
    reason = "the C library has no safe interface to its allocator"
)]
pub fn trim_memory() {
    // SAFETY: takes no pointer, and may be called whenever malloc may.
    unsafe { libc::malloc_trim(0) };
}
