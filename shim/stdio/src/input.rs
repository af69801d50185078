//! Standard input: a FIFO that is kept open, and the task that copies from it.
//!
//! The FIFO itself cannot be the process's input: a FIFO that is opened for reading is at end of
//! file until its writer comes, and again between two writers. So the host keeps a write end open
//! until containerd's `CloseIO`. From then on the FIFO ends when its last writer has closed it and
//! all bytes are read: bytes in it at `CloseIO`, and those that a client writes later, still
//! arrive. containerd's own shim for runc does the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// The host's end of a container's standard input. Dropping it ends the copying.
#[derive(Debug)]
pub(crate) struct Input {
    held_open: Mutex<Option<File>>,
    pump: JoinHandle<()>,
}

impl Input {
    /// Closes the host's write end.
    pub(crate) fn close(&self) {
        failures::lock_ignoring_poison(&self.held_open).take();
    }

    /// Copies from the FIFO at `path` into a pipe, and returns the pipe's read end.
    pub(crate) fn into_pipe(path: &Path) -> io::Result<(OwnedFd, Self)> {
        let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut write_end = pipe::Sender::from_owned_fd(write_end)?;
        let input = Self::into_task(path, async move |mut fifo| {
            tokio::io::copy(&mut fifo, &mut write_end).await.map(drop)
        })?;
        Ok((read_end, input))
    }

    /// Passes the FIFO at `path` to a task that runs `copy`.
    pub(crate) fn into_task<C, F>(path: &Path, copy: C) -> io::Result<Self>
    where
        C: FnOnce(pipe::Receiver) -> F,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let fifo = pipe::OpenOptions::new().open_receiver(path)?;
        // Does not block: the line above opened the read end.
        let held_open = OpenOptions::new().write(true).open(path)?;
        let copying = copy(fifo);
        let name = path.display().to_string();
        let pump = tokio::spawn(async move {
            match copying.await {
                Ok(()) => {}
                // The process has exited or does not read; its unread input does not matter.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => tracing::warn!(stdin = name, %error, "standard input was cut off"),
            }
        });
        Ok(Self {
            held_open: Mutex::new(Some(held_open)),
            pump,
        })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pump.abort();
    }
}
