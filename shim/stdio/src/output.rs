//! Standard output and error: opening, and waiting until the output is read.
//!
//! A FIFO loses its content when its last descriptor is closed, and a client stops reading when it
//! learns of the exit: that of containerd 1.7 and later closes its ends on `Delete`, which it calls
//! after the exit event, whatever they still hold. Each of the two could lose the tail of an
//! output, up to the 64 KiB of a FIFO. So the host keeps every FIFO open, and reports an exit when
//! the output is read ([`Fifo::drain`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use tokio::time::Instant;

/// How long a reader may read nothing before the exit is reported all the same.
pub(crate) const READER_IDLE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a slow reader may delay the report of an exit.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// The first interval between two probes of the unread bytes; each following one is twice as long,
/// up to the next constant.
const INITIAL_PROBE_INTERVAL: Duration = Duration::from_millis(1);
/// The longest such interval while the exit is delayed.
const MAX_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// The interval between two probes for a late reader, when nothing waits.
const LATE_READER_INTERVAL: Duration = Duration::from_millis(100);

/// A FIFO for a container's output, kept open with or without writers and readers.
#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    /// A read end, so that readers still see the end of file.
    keeper: File,
}

/// The result of waiting for a FIFO's readers.
#[derive(Debug)]
pub(crate) enum Drained {
    /// The FIFO is empty, or a reader has it open.
    Yes,
    /// Bytes are left without a reader; containerd may be away. Keeps the FIFO open for a later
    /// reader.
    Unread(UnreadFifo),
}

impl Fifo {
    /// Opens the FIFO at `path` for a process to write to.
    ///
    /// It is opened for reading as well: a process then survives a restart of containerd, while
    /// containerd's end is closed, instead of dying of SIGPIPE.
    pub(crate) fn open(path: &Path) -> io::Result<(OwnedFd, Self)> {
        let end = OpenOptions::new().read(true).append(true).open(path)?;
        Ok((end.into(), Self::keep(path)?))
    }

    /// Keeps the FIFO at `path` open.
    pub(crate) fn keep(path: &Path) -> io::Result<Self> {
        let keeper = OpenOptions::new()
            .read(true)
            .custom_flags(flags(OFlags::NONBLOCK))
            .open(path)?;
        if !keeper.metadata()?.file_type().is_fifo() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a FIFO; a file is named with file://",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            keeper,
        })
    }

    /// Waits until the output of an exited process is read, or its reader does not read for a
    /// while.
    pub(crate) async fn drain(self) -> io::Result<Drained> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut idle_deadline = Instant::now() + READER_IDLE_TIMEOUT;
        let mut interval = INITIAL_PROBE_INTERVAL;
        let mut left = rustix::io::ioctl_fionread(&self.keeper)?;
        while left > 0 && Instant::now() < idle_deadline.min(deadline) {
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(MAX_PROBE_INTERVAL);
            let now = rustix::io::ioctl_fionread(&self.keeper)?;
            if now < left {
                idle_deadline = Instant::now() + READER_IDLE_TIMEOUT;
            }
            left = now;
        }
        if left == 0 {
            return Ok(Drained::Yes);
        }
        // Opening succeeds because the keeper is a reader.
        let end = OpenOptions::new()
            .write(true)
            .custom_flags(flags(OFlags::NONBLOCK))
            .open(&self.path)?;
        drop(self.keeper);
        let late = UnreadFifo {
            path: self.path,
            end,
            left,
        };
        Ok(if late.has_reader()? {
            Drained::Yes
        } else {
            Drained::Unread(late)
        })
    }
}

/// A FIFO with unread output and no reader.
#[derive(Debug)]
pub(crate) struct UnreadFifo {
    path: PathBuf,
    /// A write end, because opening a FIFO for reading waits for a writer.
    end: File,
    left: u64,
}

impl UnreadFifo {
    /// Keeps the FIFO open until a reader comes, without a timeout; dropping the future ends the
    /// wait.
    pub(crate) async fn await_reader(self) {
        let fifo = self.path.display();
        tracing::info!(%fifo, left = self.left, "output waits for its reader");
        loop {
            match self.has_reader() {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(LATE_READER_INTERVAL).await,
                Err(error) => {
                    let left = self.left;
                    tracing::warn!(%fifo, left, %error, "output is lost: cannot watch its FIFO");
                    break;
                }
            }
        }
    }

    /// Returns whether a reader has it open: a pipe without readers is in error state for its
    /// writers.
    fn has_reader(&self) -> io::Result<bool> {
        let mut ends = [PollFd::from_borrowed_fd(
            self.end.as_fd(),
            PollFlags::empty(),
        )];
        rustix::event::poll(&mut ends, Some(&Timespec::default()))?;
        Ok(!ends[0].revents().contains(PollFlags::ERR))
    }
}

/// Opens the file at `path` for appending; creates it if it is missing.
pub(crate) fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Converts flags for the standard library.
pub(crate) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
