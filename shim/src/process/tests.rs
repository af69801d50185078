//! How processes are signalled, waited for and given up; with children of the test's own.

use std::process::{Child, Command};

use rustix::process::{Pid, PidfdFlags};

use super::*;

fn sleeper() -> (Child, OwnedFd) {
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    (
        child,
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap(),
    )
}

/// Somebody has waited for it: its number is free.
fn is_reaped(pidfd: &OwnedFd) -> bool {
    rustix::process::waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    )
    .is_err()
}

fn process() -> Process {
    Process::new("c1", "", Streams::default())
}

#[test]
fn a_process_that_cannot_be_claimed_is_ended_and_waited_for() {
    let (_child, pidfd) = sleeper();
    let refused = claim_by(pidfd.as_fd(), |_| Err(io::Error::from(Errno::MFILE)));
    assert!(
        matches!(refused, Err(CreateError::Descriptors(_))),
        "{refused:?}"
    );
    assert!(is_reaped(&pidfd));
}

#[tokio::test]
async fn a_process_that_cannot_be_watched_has_ended_before_its_end_is_told() {
    let (_child, pidfd) = sleeper();
    let pidfd = Arc::new(pidfd);
    // The kernel watches a descriptor once.
    let _watched = readable(Arc::clone(&pidfd)).unwrap();
    assert_eq!(end_of(Arc::clone(&pidfd)).await.unwrap().status, 137);
    assert!(is_reaped(&pidfd));
}

#[tokio::test]
async fn a_signal_that_stops_a_systemd_in_a_container_is_sent() {
    // SIGRTMIN+3, as images name it in STOPSIGNAL.
    let stop = signal(37).unwrap();
    let (child, pidfd) = sleeper();
    let process = process();
    process.exists(child.id(), Some(claim(pidfd.as_fd()).unwrap()), None);
    process.signal(stop).unwrap();
    assert_eq!(end_of(Arc::new(pidfd)).await.unwrap().status, 128 + 37);
    // It is gone, which is what the next one wants.
    process.signal(stop).unwrap();
}

#[test]
fn a_number_that_is_no_signal_is_refused_and_none_overflows_an_exit_code() {
    for number in [0, 32, 65, 1 << 31, u32::MAX] {
        assert!(
            matches!(signal(number), Err(TaskError::NoSignal { signal }) if signal == number),
            "{number}"
        );
    }
    assert_eq!(Exit::by_signal(signal(64).unwrap()).status, 192);
    assert!(Exit::by_signal(Signal::KILL).is_kill() && !Exit::by_signal(Signal::TERM).is_kill());
}

#[test]
fn who_freezes_a_process_sees_that_it_was_killed_meanwhile() {
    let process = process();
    process.did(Verb::Start);
    // The kill decides while the freezing is under way, and signals; neither knows of the other.
    assert_eq!(
        (
            process.allows(Verb::Pause).unwrap(),
            process.allows(Verb::Kill).unwrap()
        ),
        (Verdict::Do, Verdict::Do)
    );
    process.is_doomed();
    process.did(Verb::Pause);
    assert!(process.was_doomed());
    // One that is killed after it was frozen is thawed by the kill.
    assert_eq!(process.allows(Verb::Kill).unwrap(), Verdict::DoAndThaw);
}
