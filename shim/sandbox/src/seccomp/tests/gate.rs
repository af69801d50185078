//! Calls that pass a gate, and calls that do not.

use serde_json::json;

use super::super::{FORK, Pass, SeccompFilter};
use super::machine::{Call, Decision, decide};
use super::{call, engine, made};

/// Returns the calls of a gate, each with the pass in its last argument.
fn calls_of_gate(pass: u64) -> Vec<Call> {
    let with = |name: &str, first: [u64; 2]| call(name, [first[0], first[1], 0, 0, 0, pass]);
    vec![
        with("clone", [FORK, 0]),
        with("setsid", [0, 0]),
        with("prctl", [1, 9]),
        with("ioctl", [0, libc::TIOCSCTTY]),
        with("seccomp", [1, 0]),
    ]
}

#[test]
fn open_gate_passes_its_calls_with_the_pass_alone_and_a_closed_gate_none() {
    let nothing = made(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1 }));
    for filter in [engine(), nothing] {
        let pass = Pass::new().unwrap();
        let (gated, closed) = (filter.behind_gate(pass), SeccompFilter::closing_gate(pass));
        for call in calls_of_gate(pass.argument()) {
            assert_eq!(decide(&gated, call), Decision::Allow, "{call:?}");
            assert_eq!(
                decide(&closed, call),
                Decision::Errno(libc::EPERM),
                "{call:?}"
            );
        }
        for wrong in [0, pass.argument() ^ 1, pass.argument() ^ (1 << 63)] {
            for call in calls_of_gate(wrong) {
                assert_eq!(decide(&gated, call), decide(&filter, call), "{call:?}");
                assert_eq!(decide(&closed, call), Decision::Allow, "{call:?}");
            }
        }
        for (name, args) in [
            ("clone", [FORK | 0x1000_0000, 0]),
            ("clone", [FORK & !0x8000, 0]),
            ("prctl", [4, 1]),
            ("ioctl", [0, 0x5412]),
            ("seccomp", [2, 0]),
            ("unshare", [0, 0]),
            ("execve", [0, 0]),
        ] {
            let call = call(name, [args[0], args[1], 0, 0, 0, pass.argument()]);
            assert_eq!(decide(&gated, call), decide(&filter, call), "{call:?}");
        }
    }
}

#[test]
fn gate_does_not_open_to_another_architecture() {
    let pass = Pass::new().unwrap();
    let nothing = made(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1 }));
    for call in calls_of_gate(pass.argument()) {
        let foreign = Call {
            arch: 0x4000_0003,
            ..call
        };
        assert_ne!(
            decide(&nothing.behind_gate(pass), foreign),
            Decision::Allow,
            "{call:?}"
        );
    }
}

#[test]
fn kernel_applies_the_gate() {
    let pass = Pass::new().unwrap();
    let nothing = made(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["prctl"],
            "action": "SCMP_ACT_ERRNO" }] }),
    );
    let death_signal = |last: u64| {
        #[expect(unsafe_code, reason = "the safe wrapper has no last argument")]
        // SAFETY: PR_SET_PDEATHSIG takes a number, and 0 clears the signal.
        let result = unsafe {
            libc::syscall(
                libc::SYS_prctl,
                libc::PR_SET_PDEATHSIG,
                0_u64,
                0_u64,
                0_u64,
                0_u64,
                last,
            )
        };
        result == 0
    };
    let (with, without, closed) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            nothing.behind_gate(pass).install().unwrap();
            let open = (death_signal(pass.argument()), death_signal(0));
            SeccompFilter::closing_gate(pass)
                .install_with(pass)
                .unwrap();
            (open.0, open.1, death_signal(pass.argument()))
        });
        thread.join().unwrap()
    });
    assert_eq!((with, without, closed), (true, false, false));
}
