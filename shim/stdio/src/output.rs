//! Standard output and error: opening them, and waiting until they are read.
//!
//! A FIFO forgets what it holds when its last descriptor is closed, and a client stops reading as
//! soon as it hears that the process has ended: that of containerd 1.7 and later closes its ends on
//! `Delete`, which it asks for upon the exit event, whatever they still hold. Each of the two cost
//! the tail of an output now and then, up to the 64 KiB of a FIFO. So the host keeps every FIFO
//! alive, and tells of an exit when its output is read ([`Fifo::drained`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use tokio::time::Instant;

/// How long a reader may read nothing before the end of its process is told all the same.
pub(crate) const READER_PATIENCE: Duration = Duration::from_millis(300);
/// How long a reader that does read, but slowly, may keep that back.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// The first pause between two looks at how much is left; each is twice as long as the one before,
/// up to the next.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The longest such pause while somebody waits.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// Between two looks for a reader that comes late, when nobody waits.
const LATE_READER_LOOK: Duration = Duration::from_millis(100);

/// A FIFO that a container's output goes to, kept alive whether or not somebody writes or reads it.
#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    /// For reading, so that it keeps no reader from seeing the end.
    keeper: File,
}

/// What a FIFO's readers did with it.
#[derive(Debug)]
pub(crate) enum Drained {
    /// Nothing is left in it that will not be read.
    Yes,
    /// Bytes are left, and nobody reads: containerd is away, perhaps. Holds the FIFO open for the
    /// reader that comes.
    Unread(Late),
}

impl Fifo {
    /// Opens the FIFO at `path` for a process to write to.
    ///
    /// It is opened for reading as well: a process then survives a restart of containerd, whose end
    /// is gone for a while, instead of dying of SIGPIPE.
    pub(crate) fn open(path: &Path) -> io::Result<(OwnedFd, Self)> {
        let end = OpenOptions::new().read(true).append(true).open(path)?;
        Ok((end.into(), Self::keep(path)?))
    }

    /// Keeps the FIFO at `path` alive.
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

    /// Waits until what was written is read, or nobody seems to read. The process has ended.
    pub(crate) async fn drained(self) -> io::Result<Drained> {
        let limit = Instant::now() + DRAIN_LIMIT;
        let mut patience = Instant::now() + READER_PATIENCE;
        let mut pause = FIRST_LOOK;
        let mut left = rustix::io::ioctl_fionread(&self.keeper)?;
        while left > 0 && Instant::now() < patience.min(limit) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
            let now = rustix::io::ioctl_fionread(&self.keeper)?;
            if now < left {
                patience = Instant::now() + READER_PATIENCE;
            }
            left = now;
        }
        if left == 0 {
            return Ok(Drained::Yes);
        }
        // There is a reader while this is opened: the keeper.
        let end = OpenOptions::new()
            .write(true)
            .custom_flags(flags(OFlags::NONBLOCK))
            .open(&self.path)?;
        drop(self.keeper);
        let late = Late {
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

/// A FIFO with output that nobody has read yet.
#[derive(Debug)]
pub(crate) struct Late {
    path: PathBuf,
    /// For writing, which is what a reader has to find: opening a FIFO waits for the other side.
    end: File,
    left: u64,
}

impl Late {
    /// Holds the FIFO open until a reader comes, however long that takes: ends when it is dropped.
    pub(crate) async fn await_reader(self) {
        let fifo = self.path.display();
        tracing::info!(%fifo, left = self.left, "output waits for its reader");
        loop {
            match self.has_reader() {
                Ok(true) => break,
                Ok(false) => tokio::time::sleep(LATE_READER_LOOK).await,
                Err(error) => {
                    tracing::warn!(%fifo, left = self.left, "output is lost, for its FIFO cannot \
                                                            be watched: {error}");
                    break;
                }
            }
        }
    }

    /// Whether somebody has it open for reading: a pipe whose last reader is gone is in error for
    /// its writers.
    fn has_reader(&self) -> io::Result<bool> {
        let mut ends = [PollFd::from_borrowed_fd(
            self.end.as_fd(),
            PollFlags::empty(),
        )];
        rustix::event::poll(&mut ends, Some(&Timespec::default()))?;
        Ok(!ends[0].revents().contains(PollFlags::ERR))
    }
}

/// Opens the file at `path` to append to, and makes it if need be.
pub(crate) fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Flags as the standard library takes them.
pub(crate) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
