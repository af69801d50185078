//! The three standard streams of a container's process.
//!
//! Output goes straight into containerd's FIFOs: nothing of ours copies it, so nothing can be lost with us. Both are
//! opened for reading as well: a container then survives a restart of containerd, whose end of the FIFO is gone for
//! a while, instead of dying of SIGPIPE.
//!
//! Input cannot be passed on that way. A FIFO opened for reading alone says "end of file" until its writer comes, and
//! one that the reader also holds open for writing never says it at all. So a task of the host waits for the writer
//! and copies what comes into a pipe, whose end the process sees when the writer closes.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use containerd_shimkit::sandbox::InstanceConfig;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use zygote::WireFd;

use crate::error::CreateError;

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

/// The task that feeds a container's standard input; it ends with the writer, or when this is dropped.
#[derive(Debug)]
pub struct InputPump(JoinHandle<()>);

impl Drop for InputPump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens what containerd named in `config`. Needs a tokio runtime.
///
/// # Errors
/// When a stream cannot be opened, or is of a kind that is not served.
pub fn open(config: &InstanceConfig) -> Result<(Stdio, Option<InputPump>), CreateError> {
    let (stdin, pump) = match location("stdin", &config.stdin)? {
        Some(path) => input(&path).map(|(end, pump)| (Some(end), Some(pump)))?,
        None => (None, None),
    };
    let stdout = location("stdout", &config.stdout)?.map(|path| output("stdout", &path)).transpose()?;
    let stderr = location("stderr", &config.stderr)?.map(|path| output("stderr", &path)).transpose()?;
    let wire = |fd: Option<OwnedFd>| fd.map(WireFd::new);
    Ok((Stdio { stdin: wire(stdin), stdout: wire(stdout), stderr: wire(stderr) }, pump))
}

/// The file that `uri` names: a plain path, or a `file://` URI. Empty means none.
fn location(stream: &'static str, uri: &Path) -> Result<Option<PathBuf>, CreateError> {
    let text = uri.to_string_lossy();
    match text.split_once("://") {
        _ if text.is_empty() => Ok(None),
        None => Ok(Some(uri.to_owned())),
        Some(("file" | "fifo", path)) => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(CreateError::StdioKind { stream, path: text.into_owned() }),
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

fn input(path: &Path) -> Result<(OwnedFd, InputPump), CreateError> {
    let failed = |source| CreateError::Stdio { stream: "stdin", path: path.display().to_string(), source };
    let mut fifo = pipe::OpenOptions::new().open_receiver(path).map_err(failed)?;
    let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut write_end = pipe::Sender::from_owned_fd(write_end).map_err(failed)?;
    let pump = tokio::spawn(async move {
        // Without a writer a read says "end of file" at once, while readiness is only reported once a writer has
        // come (the kernel raises no hang-up on a FIFO that never had one).
        if fifo.readable().await.is_ok() {
            // An error here is the container gone or the FIFO gone: in both cases the input has ended.
            let _ = tokio::io::copy(&mut fifo, &mut write_end).await;
            let _ = write_end.shutdown().await;
        }
    });
    Ok((read_end, InputPump(pump)))
}

#[cfg(test)]
mod tests;
