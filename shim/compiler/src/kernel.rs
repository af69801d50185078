//! System calls without a wrapper in the crates that are used here.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// How a process ended, and what it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    /// How it ended.
    pub(crate) end: End,
    /// Processor time of all its threads.
    pub(crate) cpu: Duration,
    /// The most memory that it had in use at a time, in bytes.
    pub(crate) peak: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// Reaps a child of this process, which has ended.
///
/// # Errors
/// If it has not ended (`WouldBlock`), or is no child of this process.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "no crate here wraps waitid with what was used")]
    // SAFETY: the kernel fills the two structures, which outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            libc::WEXITED | libc::WNOHANG,
            usage.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "the kernel has filled the structure")]
    // SAFETY: all zeros are valid values of its fields, and the kernel has written the rest.
    let info = unsafe { info.assume_init() };
    #[expect(unsafe_code, reason = "the kernel has filled the structure")]
    // SAFETY: as above.
    let usage = unsafe { usage.assume_init() };
    // Without a child that has ended, the kernel leaves zeros.
    if info.si_signo == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    #[expect(unsafe_code, reason = "the fields of a siginfo are a union")]
    // SAFETY: waitid has filled the fields of SIGCHLD.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => End::Exited(status),
        _ => End::Signalled(status),
    };
    Ok(Reaped {
        end,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        peak: u64::try_from(usage.ru_maxrss).unwrap_or_default() << 10,
    })
}

fn duration(time: libc::timeval) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// Schedules the calling thread, and what it starts, as work without a deadline.
pub(crate) fn schedule_as_batch() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "no crate here wraps sched_setscheduler")]
    // SAFETY: the kernel reads the parameters, which outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    check(result.into())
}

/// Gives the calling thread, and what it starts, the last place at the disk.
pub(crate) fn use_disk_when_idle() -> io::Result<()> {
    /// ioprio_set(2): of a thread; the class of those that get what is left.
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_IDLE: libc::c_long = 3 << 13;
    #[expect(unsafe_code, reason = "no crate here wraps ioprio_set")]
    // SAFETY: the call takes numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0_i64, CLASS_IDLE) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
