//! Messages between the host and the processes that it has spawned: values of serde's with
//! descriptors in them.
//!
//! A message on the socket, of a stream or of packets: the number of bytes and of descriptors, the
//! descriptors, the bytes.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Maximum number of bytes that the host accepts from a process that it has spawned: a number, or a
/// text that is cut to fit ([`truncated`]). The process may have been taken over by the bytes of a
/// guest, and the host must not allocate what it only claims to send.
pub const MAX_REPLY: usize = 64 << 10;
/// Maximum number of bytes of a text in a reply.
const MAX_TEXT: usize = 16 << 10;
/// Maximum number of bytes of a message of the host's: the setup request of a guest, with its
/// arguments and its environment.
pub const MAX_REQUEST: usize = 256 << 20;

/// Maximum number of descriptors in one packet: the kernel's limit is 253 (unix(7), `SCM_RIGHTS`).
const MAX_PACKET_DESCRIPTORS: usize = 250;

thread_local! {
    /// The descriptors of the value that this thread is writing or reading.
    static DESCRIPTORS: RefCell<Vec<Option<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// A descriptor inside a value that crosses into another process. The other process gets a
/// descriptor of its own of the same open file; this one is closed when it is dropped.
#[derive(Debug)]
pub struct WireFd(OwnedFd);

impl WireFd {
    /// Wraps `fd`.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self(fd.into())
    }

    /// Returns the descriptor.
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for WireFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for WireFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fd = self.0.try_clone().map_err(S::Error::custom)?;
        let index = DESCRIPTORS.with_borrow_mut(|descriptors| {
            descriptors.push(Some(fd));
            descriptors.len() - 1
        });
        serializer.serialize_u64(index as u64)
    }
}

impl<'de> Deserialize<'de> for WireFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u64::deserialize(deserializer)?;
        let fd = DESCRIPTORS.with_borrow_mut(|descriptors| {
            descriptors.get_mut(usize::try_from(index).ok()?)?.take()
        });
        fd.map(Self)
            .ok_or_else(|| D::Error::custom(format!("descriptor {index} did not come along")))
    }
}

/// A value and its descriptors, written.
pub struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    /// Writes `value`.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated.
    pub fn of(value: &impl Serialize) -> io::Result<Self> {
        DESCRIPTORS.take();
        let bytes = rmp_serde::to_vec(value);
        let fds = DESCRIPTORS.take().into_iter().flatten().collect();
        Ok(Self {
            bytes: bytes.map_err(io::Error::other)?,
            fds,
        })
    }

    /// Makes a message of descriptors alone.
    pub fn of_descriptors(fds: Vec<OwnedFd>) -> Self {
        Self {
            bytes: Vec::new(),
            fds,
        }
    }

    /// Adds a descriptor that is not part of the value.
    pub(crate) fn with_descriptor(mut self, descriptor: OwnedFd) -> Self {
        self.fds.push(descriptor);
        self
    }

    /// Reads the value.
    ///
    /// # Errors
    /// When it is not a `T`, or refers to a descriptor that did not come along.
    pub fn value<T: DeserializeOwned>(self) -> io::Result<T> {
        DESCRIPTORS.set(self.fds.into_iter().map(Some).collect());
        let value = rmp_serde::from_slice(&self.bytes);
        DESCRIPTORS.take();
        value.map_err(io::Error::other)
    }

    /// Reads a value without descriptors, and returns those that came with it.
    pub(crate) fn parts<T: DeserializeOwned>(self) -> io::Result<(T, Vec<OwnedFd>)> {
        let value = rmp_serde::from_slice(&self.bytes).map_err(io::Error::other)?;
        Ok((value, self.fds))
    }

    /// Returns the descriptors of a message of [`Message::of_descriptors`].
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Sends the message.
    ///
    /// # Errors
    /// When the other end of the socket is closed.
    pub fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        let mut header = [0; 16];
        header[..8].copy_from_slice(&(self.bytes.len() as u64).to_ne_bytes());
        header[8..].copy_from_slice(&(self.fds.len() as u64).to_ne_bytes());
        write_all(socket, &header)?;
        for packet in self.fds.chunks(MAX_PACKET_DESCRIPTORS) {
            let fds: Vec<BorrowedFd<'_>> = packet.iter().map(AsFd::as_fd).collect();
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PACKET_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(
                control.push(SendAncillaryMessage::ScmRights(&fds)),
                "a packet holds at most {MAX_PACKET_DESCRIPTORS} descriptors"
            );
            rustix::io::retry_on_intr(|| {
                rustix::net::sendmsg(
                    socket,
                    &[IoSlice::new(&[0])],
                    &mut control,
                    SendFlags::NOSIGNAL,
                )
            })?;
        }
        write_all(socket, &self.bytes)
    }

    /// Waits for a message of at most `max` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is closed. Descriptors are missing when this process may
    /// open no more files.
    pub fn receive(socket: impl AsFd, max: usize) -> io::Result<Self> {
        let (message, expected) = Self::receive_counted(socket.as_fd(), max)?;
        if (message.fds.len() as u64) < expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "descriptors are missing: is the limit of open files reached?",
            ));
        }
        Ok(message)
    }

    /// As [`Message::receive`], for a message with at most one descriptor, which may be missing:
    /// the socket can still be used.
    pub(crate) fn receive_available(socket: impl AsFd, max: usize) -> io::Result<Self> {
        Self::receive_counted(socket.as_fd(), max).map(|(message, _)| message)
    }

    /// Waits for a message, and for the number of descriptors that it was sent with.
    fn receive_counted(socket: BorrowedFd<'_>, max: usize) -> io::Result<(Self, u64)> {
        let mut header = [0; 16];
        read_exact(socket, &mut header)?;
        let (bytes, fds) = header.split_at(8);
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("half of 16 bytes"));
        let (bytes, expected) = (checked_length(number(bytes), max)?, number(fds));
        let mut fds = Vec::new();
        while (fds.len() as u64) < expected {
            let before = fds.len();
            receive_packet(socket, &mut fds)?;
            if fds.len() == before {
                break;
            }
        }
        let mut message = vec![0; bytes];
        read_exact(socket, &mut message)?;
        let message = Self {
            bytes: message,
            fds,
        };
        Ok((message, expected))
    }
}

/// Returns the length `claimed` by another process, unless that is more than `max`.
///
/// # Errors
/// When it is more.
pub fn checked_length(claimed: u64, max: usize) -> io::Result<usize> {
    usize::try_from(claimed)
        .ok()
        .filter(|bytes| *bytes <= max)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it announces {claimed} bytes, and at most {max} are accepted"),
            )
        })
}

/// Cuts `text` to what fits into a reply.
pub fn truncated(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

fn receive_packet(socket: BorrowedFd<'_>, fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PACKET_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(())
}

/// Writes all of `bytes`, never with SIGPIPE.
///
/// # Errors
/// When the other end is closed.
pub fn write_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written =
            rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Fills `bytes`.
///
/// # Errors
/// `UnexpectedEof` when the other end is closed.
pub fn read_exact(socket: impl AsFd, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&socket, &mut *bytes))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
