//! Tests of the host against a process that sends any replies: the bytes of a guest may have taken
//! it over.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, poll};

use super::pending::Stage;
use super::*;
use crate::child::messages::SetupReply;
use crate::wire::{Arrived, Inbox, MAX_REPLY, send_with};
use crate::workload::Refusal;

/// The reply that the host reads from these bytes, after which the process is gone.
fn received(claimed: u64, bytes: &[u8]) -> io::Result<SetupReply> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    let sending = std::thread::spawn(move || {
        theirs.write_all(&claimed.to_ne_bytes()).unwrap();
        // A host that refuses the length has closed its end.
        let _ = theirs.write_all(&bytes);
    });
    let reply = wait(&OwnedFd::from(ours))
        .and_then(|(bytes, _)| rmp_serde::from_slice(&bytes).map_err(io::Error::other));
    sending.join().unwrap();
    reply
}

/// Waits for a reply, by reads that do not block as in use.
fn wait(ours: &OwnedFd) -> io::Result<Arrived> {
    let mut inbox = Inbox::default();
    loop {
        if let Some(arrived) = inbox.receive(ours)? {
            return Ok(arrived);
        }
        poll(&mut [PollFd::new(ours, PollFlags::IN)], None)?;
    }
}

fn written(reply: &SetupReply) -> (u64, Vec<u8>) {
    let bytes = rmp_serde::to_vec(reply).unwrap();
    (bytes.len() as u64, bytes)
}

#[test]
fn reply_is_received() {
    let (length, bytes) = written(&SetupReply::Ready);
    assert!(matches!(
        received(length, &bytes).unwrap(),
        SetupReply::Ready
    ));
    let refusal = Refusal::Guest("no such function".to_owned());
    let (length, bytes) = written(&SetupReply::Refused(refusal.clone()));
    let received = received(length, &bytes).unwrap();
    assert!(matches!(received, SetupReply::Refused(received) if received == refusal));
}

#[test]
fn reply_that_announces_too_many_bytes_takes_no_memory_of_the_host() {
    for claimed in [MAX_REPLY as u64 + 1, 1 << 47, u64::MAX] {
        let error = received(claimed, &[0; 64]).err().unwrap();
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidData,
            "{claimed}: {error}"
        );
    }
}

#[test]
fn reply_that_is_not_valid_is_an_error() {
    for bytes in [&b""[..], b"\xc1", &[0xff; 100], &[0x91; 10_000]] {
        assert!(received(bytes.len() as u64, bytes).is_err(), "{bytes:?}");
    }
    let (length, bytes) = written(&SetupReply::Refused(Refusal::Guest("cut".to_owned())));
    assert_eq!(
        received(length, &bytes[..bytes.len() - 1])
            .err()
            .unwrap()
            .kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn reply_with_a_text_of_any_length_is_received() {
    let long = "x".repeat(1 << 20);
    for reply in [
        SetupReply::Refused(Refusal::Guest(long.clone())),
        SetupReply::Refused(Refusal::Code(long.clone())),
        SetupReply::Failed(Failure::of(long.clone(), long)),
    ] {
        let (length, bytes) = written(&reply.truncated());
        received(length, &bytes).unwrap();
    }
}

#[test]
fn descriptor_of_a_reply_arrives_and_further_ones_are_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (length, bytes) = written(&SetupReply::Entered);
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

/// A process that has sent `replies` to the host, and lives on.
fn pending(stage: Stage, replies: &[SetupReply]) -> (Pending, OwnedFd, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    for reply in replies {
        let (length, bytes) = written(reply);
        send_with(&theirs, &[&length.to_ne_bytes()[..], &bytes].concat(), None).unwrap();
    }
    let watched = pidfd.try_clone().unwrap();
    let pending = Pending::new(
        "c1".to_owned(),
        ours.into(),
        ChildGuard::new(process_forker::Child {
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
fn pending_process_that_sends_a_reply_of_another_stage_is_killed() {
    let itself = std::process::id();
    for (stage, reply) in [
        // It cannot be ready before it has forked the process that is to run.
        (Stage::Outside, SetupReply::Ready),
        (
            Stage::Outside,
            SetupReply::Refused(Refusal::Guest(String::new())),
        ),
        (Stage::Outside, SetupReply::Entered),
        // No process of another container, nor one that does not exist.
        (Stage::Outside, SetupReply::Forked(itself)),
        (Stage::Outside, SetupReply::Forked(1)),
        (Stage::Outside, SetupReply::Forked(0)),
        (Stage::Outside, SetupReply::Forked(u32::MAX)),
        (Stage::Own, SetupReply::Forked(itself)),
    ] {
        let (pending, pidfd, _child) = pending(stage, &[reply]);
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
    let (pending, pidfd, _child) = pending(Stage::Own, &[SetupReply::Entered]);
    let error = pending.wait(Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, SandboxError::TimedOut { .. }), "{error}");
    assert!(has_ended(&pidfd));
}

#[test]
fn pending_process_is_a_guest_once_it_is_ready() {
    let (pending, pidfd, _child) = pending(Stage::Own, &[SetupReply::Entered, SetupReply::Ready]);
    let guest = pending.wait(Duration::from_secs(20)).unwrap();
    guest.end();
    assert!(has_ended(&pidfd));
}
