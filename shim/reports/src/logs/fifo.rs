//! The `log` FIFO of one bundle, which containerd reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use tracing::Level;

use super::line::{Fields, Line};

/// A FIFO that is written without blocking: what does not fit is dropped and counted.
#[derive(Debug)]
pub(super) struct Fifo {
    file: File,
    dropped: u64,
}

impl Fifo {
    /// Opens the FIFO at `path`, which containerd creates.
    ///
    /// It is opened for reading as well, so that it needs no other reader. What is written while
    /// containerd restarts waits in it, up to its capacity.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        if !file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a FIFO",
            ));
        }
        Ok(Self { file, dropped: 0 })
    }

    /// Writes `line`, after a line about those that were dropped before it.
    pub(super) fn write(&mut self, line: &[u8]) {
        if self.dropped > 0 && self.try_write(&dropped(self.dropped)) {
            self.dropped = 0;
        }
        if self.dropped > 0 || !self.try_write(line) {
            self.dropped += 1;
        }
    }

    /// Returns whether `line` was written. A line is short enough for a FIFO to take all or nothing
    /// of it.
    fn try_write(&mut self, line: &[u8]) -> bool {
        self.file
            .write(line)
            .is_ok_and(|written| written == line.len())
    }
}

/// Formats the line that reports dropped lines.
fn dropped(count: u64) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.set(
        "message",
        "log lines were dropped: the log FIFO was not read".to_owned(),
    );
    fields.set("dropped", count.to_string());
    Line::now(Level::WARN, fields).logfmt()
}
