//! The three standard streams of a container's process.
//!
//! Output goes straight into containerd's FIFOs: nothing of ours copies it, so nothing can be lost with us. Both are
//! opened for reading as well: a container then survives a restart of containerd, whose end of the FIFO is gone for
//! a while, instead of dying of SIGPIPE.
//!
//! Input cannot be passed on that way: a FIFO opened for reading says "end of file" until its writer comes. So the
//! host holds a writing end of it too, until containerd says `CloseIO`, and copies what comes into a pipe; the process
//! sees the end of its input once both ends are closed. containerd's own shim for runc does the same.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use zygote::WireFd;

use crate::error::CreateError;

/// What containerd names as a container's standard streams: paths or URIs; empty means none.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The descriptors that become 0, 1 and 2 of the container's process; `None` is `/dev/null`.
#[derive(Serialize, Deserialize)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<WireFd<OwnedFd>>,
    /// Standard output.
    pub stdout: Option<WireFd<OwnedFd>>,
    /// Standard error.
    pub stderr: Option<WireFd<OwnedFd>>,
}

/// A container's standard input: our end of it, and the task that copies what comes.
#[derive(Debug)]
pub struct Input {
    held_open: Option<File>,
    pump: JoinHandle<()>,
}

impl Input {
    /// Closes our end: the process sees the end of its input once the other writers have closed theirs.
    pub fn close(&mut self) {
        self.held_open = None;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Opens `streams`. Needs a tokio runtime.
///
/// # Errors
/// When a stream cannot be opened, or is of a kind that is not served.
pub fn open(streams: &Streams) -> Result<(Stdio, Option<Input>), CreateError> {
    let (stdin, pump) = match location("stdin", &streams.stdin)? {
        Some(path) => input(&path).map(|(end, input)| (Some(end), Some(input)))?,
        None => (None, None),
    };
    let stdout = location("stdout", &streams.stdout)?.map(|path| output("stdout", &path)).transpose()?;
    let stderr = location("stderr", &streams.stderr)?.map(|path| output("stderr", &path)).transpose()?;
    let wire = |fd: Option<OwnedFd>| fd.map(WireFd::new);
    Ok((Stdio { stdin: wire(stdin), stdout: wire(stdout), stderr: wire(stderr) }, pump))
}

/// The file that `uri` names: a plain path, or a `file://` URI. Empty means none.
fn location(stream: &'static str, uri: &str) -> Result<Option<PathBuf>, CreateError> {
    match uri.split_once("://") {
        _ if uri.is_empty() => Ok(None),
        None => Ok(Some(PathBuf::from(uri))),
        Some(("file" | "fifo", path)) => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(CreateError::StdioKind { stream, path: uri.to_owned() }),
    }
}

fn output(stream: &'static str, path: &Path) -> Result<OwnedFd, CreateError> {
    let failed = |source| CreateError::Stdio { stream, path: path.display().to_string(), source };
    // A FIFO must exist already; a log file (`file://`) may be ours to make, and is appended to.
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::options().create(true).append(true).open(path),
        result => result,
    };
    Ok(file.map_err(failed)?.into())
}

fn input(path: &Path) -> Result<(OwnedFd, Input), CreateError> {
    let failed = |source| CreateError::Stdio { stream: "stdin", path: path.display().to_string(), source };
    let mut fifo = pipe::OpenOptions::new().open_receiver(path).map_err(failed)?;
    // Does not block: the line above opened the reading end.
    let held_open = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut write_end = pipe::Sender::from_owned_fd(write_end).map_err(failed)?;
    let pump = tokio::spawn(async move {
        // The input ends after its last byte, or when the container is gone and cannot be written to any more.
        if let Err(error) = tokio::io::copy(&mut fifo, &mut write_end).await {
            log::warn!("standard input was cut off: {error}");
        }
    });
    Ok((read_end, Input { held_open: Some(held_open), pump }))
}

#[cfg(test)]
mod tests;
