//! A pseudoterminal, and copying to and from it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::output::{DRAIN_TIMEOUT, READER_IDLE_TIMEOUT};

/// The size of one read: what a terminal holds for its reader.
const CHUNK: usize = 4096;

/// The host's side of a container's terminal. Dropping it ends the copying and hangs up processes
/// that still use the terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: Master,
    copying: JoinHandle<()>,
    progress: watch::Receiver<Progress>,
}

/// The progress of copying a terminal's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The number of copied pieces; more may follow.
    Pieces(u64),
    /// All is copied, and no process has the terminal open.
    Done,
}

/// The destination of a terminal's output.
pub(crate) type Sink = Box<dyn AsyncWrite + Send + Unpin>;

impl Terminal {
    /// Makes a pair, copies its output to `sink`, and returns the process's side and the host's.
    pub(crate) fn open(sink: Sink) -> io::Result<(OwnedFd, Self)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        // Through the master: in another mount namespace the name leads to another terminal, or to
        // none.
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        // The kernel's default modes stay: a new line is shown with a carriage return, as under
        // runc. kubectl sets the user's own terminal to add none, so without it each line would
        // begin where the last one ended.
        rustix::io::ioctl_fionbio(&master, true)?;
        let master = Master(Arc::new(watched(master)?));
        let (progress_sender, progress) = watch::channel(Progress::Pieces(0));
        let source = master.clone();
        let copying = tokio::spawn(async move {
            source.copy_to(sink, &progress_sender).await;
            progress_sender.send_replace(Progress::Done);
        });
        Ok((
            slave,
            Self {
                master,
                copying,
                progress,
            },
        ))
    }

    /// Returns the master side, for writing and resizing.
    pub(crate) fn master(&self) -> &Master {
        &self.master
    }

    /// Waits until all output is copied, or nothing was copied for a while: its reader may not
    /// read, and a process left in the background may keep the terminal open.
    pub(crate) async fn copied(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut progress = self.progress.clone();
        while *progress.borrow_and_update() != Progress::Done && Instant::now() < deadline {
            let idle_deadline = Instant::now() + READER_IDLE_TIMEOUT;
            if !matches!(
                tokio::time::timeout_at(idle_deadline, progress.changed()).await,
                Ok(Ok(()))
            ) {
                break;
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// The master side of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Master(Arc<AsyncFd<OwnedFd>>);

impl Master {
    /// Sets the terminal's size; the kernel notifies the process (SIGWINCH).
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    /// Writes the content of `fifo` to the terminal, as if it were typed.
    ///
    /// The end of the FIFO ends nothing: a terminal has no end of input; users type it (`^D`).
    pub(crate) async fn copy_from(self, mut fifo: pipe::Receiver) -> io::Result<()> {
        let mut buffer = [0; CHUNK];
        loop {
            let length = fifo.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let write = |master: &OwnedFd| Ok(rustix::io::write(master, rest)?);
                match self.0.async_io(Interest::WRITABLE, write).await {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if is_hang_up(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Copies the terminal's output to `sink`, until no process has it open any more.
    async fn copy_to(self, mut sink: Sink, progress_sender: &watch::Sender<Progress>) {
        let mut buffer = [0; CHUNK];
        let mut pieces = 0;
        let mut lost = 0_usize;
        let end = loop {
            let read = self
                .0
                .async_io(Interest::READABLE, |master| {
                    Ok(rustix::io::read(master, &mut buffer)?)
                })
                .await;
            match read {
                Ok(0) => break Ok(()),
                // Read on after an error: a process would block forever on a full terminal.
                Ok(length) if lost > 0 => lost += length,
                Ok(length) => {
                    if let Err(error) = sink.write_all(&buffer[..length]).await {
                        tracing::warn!(%error, "output of a terminal is lost: cannot write it");
                        lost += length;
                    }
                    pieces += 1;
                    progress_sender.send_replace(Progress::Pieces(pieces));
                }
                Err(error) if is_hang_up(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let flushed = sink.flush().await;
        if let Err(error) = end.and(flushed) {
            tracing::warn!(%error, "the output of a terminal was cut off");
        }
        if lost > 0 {
            tracing::warn!(lost, "output of a terminal was lost");
        }
    }
}

/// Registers `fd` with the async runtime.
#[expect(
    unsafe_code,
    reason = "the runtime has no safe call for a descriptor that is neither a socket nor a pipe"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, always has the same number, and moves
    // into the returned value.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Returns whether no process has the other side of the terminal open any more.
fn is_hang_up(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}
