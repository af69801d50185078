//! Output of tasks: a FIFO, as on a node, that is read all the time.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::stat::Mode;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// A FIFO that is read for the lifetime of this value.
#[derive(Debug)]
pub(crate) struct Output {
    folder: tempfile::TempDir,
    reader: JoinHandle<()>,
}

impl Output {
    /// Makes the FIFO and reads it on a background task.
    pub(crate) fn open() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bench-output-")
            .tempdir()
            .context("make a folder for a FIFO")?;
        let mut pipe = fifo(&place(folder.path()))?;
        let reader = tokio::spawn(async move {
            let mut some = [0; 4096];
            while matches!(pipe.read(&mut some).await, Ok(1..)) {}
        });
        Ok(Self { folder, reader })
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> String {
        place(self.folder.path()).display().to_string()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn place(folder: &Path) -> PathBuf {
    folder.join("stdout")
}

/// Makes a FIFO and opens it, so that writers do not block.
pub(crate) fn fifo(path: &Path) -> Result<pipe::Receiver> {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o700))
        .with_context(|| format!("make the FIFO {}", path.display()))?;
    open(path)
}

/// Opens a FIFO for reading and writing, so that the reader sees no end before a writer opens it.
pub(crate) fn open(path: &Path) -> Result<pipe::Receiver> {
    pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(path)
        .with_context(|| format!("open the FIFO {}", path.display()))
}
