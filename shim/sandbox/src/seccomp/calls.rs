//! The system calls that our own filter names.
//!
//! `ALLOWED` has the calls of libwasmedge, the C and C++ libraries, Rust's library and our own
//! set-up after the installation of the filter. It has all variants of calls for files, sockets,
//! memory, time and threads: a guest reaches them through WASI, and its mounts and ids decide what
//! it may open. It has no call that would change the sandbox.

/// A condition on one argument (counted from 0).
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    /// The argument has this value.
    Is(u32, u64),
    /// Of the bits in the first number, the argument has exactly those of the second.
    Bits(u32, u64, u64),
}

/// The namespace flags of clone(2): none may be set.
const NAMESPACES: u64 = 0x7e02_0080;
/// The flag of clone(2) that makes a thread, not a process.
const THREAD: u64 = 0x0001_0000;

/// Calls that pass with any arguments: names with spaces between them.
pub(super) const ALLOWED: &[&str] = &[
    // Memory.
    "brk madvise membarrier mincore mlock mlock2 mmap mmap2 mprotect mremap msync munlock munmap",
    // Files that are open.
    "close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 arm_fadvise64_64 \
     fallocate fcntl fcntl64",
    "fdatasync flock fstat fstat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getdents \
     getdents64 _llseek lseek pread64",
    "preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 \
     sync_file_range sync_file_range2",
    "syncfs write writev",
    // Files by path. Not getcwd: a working folder outside of the root has no path, and the dynamic
    // linker (glibc 2.41), which needs none, then searches for one with a lock that it did not
    // initialize.
    "access chdir creat faccessat faccessat2 fchdir fstatat64 futimesat link linkat lstat \
     lstat64 mkdir mkdirat",
    "newfstatat open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat \
     stat64 statfs statfs64 statx",
    "symlink symlinkat truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 \
     utimes",
    // Waiting.
    "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 \
     _newselect pipe pipe2 poll",
    "ppoll ppoll_time64 pselect6 pselect6_time64 select",
    // Sockets; the allowed families are below.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
     recvmmsg_time64 recvmsg",
    "send sendmmsg sendmsg sendto setsockopt shutdown",
    // Time.
    "alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
     clock_nanosleep_time64 getitimer",
    "gettimeofday nanosleep pause setitimer time timer_create timer_delete timer_getoverrun \
     timer_gettime timer_gettime64",
    "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
     timerfd_settime timerfd_settime64 times",
    // Threads and their locks.
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list \
     get_thread_area getcpu rseq",
    "sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam \
     sched_getscheduler sched_yield",
    "set_robust_list set_thread_area set_tid_address set_tls arch_prctl",
    // Signals. The process sees the processes of its own container only.
    "kill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
     rt_sigtimedwait",
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigreturn tgkill \
     tkill",
    // Identity and exit of the process.
    "capget exit exit_group getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
     getgroups32 getpgid getpgrp",
    "getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
     getrusage getsid gettid",
    "getuid getuid32 restart_syscall sysinfo ugetrlimit uname wait4 waitid waitpid",
];

/// Calls that pass if all their conditions hold. A call with several lines passes by any of them.
pub(super) const ALLOWED_IF: &[(&str, &[Test])] = &[
    // Threads, and no processes: the C library falls back to it without clone3, with flags that no
    // filter can read.
    ("clone", &[Test::Bits(0, NAMESPACES | THREAD, THREAD)]),
    // Limits of the process itself.
    ("prlimit64", &[Test::Is(0, 0)]),
    // Unix, IPv4 and IPv6 sockets; and the kernel's list of addresses, by which a resolver sorts
    // its results.
    ("socket", &[Test::Is(0, 1)]),
    ("socket", &[Test::Is(0, 2)]),
    ("socket", &[Test::Is(0, 10)]),
    ("socket", &[Test::Is(0, 16), Test::Is(2, 0)]),
    ("socketpair", &[Test::Is(0, 1)]),
    // Settings (TCGETS, TCGETS2) and size (TIOCGWINSZ) of a terminal can be read, not changed:
    // TIOCSTI would type into it.
    ("ioctl", &[Test::Is(1, 0x5401)]),
    ("ioctl", &[Test::Is(1, 0x802c_542a)]),
    ("ioctl", &[Test::Is(1, 0x5413)]),
    // The number of readable bytes (FIONREAD), and operations that fcntl has too: FIONBIO,
    // FIONCLEX, FIOCLEX.
    ("ioctl", &[Test::Is(1, 0x541b)]),
    ("ioctl", &[Test::Is(1, 0x5421)]),
    ("ioctl", &[Test::Is(1, 0x5450)]),
    ("ioctl", &[Test::Is(1, 0x5451)]),
    // A thread's or a mapping's name, the parent death signal, and reads: PR_SET_PDEATHSIG,
    // PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP,
    // PR_CAPBSET_READ, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_VMA.
    ("prctl", &[Test::Is(0, 1)]),
    ("prctl", &[Test::Is(0, 2)]),
    ("prctl", &[Test::Is(0, 3)]),
    ("prctl", &[Test::Is(0, 15)]),
    ("prctl", &[Test::Is(0, 16)]),
    ("prctl", &[Test::Is(0, 21)]),
    ("prctl", &[Test::Is(0, 23)]),
    ("prctl", &[Test::Is(0, 38)]),
    ("prctl", &[Test::Is(0, 39)]),
    ("prctl", &[Test::Is(0, 0x5356_4d41)]),
    // The spec's own filter is installed after this one. One with a listener (flag 8) would need
    // that process.
    ("seccomp", &[Test::Is(0, 1), Test::Bits(1, 8, 0)]),
];

/// Calls that would leave or change the sandbox, or reach into the kernel: they fail with `EPERM`.
pub(super) const FORBIDDEN: &[&str] = &[
    // Other programs and processes.
    "execve execveat fork vfork kcmp pidfd_getfd pidfd_open pidfd_send_signal process_madvise \
     process_mrelease",
    "process_vm_readv process_vm_writev ptrace setns unshare",
    // Mounts and roots.
    "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr \
     pivot_root umount",
    "umount2",
    // Files without their path, and device nodes.
    "mknod mknodat name_to_handle_at open_by_handle_at",
    // The whole machine.
    "acct delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load quotactl \
     quotactl_fd reboot",
    "sethostname setdomainname swapoff swapon syslog vhangup",
    // Its clock.
    "adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime",
    // Parts of the kernel with many past vulnerabilities.
    "add_key bpf fanotify_init fanotify_mark io_uring_enter io_uring_register io_uring_setup \
     keyctl lookup_dcookie",
    "perf_event_open personality request_key userfaultfd vmsplice",
    // Other ids, and memory policies, which reach other processes by their number.
    "capset migrate_pages move_pages setfsgid setfsuid setgid setgroups setregid setresgid \
     setresuid setreuid setuid",
];
