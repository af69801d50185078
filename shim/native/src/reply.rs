//! Replies of a worker, and of the processes that it forks, to the host: JSON, each in one packet.
//!
//! They share one socket, which is why it carries packets: replies of several processes do not mix.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::ProgramFault;

/// Maximum number of bytes in a packet: a reply's text is cut to [`MAX_TEXT`].
const MAX_PACKET: usize = 64 * 1024;
/// Maximum number of bytes of an error's text. JSON may double it.
const MAX_TEXT: usize = 16 * 1024;

/// A reply about a task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// From the container's process: its program cannot be run.
    Refused(ProgramFault),
    /// From any process of the task: an error that libcontainer logged there.
    Logged(String),
    /// From the worker: the number of the process that was made, or why there is none. The last
    /// reply.
    Done(Result<u32, String>),
}

impl Reply {
    /// Makes the last reply; a text of any length is cut to what fits.
    pub(crate) fn done(result: Result<u32, String>) -> Self {
        Self::Done(result.map_err(cut))
    }

    /// Makes the reply about a logged error, cut likewise.
    pub(crate) fn logged(text: String) -> Self {
        Self::Logged(cut(text))
    }

    /// Sends the reply.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let packet = serde_json::to_vec(self)?;
        retry_on_intr(|| send(socket, &packet, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for the next reply; none when all other ends are closed.
    pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut packet = vec![0; MAX_PACKET];
        let (length, _) =
            retry_on_intr(|| recv(socket, packet.as_mut_slice(), RecvFlags::empty()))?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&packet[..length])?))
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// Opens a control socket: two ends that carry packets both ways, closed by an execve.
pub(crate) fn control_socket() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn reply_arrives_and_then_the_end_of_the_socket() {
        let (ours, theirs) = control_socket().unwrap();
        Reply::done(Ok(7)).send(theirs.as_fd()).unwrap();
        drop(theirs);
        let reply = Reply::receive(ours.as_fd()).unwrap().unwrap();
        assert!(matches!(reply, Reply::Done(Ok(7))));
        assert!(Reply::receive(ours.as_fd()).unwrap().is_none());
    }

    #[test]
    fn error_of_any_length_arrives() {
        let (ours, theirs) = control_socket().unwrap();
        let long = Reply::done(Err("é\n".repeat(100_000)));
        long.send(theirs.as_fd()).unwrap();
        let reply = Reply::receive(ours.as_fd()).unwrap().unwrap();
        assert!(matches!(reply,
            Reply::Done(Err(text)) if text.starts_with("é\n") && text.len() <= MAX_TEXT));
    }
}
