//! What the host makes of a process that answers what it likes: the bytes of a guest may have taken
//! it over.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, poll};

use super::pending::Stage;
use super::*;
use crate::child::orders::Answer;
use crate::wire::{Arrived, Inbox, MAX_REPLY, send_with};

/// What the host makes of these bytes, after which the process is gone.
fn heard(claimed: u64, bytes: &[u8]) -> io::Result<Answer> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    let saying = std::thread::spawn(move || {
        theirs.write_all(&claimed.to_ne_bytes()).unwrap();
        // A host that does not listen so far has closed its end.
        let _ = theirs.write_all(&bytes);
    });
    let answer = wait(&OwnedFd::from(ours))
        .and_then(|(bytes, _)| rmp_serde::from_slice(&bytes).map_err(io::Error::other));
    saying.join().unwrap();
    answer
}

/// Waits for an answer. The process is read as it is in use: without waiting, again and again.
fn wait(ours: &OwnedFd) -> io::Result<Arrived> {
    let mut inbox = Inbox::default();
    loop {
        if let Some(arrived) = inbox.receive(ours)? {
            return Ok(arrived);
        }
        poll(&mut [PollFd::new(ours, PollFlags::IN)], None)?;
    }
}

fn said(answer: &Answer) -> (u64, Vec<u8>) {
    let bytes = rmp_serde::to_vec(answer).unwrap();
    (bytes.len() as u64, bytes)
}

#[test]
fn an_answer_is_heard() {
    let (length, bytes) = said(&Answer::Ready(Some("a guest".to_owned())));
    assert!(
        matches!(heard(length, &bytes).unwrap(), Answer::Ready(Some(told)) if told == "a guest")
    );
    let (length, bytes) = said(&Answer::Refused("no such function".to_owned()));
    assert!(
        matches!(heard(length, &bytes).unwrap(), Answer::Refused(text) if text == "no such \
                                                            function")
    );
}

#[test]
fn a_process_that_claims_to_have_much_to_say_takes_no_memory_of_the_host() {
    for claimed in [MAX_REPLY as u64 + 1, 1 << 47, u64::MAX] {
        let error = heard(claimed, &[0; 64]).err().unwrap();
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidData,
            "{claimed}: {error}"
        );
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    for bytes in [&b""[..], b"\xc1", &[0xff; 100], &[0x91; 10_000]] {
        assert!(heard(bytes.len() as u64, bytes).is_err(), "{bytes:?}");
    }
    let (length, bytes) = said(&Answer::Refused("cut".to_owned()));
    assert_eq!(
        heard(length, &bytes[..bytes.len() - 1])
            .err()
            .unwrap()
            .kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_reason_of_any_length_is_heard() {
    let long = "x".repeat(1 << 20);
    for answer in [
        Answer::Ready(Some(long.clone())),
        Answer::Refused(long.clone()),
        Answer::Failed(Failure::of(long.clone(), long)),
    ] {
        let (length, bytes) = said(&answer.fitting());
        heard(length, &bytes).unwrap();
    }
}

#[test]
fn descriptor_of_an_answer_arrives_and_more_of_them_are_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (length, bytes) = said(&Answer::Entered);
    let frame = [&length.to_ne_bytes()[..], &bytes].concat();
    // In two parts, each with a descriptor.
    let [first, second] = [(); 2].map(|()| OwnedFd::from(tempfile::tempfile().unwrap()));
    send_with(&theirs, &frame[..3], Some(&first)).unwrap();
    send_with(&theirs, &frame[3..], Some(&second)).unwrap();
    let (arrived, descriptor) = wait(&OwnedFd::from(ours)).unwrap();
    assert_eq!(arrived, bytes);
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
    assert_eq!(inode(&descriptor.unwrap()), inode(&first));
}

/// A process that says `frames` to the host, each an answer, and lives on.
fn pending(stage: Stage, answers: &[Answer]) -> (Pending, OwnedFd, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    for answer in answers {
        let (length, bytes) = said(answer);
        send_with(&theirs, &[&length.to_ne_bytes()[..], &bytes].concat(), None).unwrap();
    }
    let watched = pidfd.try_clone().unwrap();
    let pending = Pending::new(
        "c1".to_owned(),
        ours.into(),
        Unready::new(process_forker::Child {
            pid: child.id(),
            pidfd,
        }),
        Ok(()),
    );
    // Its socket stays open, as that of a process that was taken over.
    std::mem::forget(theirs);
    (
        if stage == Stage::Outside {
            pending.outside()
        } else {
            pending
        },
        watched,
        child,
    )
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
    rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options).is_err()
}

#[test]
fn pending_process_that_says_what_does_not_fit_its_stage_is_killed() {
    let itself = std::process::id();
    for (stage, answer) in [
        // Before the process is born that is to run, it cannot be ready.
        (Stage::Outside, Answer::Ready(None)),
        (Stage::Outside, Answer::Refused(String::new())),
        (Stage::Outside, Answer::Entered),
        // No process of another container, nor one that does not exist.
        (Stage::Outside, Answer::Born(itself)),
        (Stage::Outside, Answer::Born(1)),
        (Stage::Outside, Answer::Born(0)),
        (Stage::Outside, Answer::Born(u32::MAX)),
        (Stage::Own, Answer::Born(itself)),
    ] {
        let (pending, pidfd, _child) = pending(stage, &[answer]);
        let error = pending.advance().unwrap_err();
        assert!(
            matches!(error, SandboxError::Died { .. }),
            "{stage:?}: {error}"
        );
        assert!(has_ended(&pidfd), "{stage:?}: {error}");
    }
}

#[test]
fn pending_process_is_killed_when_time_is_up() {
    let (pending, pidfd, _child) = pending(Stage::Own, &[Answer::Entered]);
    let error = pending.wait(Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, SandboxError::TimedOut { .. }), "{error}");
    assert!(has_ended(&pidfd));
}

#[test]
fn pending_process_is_a_guest_once_it_is_ready() {
    let (pending, pidfd, _child) = pending(
        Stage::Own,
        &[Answer::Entered, Answer::Ready(Some("told".to_owned()))],
    );
    let guest = pending.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(guest.told(), Some("told"));
    guest.end();
    assert!(has_ended(&pidfd));
}
