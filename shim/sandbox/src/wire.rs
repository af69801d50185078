//! Messages between the host, the zygote and its forks: values of serde's with descriptors in them.
//!
//! One message on the socket: how many bytes and descriptors follow, the descriptors, the bytes.

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

/// Most bytes that the host takes from a process that it has forked: a number, or a text that is
/// cut to fit ([`fitting`]). The process may have been taken over by the bytes of a guest, and the
/// host must not make room for what it only claims to send.
pub(crate) const LONGEST_ANSWER: usize = 64 << 10;
/// Most bytes of a text in an answer.
const LONGEST_TEXT: usize = 16 << 10;
/// Most bytes of a message of the host's: the orders for a guest, with its arguments and its
/// environment.
pub(crate) const LONGEST_ORDERS: usize = 256 << 20;

/// Most descriptors in one packet: the kernel's limit is 253 (unix(7), `SCM_RIGHTS`).
const PACKET: usize = 250;

thread_local! {
    /// The descriptors of the value that this thread is writing or reading.
    static PASSENGERS: RefCell<Vec<Option<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// A descriptor inside a value that crosses into another process of ours.
///
/// The other process gets a descriptor of its own of the same open file; this one is closed when it
/// is dropped.
#[derive(Debug)]
pub struct WireFd(OwnedFd);

impl WireFd {
    /// Takes `fd` along.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self(fd.into())
    }

    /// The descriptor.
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
        let seat = PASSENGERS.with_borrow_mut(|passengers| {
            passengers.push(Some(fd));
            passengers.len() - 1
        });
        serializer.serialize_u64(seat as u64)
    }
}

impl<'de> Deserialize<'de> for WireFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seat = u64::deserialize(deserializer)?;
        let fd = PASSENGERS
            .with_borrow_mut(|passengers| passengers.get_mut(usize::try_from(seat).ok()?)?.take());
        fd.map(Self)
            .ok_or_else(|| D::Error::custom(format!("descriptor {seat} did not come along")))
    }
}

/// A value on its way.
pub(crate) struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    /// Writes `value`.
    pub(crate) fn of(value: &impl Serialize) -> io::Result<Self> {
        PASSENGERS.take();
        let bytes = rmp_serde::to_vec(value);
        let fds = PASSENGERS.take().into_iter().flatten().collect();
        Ok(Self {
            bytes: bytes.map_err(io::Error::other)?,
            fds,
        })
    }

    /// A message that is nothing but descriptors.
    pub(crate) fn of_descriptors(fds: Vec<OwnedFd>) -> Self {
        Self {
            bytes: Vec::new(),
            fds,
        }
    }

    /// Reads the value.
    pub(crate) fn value<T: DeserializeOwned>(self) -> io::Result<T> {
        PASSENGERS.set(self.fds.into_iter().map(Some).collect());
        let value = rmp_serde::from_slice(&self.bytes);
        PASSENGERS.take();
        value.map_err(io::Error::other)
    }

    /// The descriptors of a message that is nothing but those.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Sends it.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        let mut header = [0; 16];
        header[..8].copy_from_slice(&(self.bytes.len() as u64).to_ne_bytes());
        header[8..].copy_from_slice(&(self.fds.len() as u64).to_ne_bytes());
        write_all(socket, &header)?;
        for packet in self.fds.chunks(PACKET) {
            let fds: Vec<BorrowedFd<'_>> = packet.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(
                control.push(SendAncillaryMessage::ScmRights(&fds)),
                "a packet holds at most {PACKET} descriptors"
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

    /// Waits for one of `most` bytes at most. `UnexpectedEof` when the other side is gone.
    pub(crate) fn receive(socket: impl AsFd, most: usize) -> io::Result<Self> {
        let socket = socket.as_fd();
        let mut header = [0; 16];
        read_exact(socket, &mut header)?;
        let (bytes, fds) = header.split_at(8);
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("half of 16 bytes"));
        let (bytes, expected) = (room_for(number(bytes), most)?, number(fds));
        let mut fds = Vec::new();
        while (fds.len() as u64) < expected {
            let before = fds.len();
            receive_packet(socket, &mut fds)?;
            if fds.len() == before {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "descriptors are missing: is the limit of open files reached?",
                ));
            }
        }
        let mut message = vec![0; bytes];
        read_exact(socket, &mut message)?;
        Ok(Self {
            bytes: message,
            fds,
        })
    }
}

/// `claimed`, if that is no more than `most`.
pub(crate) fn room_for(claimed: u64, most: usize) -> io::Result<usize> {
    usize::try_from(claimed)
        .ok()
        .filter(|bytes| *bytes <= most)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "it claims to have {claimed} bytes to say, and at most {most} are listened to"
                ),
            )
        })
}

/// `text`, cut to what an answer has room for.
pub(crate) fn fitting(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

fn receive_packet(socket: BorrowedFd<'_>, fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET))];
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

/// Writes all of `bytes`, with a descriptor that the other side gets with the first of them.
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

/// What has arrived of the next answer of a process: a length, so many bytes, and with them one
/// descriptor at most. Nothing here waits for the process.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

/// An answer as it arrived.
pub(crate) type Arrived = (Vec<u8>, Option<OwnedFd>);

impl Inbox {
    /// Most bytes that are read at a time.
    const CHUNK: usize = 4096;
    const LENGTH: usize = 8;

    /// Takes what has arrived; none when more of the answer is to come. `UnexpectedEof` when the
    /// other side is gone.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<Option<Arrived>> {
        loop {
            let expected = match self.bytes.get(..Self::LENGTH) {
                None => Self::LENGTH,
                Some(length) => {
                    let claimed = u64::from_ne_bytes(length.try_into().expect("these are 8 bytes"));
                    let expected = Self::LENGTH + room_for(claimed, LONGEST_ANSWER)?;
                    if self.bytes.len() == expected {
                        let answer = std::mem::take(self);
                        return Ok(Some((
                            answer.bytes[Self::LENGTH..].to_vec(),
                            answer.descriptor,
                        )));
                    }
                    expected
                }
            };
            let mut chunk = [0; Self::CHUNK];
            let wanted = (expected - self.bytes.len()).min(Self::CHUNK);
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

/// Writes all of `bytes`, never with SIGPIPE.
pub(crate) fn write_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written =
            rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Fills `bytes`. `UnexpectedEof` when the other side is gone.
pub(crate) fn read_exact(socket: impl AsFd, mut bytes: &mut [u8]) -> io::Result<()> {
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
