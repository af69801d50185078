//! Decisions of the filters: in an emulated BPF machine (`tests/machine.rs`), and in the kernel.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::calls::{ALLOWED, ALLOWED_IF, FORBIDDEN, Test};
use super::engine::names;
use super::*;
use crate::plan::WorkloadKind;

mod gate;
mod machine;

use machine::{Call, Decision, decide};

fn engine() -> SeccompFilter {
    FilterCache::new().unwrap().engine()
}

fn profile(says: Value) -> LinuxSeccomp {
    serde_json::from_value(says).unwrap()
}

fn made(says: Value) -> SeccompFilter {
    FilterCache::new()
        .unwrap()
        .profile(&profile(says), WorkloadKind::Guest)
        .unwrap()
}

/// Returns the number of a system call; none if this machine has no such call.
fn number(name: &str) -> Option<i32> {
    ScmpSyscall::from_name(name)
        .ok()
        .map(i32::from)
        .filter(|number| *number >= 0)
}

fn call(name: &str, args: [u64; 6]) -> Call {
    Call::native(number(name).unwrap(), args)
}

/// Runs `work` in a thread of its own under `filters`, and returns its result.
fn confined<T: Send>(filters: &[SeccompFilter], work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            for filter in filters {
                filter.install().unwrap();
            }
            work()
        });
        thread.join().unwrap()
    })
}

/// Makes a system call with arguments that the kernel itself would refuse or that have no effect,
/// and returns its error.
fn errno(name: &str) -> Option<i32> {
    let number = libc::c_long::from(number(name)?);
    let none: libc::c_long = 0;
    #[expect(unsafe_code, reason = "the calls that are refused have no wrappers")]
    // SAFETY: every argument is zero, so the kernel gets no memory of ours. The calls that would
    // act without arguments (fork, vhangup) are those that the filter stops, which is the subject
    // of the test.
    let result = unsafe { libc::syscall(number, none, none, none, none, none, none) };
    (result == -1).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
}

#[test]
fn calls_that_an_engine_needs_pass() {
    let filter = engine();
    for name in names(ALLOWED) {
        let Some(number) = number(name) else { continue };
        assert_eq!(
            decide(&filter, Call::native(number, [0; 6])),
            Decision::Allow,
            "{name}"
        );
        assert_eq!(
            decide(&filter, Call::native(number, [u64::MAX; 6])),
            Decision::Allow,
            "{name}"
        );
    }
    for (name, tests) in ALLOWED_IF {
        let mut args = [0; 6];
        for test in *tests {
            let (Test::Is(index, value) | Test::Bits(index, _, value)) = *test;
            args[index as usize] = value;
        }
        assert_eq!(
            decide(&filter, call(name, args)),
            Decision::Allow,
            "{name} {tests:?}"
        );
    }
}

#[test]
fn unnamed_call_is_missing() {
    let filter = engine();
    let named: Vec<_> = names(ALLOWED)
        .chain(names(FORBIDDEN))
        .chain(ALLOWED_IF.iter().map(|(name, _)| *name))
        .filter_map(number)
        .collect();
    for number in (0..1000).filter(|number| !named.contains(number)) {
        assert_eq!(
            decide(&filter, Call::native(number, [0; 6])),
            Decision::Errno(libc::ENOSYS),
            "{number}"
        );
    }
    assert_eq!(
        decide(&filter, call("clone3", [0; 6])),
        Decision::Errno(libc::ENOSYS),
        "the C library then takes clone"
    );
}

#[test]
fn call_that_would_leave_or_change_the_sandbox_is_refused() {
    let filter = engine();
    for name in names(FORBIDDEN) {
        let Some(number) = number(name) else { continue };
        assert_eq!(
            decide(&filter, Call::native(number, [0; 6])),
            Decision::Errno(libc::EPERM),
            "{name}"
        );
    }
    for name in [
        "execve",
        "execveat",
        "ptrace",
        "mount",
        "umount2",
        "setns",
        "unshare",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "process_vm_readv",
        "process_vm_writev",
        "userfaultfd",
        "perf_event_open",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "open_by_handle_at",
        "name_to_handle_at",
        "pivot_root",
        "chroot",
        "move_mount",
        "open_tree",
        "fsopen",
        "pidfd_getfd",
        "mknodat",
        "setuid",
        "capset",
    ] {
        assert!(
            names(FORBIDDEN).any(|forbidden| forbidden == name),
            "{name} is not on the list"
        );
    }
}

