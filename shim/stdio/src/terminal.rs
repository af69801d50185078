//! The pair of a pseudoterminal, and the copying to and from it.

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

use crate::output::{DRAIN_LIMIT, READER_PATIENCE};

/// How much is copied at once: what a terminal holds for its reader.
const CHUNK: usize = 4096;

/// The host's side of a container's terminal. The copying ends with it, and what still runs there
/// is hung up.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: Master,
    copying: JoinHandle<()>,
    progress: watch::Receiver<Progress>,
}

/// How far the copying of what a terminal shows has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// So many pieces were copied, and there may be more.
    Pieces(u64),
    /// All is copied, and no process has the terminal any more.
    Done,
}

/// What a terminal's output is written to.
pub(crate) type Sink = Box<dyn AsyncWrite + Send + Unpin>;

impl Terminal {
    /// Makes a pair, copies what it shows to `sink`, and returns the process's side with ours.
    pub(crate) fn open(sink: Sink) -> io::Result<(OwnedFd, Self)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        // Through the master: its name leads to another terminal, or to none, in another mount
        // namespace.
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        // Its modes stay the kernel's: a new line is shown with a carriage return, as under runc.
        // kubectl has the user's own terminal add none, and without it each line would begin where
        // the last one ended.
        rustix::io::ioctl_fionbio(&master, true)?;
        let master = Master(Arc::new(watched(master)?));
        let (told, progress) = watch::channel(Progress::Pieces(0));
        let source = master.clone();
        let copying = tokio::spawn(async move {
            source.copy_to(sink, &told).await;
            told.send_replace(Progress::Done);
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

    /// The side that is written to and resized.
    pub(crate) fn master(&self) -> &Master {
        &self.master
    }

    /// Waits until all that the process wrote is copied, or nothing has been for a while: its
    /// reader may read nothing, and a process that it left behind may keep the terminal open.
    pub(crate) async fn copied(&self) {
        let limit = Instant::now() + DRAIN_LIMIT;
        let mut progress = self.progress.clone();
        while *progress.borrow_and_update() != Progress::Done && Instant::now() < limit {
            let patience = Instant::now() + READER_PATIENCE;
            if !matches!(
                tokio::time::timeout_at(patience, progress.changed()).await,
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
    /// Tells the terminal its size; the kernel tells the process (SIGWINCH).
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    /// Writes what comes through `fifo`, as if it were typed.
    ///
    /// The end of the FIFO ends nothing: a terminal has no end of input, and who wants one types it
    /// (`^D`).
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

    /// Copies all that the terminal shows to `sink`, until no process has it open any more.
    async fn copy_to(self, mut sink: Sink, told: &watch::Sender<Progress>) {
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
                // Read on after an error: a process whose terminal is full would wait for ever.
                Ok(length) if lost > 0 => lost += length,
                Ok(length) => {
                    if let Err(error) = sink.write_all(&buffer[..length]).await {
                        tracing::warn!(
                            "the output of a terminal cannot be passed on, what follows is lost: \
                             {error}"
                        );
                        lost += length;
                    }
                    pieces += 1;
                    told.send_replace(Progress::Pieces(pieces));
                }
                Err(error) if is_hang_up(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let flushed = sink.flush().await;
        if let Err(error) = end.and(flushed) {
            tracing::warn!("the output of a terminal was cut off: {error}");
        }
        if lost > 0 {
            tracing::warn!(lost, "bytes that a terminal showed were lost");
        }
    }
}

/// `fd`, watched by the runtime.
#[expect(
    unsafe_code,
    reason = "the runtime has no safe call for a descriptor that is neither a socket nor a pipe"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open for as long as it lives, always has the same number, and moves
    // into what is returned.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Whether no process has the other side of the terminal open any more.
fn is_hang_up(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}
