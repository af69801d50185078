//! Replies of processes that are set up: read as they arrive, since such a process may be stopped,
//! or taken over by the bytes of its guest.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use process_forker::WireFd;
use process_forker::wire::checked_length;
pub(crate) use process_forker::wire::{
    MAX_REPLY, MAX_REQUEST, Message, read_exact, truncated, write_all,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Writes all of `bytes`, and sends a descriptor with the first of them.
pub(crate) fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: Option<&OwnedFd>,
) -> io::Result<()> {
    let Some(descriptor) = descriptor else {
        return write_all(socket, bytes);
    };
    let fds = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "there is room for one descriptor"
    );
    let written = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    write_all(socket, &bytes[written..])
}

/// The part of a process's next reply that has arrived. A reply is a length, that many bytes, and
/// at most one descriptor. No call here blocks.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

/// A reply as it arrived.
pub(crate) type Arrived = (Vec<u8>, Option<OwnedFd>);

impl Inbox {
    /// Maximum number of bytes that are read at a time.
    const MAX_CHUNK: usize = 4096;
    const LENGTH: usize = 8;

    /// Reads what has arrived; returns none while the reply is not complete. `UnexpectedEof` when
    /// the other end is closed.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<Option<Arrived>> {
        loop {
            let expected = match self.bytes.get(..Self::LENGTH) {
                None => Self::LENGTH,
                Some(length) => {
                    let claimed = u64::from_ne_bytes(length.try_into().expect("these are 8 bytes"));
                    let expected = Self::LENGTH + checked_length(claimed, MAX_REPLY)?;
                    if self.bytes.len() == expected {
                        let reply = std::mem::take(self);
                        return Ok(Some((
                            reply.bytes[Self::LENGTH..].to_vec(),
                            reply.descriptor,
                        )));
                    }
                    expected
                }
            };
            let mut chunk = [0; Self::MAX_CHUNK];
            let wanted = (expected - self.bytes.len()).min(Self::MAX_CHUNK);
            match self.read(socket.as_fd(), &mut chunk[..wanted]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads some bytes. Of the descriptors that come with them the first one is kept; the process
    /// may send any number.
    fn read(&mut self, socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut *bytes)],
                &mut control,
                flags,
            )
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    self.descriptor.get_or_insert(descriptor);
                }
            }
        }
        Ok(received.bytes)
    }
}