#[test]
fn conditions_apply_to_the_right_arguments() {
    let filter = engine();
    let decided = |name: &str, args: [u64; 6]| decide(&filter, call(name, args)) == Decision::Allow;
    // The C library's flags for a thread; a process; threads in other namespaces.
    assert!(decided("clone", [0x003d_0f00, 0, 0, 0, 0, 0]));
    assert!(!decided("clone", [0x0120_0011, 0, 0, 0, 0, 0]));
    for namespace in [
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000_u64,
    ] {
        assert!(
            !decided("clone", [0x003d_0f00 | namespace, 0, 0, 0, 0, 0]),
            "{namespace:#x}"
        );
    }
    for (family, protocol, passes) in [
        (1, 0, true),
        (2, 6, true),
        (10, 17, true),
        (16, 0, true),
        (16, 12, false),
        (17, 0, false),
        (38, 0, false),
        (40, 0, false),
    ] {
        assert_eq!(
            decided("socket", [family, 1, protocol, 0, 0, 0]),
            passes,
            "{family} {protocol}"
        );
    }
    assert!(!decided("ioctl", [0, 0x5412, 0, 0, 0, 0]), "TIOCSTI");
    assert!(!decided("ioctl", [0, 0x541d, 0, 0, 0, 0]), "TIOCCONS");
    assert!(!decided("prctl", [35, 0, 0, 0, 0, 0]), "PR_SET_MM");
    assert!(!decided("prctl", [4, 1, 0, 0, 0, 0]), "PR_SET_DUMPABLE");
    assert!(!decided("prlimit64", [1, 0, 0, 0, 0, 0]), "another process");
    assert!(!decided("seccomp", [1, 8, 0, 0, 0, 0]), "a listener");
}

#[test]
fn call_of_another_architecture_kills_the_process() {
    let filter = engine();
    let getpid = number("getpid").unwrap();
    let ours = Call::native(getpid, [0; 6]);
    assert_eq!(
        decide(
            &filter,
            Call {
                arch: 0x4000_0003,
                ..ours
            }
        ),
        Decision::Kill
    );
    // x32: the machine's own architecture, with a bit in the number.
    #[cfg(target_arch = "x86_64")]
    assert_eq!(
        decide(&filter, Call::native(getpid | 0x4000_0000, [0; 6])),
        Decision::Kill
    );
}

#[test]
fn kernel_refuses_the_forbidden_calls() {
    let engine = engine();
    let told = confined(&[engine], || {
        names(FORBIDDEN)
            .map(|name| (name, errno(name)))
            .collect::<Vec<_>>()
    });
    for (name, error) in told {
        if number(name).is_some() {
            assert_eq!(error, Some(libc::EPERM), "{name}");
        }
    }
}

#[test]
fn files_threads_sockets_and_names_work_under_the_engines_filter() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine();
    confined(&[engine], || {
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        std::fs::write(&first, b"text").unwrap();
        std::fs::rename(&first, &second).unwrap();
        assert_eq!(std::fs::read(&second).unwrap(), b"text");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::remove_file(&second).unwrap();

        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        std::thread::sleep(Duration::from_millis(1));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!("localhost:80".to_socket_addrs().unwrap().count() > 0);
        assert!(
            std::process::Command::new("/bin/true").status().is_err(),
            "no other process, and no other program"
        );
    });
}

/// Returns a profile of the shape that container runtimes use for `RuntimeDefault`.
fn runtime_default() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["read", "write", "a_call_of_tomorrow", "exit_group"],
            "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0,
             "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8,
                "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1,
                "op": "SCMP_CMP_EQ"}]},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ],
    })
}

