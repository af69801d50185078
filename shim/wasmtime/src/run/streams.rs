//! A guest's standard streams, on the process's descriptors 0 to 2.
//!
//! They are used on the process's one thread and block it: there is one guest, and it waits for
//! them. Nothing is buffered, so nothing is lost when the process ends. Only a guest that waits for
//! its input and for a time together (`poll_oneoff`) needs to be woken by either.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Maximum bytes of one read, and of one write that a guest may ask for at once.
const MAX_BYTES: usize = 64 << 10;

/// Standard input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input;

/// Standard output or standard error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Standard,
    Error,
}

/// Standard input as one of the guest's streams.
#[derive(Debug)]
struct Reader(Readiness);

/// How to wait until standard input can be read.
#[derive(Debug)]
enum Readiness {
    /// Not needed yet.
    Unknown,
    /// A pipe, a socket or a terminal.
    Watched(AsyncFd<BorrowedFd<'static>>),
    /// A file, which is always ready.
    Always,
}

impl Output {
    fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Self::Standard => stdout(),
            Self::Error => stderr(),
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        rustix::termios::isatty(stdin())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        rustix::termios::isatty(self.descriptor())
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Reader(Readiness::Unknown))
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if matches!(self.0, Readiness::Unknown) {
            #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays open")]
            // SAFETY: no code of this process closes or replaces standard input.
            let watched = unsafe { AsyncFd::register_with_interest(stdin(), Interest::READABLE) };
            self.0 = watched.map_or(Readiness::Always, Readiness::Watched);
        }
        let Readiness::Watched(descriptor) = &self.0 else {
            return;
        };
        // Tokio remembers that it was readable, also after a read took everything.
        while let Ok(mut guard) = descriptor.readable().await {
            if is_readable() {
                return;
            }
            guard.clear_ready();
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if is_readable() {
            read(size)
        } else {
            Ok(Bytes::new())
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        read(size)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        write_all(self.descriptor(), &bytes).map_err(failed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_BYTES)
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = read_some(buffer.initialize_unfilled())?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        write_all(self.descriptor(), bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read(size: usize) -> StreamResult<Bytes> {
    let mut buffer = vec![0; size.min(MAX_BYTES)];
    match read_some(&mut buffer).map_err(failed)? {
        0 if size > 0 => Err(StreamError::Closed),
        count => {
            buffer.truncate(count);
            Ok(buffer.into())
        }
    }
}

/// Reads at least one byte of standard input, unless it is at its end or `buffer` is empty.
fn read_some(buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::read(stdin(), &mut *buffer) {
            Err(Errno::INTR) => {}
            // The other end may share the open file, and may have made it so.
            Err(Errno::AGAIN) => wait(stdin(), PollFlags::IN)?,
            done => return done,
        }
    }
}

fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(descriptor, PollFlags::OUT)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(descriptor: BorrowedFd<'_>, events: PollFlags) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(&descriptor, events)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns whether a read of standard input would not block: there is a byte, its end, or an error.
fn is_readable() -> bool {
    let now = Timespec::default();
    !matches!(
        poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&now)),
        Ok(0)
    )
}

/// Keeps the error's number, which the guest gets.
fn failed(error: Errno) -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(error).into())
}
