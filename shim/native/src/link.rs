//! Messages between host, zygote and workers: JSON in packets, descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::ProgramFault;

/// No packet is longer: a task names files, and an answer's text is cut to [`LONGEST_TEXT`].
const LONGEST: usize = 64 * 1024;
/// Of an error's text. JSON may double it.
const LONGEST_TEXT: usize = 16 * 1024;
/// A task's way back and its three standard streams.
const MOST_DESCRIPTORS: usize = 4;

/// What comes back from a task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// From the zygote: this worker has the task.
    Hatched(u32),
    /// From the zygote: no worker could be forked.
    NotHatched(String),
    /// From the container's process: what it is to run cannot be run.
    Refused(ProgramFault),
    /// From any process of the task: an error that libcontainer logged there.
    Complaint(String),
    /// From the worker: the number of the process that was made, or why there is none. The last
    /// message.
    Done(Result<u32, String>),
}

impl Message {
    /// The last message; a text of any length is cut to what fits.
    pub(crate) fn done(result: Result<u32, String>) -> Self {
        Self::Done(result.map_err(cut))
    }

    /// An error that was logged; cut likewise.
    pub(crate) fn complaint(text: String) -> Self {
        Self::Complaint(cut(text))
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

/// Two ends that carry packets both ways; neither survives an execve.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends `value` and copies of `descriptors`.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let packet = serde_json::to_vec(value)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "more descriptors than a packet carries",
        ));
    }
    retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(&packet)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// The next packet and its descriptors, which do not survive an execve; none when all other ends
/// are closed.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut packet = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut packet)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((
        serde_json::from_slice(&packet[..received.bytes])?,
        descriptors,
    )))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_packet_arrives_with_its_descriptors_and_then_the_end() {
        let (ours, theirs) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(
            ours.as_fd(),
            &Message::Hatched(7),
            &[file.as_fd(), file.as_fd()],
        )
        .unwrap();
        drop(ours);
        let (message, descriptors) = receive::<Message>(theirs.as_fd()).unwrap().unwrap();
        assert!(matches!(message, Message::Hatched(7)));
        assert_eq!(descriptors.len(), 2);
        assert!(receive::<Message>(theirs.as_fd()).unwrap().is_none());
    }

    #[test]
    fn an_error_of_any_length_arrives() {
        let (ours, theirs) = pair().unwrap();
        send(
            ours.as_fd(),
            &Message::done(Err("é\n".repeat(100_000))),
            &[],
        )
        .unwrap();
        let (message, _) = receive::<Message>(theirs.as_fd()).unwrap().unwrap();
        assert!(matches!(message,
                Message::Done(Err(text)) if text.starts_with("é\n") && text.len() <= LONGEST_TEXT));
    }
}