#[test]
fn profile_of_the_spec_applies() {
    let filter = made(runtime_default());
    let decided = |name: &str, args: [u64; 6]| decide(&filter, call(name, args));
    let refused = Decision::Errno(libc::EPERM);
    assert_eq!(decided("read", [0; 6]), Decision::Allow);
    assert_eq!(decided("open", [0; 6]), refused, "the default");
    assert_eq!(
        decided("mkdir", [0; 6]),
        refused,
        "a rule with the default action"
    );
    assert_eq!(decided("clone3", [0; 6]), Decision::Errno(libc::ENOSYS));
    assert_eq!(
        decided("clone", [0x0120_0011, 0, 0, 0, 0, 0]),
        Decision::Allow,
        "fork: no namespaces"
    );
    assert_eq!(
        decided("clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        refused,
        "a user namespace"
    );
    let personality: Vec<_> = [0, 8, 9]
        .map(|value| decided("personality", [value, 0, 0, 0, 0, 0]))
        .into();
    assert_eq!(
        personality,
        [Decision::Allow, Decision::Allow, refused],
        "two conditions on one argument: either"
    );
    assert_eq!(decided("socket", [2, 1, 0, 0, 0, 0]), Decision::Allow);
    assert_eq!(
        decided("socket", [2, 2, 0, 0, 0, 0]),
        refused,
        "conditions on several arguments: all"
    );
    // libseccomp's verdict on an architecture that a profile does not have, as runc gets it.
    assert_eq!(
        decide(
            &filter,
            Call {
                arch: 0x4000_0003,
                ..call("read", [0; 6])
            }
        ),
        Decision::KillThread
    );
}

#[test]
fn linux_program_may_be_of_every_architecture_of_its_profile() {
    let profile = profile(runtime_default());
    let filter = FilterCache::new()
        .unwrap()
        .profile(&profile, WorkloadKind::Native)
        .unwrap();
    // read(2) is number 3 of 32-bit x86.
    assert_eq!(
        decide(
            &filter,
            Call {
                number: 3,
                arch: 0x4000_0003,
                args: [0; 6]
            }
        ),
        Decision::Allow
    );
}

#[test]
fn every_action_and_comparison_is_compiled() {
    let rule = |action: &str, op: &str| {
        made(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["dup2"], "action": action, "errnoRet": 7, "args": [{"index": 1, "value": 5,
            "op": op}]}]}))
    };
    for (action, decision) in [
        ("SCMP_ACT_KILL", Decision::KillThread),
        ("SCMP_ACT_KILL_THREAD", Decision::KillThread),
        ("SCMP_ACT_KILL_PROCESS", Decision::Kill),
        ("SCMP_ACT_TRAP", Decision::Trap),
        ("SCMP_ACT_ERRNO", Decision::Errno(7)),
        ("SCMP_ACT_TRACE", Decision::Trace(7)),
        ("SCMP_ACT_LOG", Decision::Log),
    ] {
        assert_eq!(
            decide(
                &rule(action, "SCMP_CMP_EQ"),
                call("dup2", [0, 5, 0, 0, 0, 0])
            ),
            decision,
            "{action}"
        );
    }
    for (op, holds) in [
        ("SCMP_CMP_NE", [true, false, true]),
        ("SCMP_CMP_LT", [true, false, false]),
        ("SCMP_CMP_LE", [true, true, false]),
        ("SCMP_CMP_EQ", [false, true, false]),
        ("SCMP_CMP_GE", [false, true, true]),
        ("SCMP_CMP_GT", [false, false, true]),
    ] {
        let filter = rule("SCMP_ACT_ERRNO", op);
        let held = [4, 5, 6].map(|value| {
            decide(&filter, call("dup2", [0, value, 0, 0, 0, 0])) == Decision::Errno(7)
        });
        assert_eq!(held, holds, "{op}");
    }
}

#[test]
fn unsupported_part_of_a_profile_is_named() {
    let filters = FilterCache::new().unwrap();
    let refused = |says: Value| {
        filters
            .profile(&profile(says), WorkloadKind::Guest)
            .unwrap_err()
            .to_string()
    };
    let argument = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let says = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["dup2"],
        "action": "SCMP_ACT_KILL", "args": argument}]});
    assert!(refused(says).contains("dup2"));
    assert!(
        refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 100_000}))
            .contains("default action")
    );
}

#[test]
fn both_filters_apply_together() {
    let spec = made(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["sysinfo"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7}]}),
    );
    let told = confined(&[engine(), spec], || {
        ["sysinfo", "unshare", "getpid", "clone3"].map(errno)
    });
    assert_eq!(told, [Some(7), Some(libc::EPERM), None, Some(libc::ENOSYS)]);
}

#[test]
fn profile_is_compiled_once_and_the_most_recent_ones_are_cached() {
    let filters = FilterCache::new().unwrap();
    let numbered =
        |errno: u32| profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno}));
    let first = filters.profile(&numbered(1), WorkloadKind::Guest).unwrap();
    for errno in 2..40 {
        filters
            .profile(&numbered(errno), WorkloadKind::Guest)
            .unwrap();
        // Used again and again, so it is not evicted.
        assert_eq!(
            filters.profile(&numbered(1), WorkloadKind::Guest).unwrap(),
            first
        );
    }
    assert_eq!(filters.len(), 16);
    assert!(
        filters.contains(&numbered(1))
            && filters.contains(&numbered(39))
            && !filters.contains(&numbered(2))
    );
}

#[test]
fn filter_survives_serialization() {
    let program = engine();
    let text = serde_json::to_vec(&program).unwrap();
    assert_eq!(
        serde_json::from_slice::<SeccompFilter>(&text).unwrap(),
        program
    );
    assert!(
        program.len() > 100 && program.len() < 4096,
        "{}: the kernel takes 4096 instructions",
        program.len()
    );
}

#[test]
fn filter_without_instructions_is_refused_by_the_kernel() {
    let empty = SeccompFilter::new(0, Vec::new());
    assert!(empty.is_empty());
    let refused = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        empty.install().unwrap_err().raw_os_error()
    });
    assert_eq!(refused.join().unwrap(), Some(libc::EINVAL));
}
