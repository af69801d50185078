//! Signals, exits and discarded processes; with children of the test's own.

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

/// Returns whether the process was reaped.
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
fn process_with_an_unusable_pidfd_is_killed_and_reaped() {
    let (_child, pidfd) = sleeper();
    let refused = share_by(pidfd.as_fd(), |_| Err(io::Error::from(Errno::MFILE)));
    assert!(
        matches!(refused, Err(CreateError::Descriptors(_))),
        "{refused:?}"
    );
    assert!(is_reaped(&pidfd));
}

#[tokio::test]
async fn process_that_cannot_be_watched_is_killed_before_its_exit_is_published() {
    let (_child, pidfd) = sleeper();
    let pidfd = Arc::new(pidfd);
    // The kernel watches a descriptor only once.
    let _watched = readable(Arc::clone(&pidfd)).unwrap();
    assert_eq!(wait_for_exit(Arc::clone(&pidfd)).await.unwrap().status, 137);
    assert!(is_reaped(&pidfd));
}

#[tokio::test]
async fn real_time_signal_of_an_image_is_sent() {
    // SIGRTMIN+3, as images name it in STOPSIGNAL.
    let stop = signal(37).unwrap();
    let (child, pidfd) = sleeper();
    let process = process();
    process.attach(child.id(), Some(share_pidfd(pidfd.as_fd()).unwrap()), None);
    process.signal(stop).unwrap();
    assert_eq!(
        wait_for_exit(Arc::new(pidfd)).await.unwrap().status,
        128 + 37
    );
    // It has exited, and another signal is not an error.
    process.signal(stop).unwrap();
}

#[test]
fn invalid_signal_is_refused_and_no_signal_overflows_an_exit_code() {
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
fn pause_sees_a_kill_that_came_meanwhile() {
    let process = process();
    process.advance(Verb::Start);
    // The kill is checked and sent while the pause is under way.
    assert_eq!(
        (
            process.check(Verb::Pause).unwrap(),
            process.check(Verb::Kill).unwrap()
        ),
        (Verdict::Do, Verdict::Do)
    );
    process.mark_kill_pending();
    process.advance(Verb::Pause);
    assert!(process.is_kill_pending());
    // A kill after the pause thaws the process itself.
    assert_eq!(process.check(Verb::Kill).unwrap(), Verdict::DoAndThaw);
}
