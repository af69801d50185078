//! Standard input: the FIFO that is held open, and the task that copies from it.
//!
//! Input cannot be passed on as a FIFO: one that is opened for reading says "end of file" until its
//! writer comes, and again between two writers. So the host holds a writing end itself, until
//! containerd says `CloseIO`. From then on the FIFO ends when its last writer has closed it and all
//! that was written is read: bytes that lie in it when `CloseIO` comes, and those that a client
//! writes after it, still arrive. containerd's own shim for runc does the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// Our end of a container's standard input. The copying ends with it.
#[derive(Debug)]
pub(crate) struct Input {
    held_open: Mutex<Option<File>>,
    pump: JoinHandle<()>,
}

impl Input {
    /// Lets go of our writing end.
    pub(crate) fn close(&self) {
        self.held_open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Copies from the FIFO at `path` into a pipe, whose reading end is returned.
    pub(crate) fn into_pipe(path: &Path) -> io::Result<(OwnedFd, Self)> {
        let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut write_end = pipe::Sender::from_owned_fd(write_end)?;
        let input = Self::into_task(path, async move |mut fifo| {
            tokio::io::copy(&mut fifo, &mut write_end).await.map(drop)
        })?;
        Ok((read_end, input))
    }

    /// Hands the FIFO at `path` to a task that runs `copy`.
    pub(crate) fn into_task<C, F>(path: &Path, copy: C) -> io::Result<Self>
    where
        C: FnOnce(pipe::Receiver) -> F,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let fifo = pipe::OpenOptions::new().open_receiver(path)?;
        // Does not block: the line above opened the reading end.
        let held_open = OpenOptions::new().write(true).open(path)?;
        let copying = copy(fifo);
        let name = path.display().to_string();
        let pump = tokio::spawn(async move {
            match copying.await {
                Ok(()) => {}
                // A process that reads no more, or is no more; what it did not read concerns
                // nobody.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => tracing::warn!(stdin = name, "standard input was cut off: {error}"),
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
