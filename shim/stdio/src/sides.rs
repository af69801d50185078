//! Both sides of a container's streams: the process's descriptors, and the host's half.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use tokio::net::unix::pipe;
use tokio::task::{JoinHandle, JoinSet};

use crate::input::Input;
use crate::output::{self, Drained, Fifo};
use crate::streams::{IoError, Location, Stream, Streams};
use crate::terminal::{Sink, Terminal};

/// The descriptors that become 0, 1 and 2 of the container's process; `None` is `/dev/null`.
///
/// Close the host's copies as soon as the process has its own, or its streams will not end with it.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// The process's side of its terminal, which becomes all three, and its controlling terminal.
    /// The other three are `None` in this case.
    pub terminal: Option<OwnedFd>,
}

/// The host's side of a container's streams. It copies until it is dropped: keep it until the
/// container is deleted.
#[derive(Debug)]
pub struct Io {
    input: Option<Input>,
    terminal: Option<Terminal>,
    outputs: Mutex<Vec<Fifo>>,
    /// Tasks that keep a FIFO open for a reader that has not come yet.
    late: Mutex<Vec<JoinHandle<()>>>,
}

/// Opens `streams`. Does not block. Must be called inside a tokio runtime, which then does the
/// copying.
///
/// # Errors
/// If a stream cannot be opened, or its kind is not supported.
pub fn open(streams: &Streams) -> Result<(Stdio, Io), IoError> {
    if streams.terminal {
        with_terminal(streams)
    } else {
        without_terminal(streams)
    }
}

impl Io {
    /// Ends the standard input (containerd's `CloseIO`): the process sees end of file once all
    /// other writers have closed it, and it has read everything.
    pub fn close_input(&self) {
        if let Some(input) = &self.input {
            input.close();
        }
    }

    /// Sets the terminal's size, in characters.
    ///
    /// # Errors
    /// If there is no terminal, or it refuses the size.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), IoError> {
        let terminal = self.terminal.as_ref().ok_or(IoError::NoTerminal)?;
        terminal
            .master()
            .resize(columns, rows)
            .map_err(|source| IoError::Resize {
                columns,
                rows,
                source,
            })
    }

    /// Waits until the process's output has been read. Call it after the process has exited, before
    /// the exit is reported (the `TaskExit` event, the reply to `Wait`): clients stop reading when
    /// they learn of it.
    ///
    /// Gives up if the output is not read for a while: 0.3 seconds without any progress, 3 at most;
    /// each of them twice with a terminal. Unread output is then kept for a reader that comes
    /// before this value is dropped. A second call returns at once.
    pub async fn drain(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.copied().await;
        }
        let outputs = std::mem::take(&mut *failures::lock_ignoring_poison(&self.outputs));
        let mut waits: JoinSet<_> = outputs.into_iter().map(Fifo::drain).collect();
        while let Some(wait) = waits.join_next().await {
            match wait.map_err(io::Error::from).flatten() {
                Ok(Drained::Yes) => {}
                Ok(Drained::Unread(late)) => {
                    failures::lock_ignoring_poison(&self.late)
                        .push(tokio::spawn(late.await_reader()));
                }
                Err(error) => tracing::warn!(%error, "cannot check whether output was read"),
            }
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        for task in failures::lock_ignoring_poison(&self.late).drain(..) {
            task.abort();
        }
    }
}

fn without_terminal(streams: &Streams) -> Result<(Stdio, Io), IoError> {
    let mut outputs = Vec::new();
    let stdout = output(Stream::Stdout, &streams.stdout, &mut outputs)?;
    let stderr = output(Stream::Stderr, &streams.stderr, &mut outputs)?;
    let (stdin, input) = match Location::of(Stream::Stdin, &streams.stdin)? {
        Location::Fifo(path) => {
            let (end, input) =
                Input::into_pipe(&path).map_err(|source| failed(Stream::Stdin, &path, source))?;
            (Some(end), Some(input))
        }
        Location::None | Location::File(_) => (None, None),
    };
    let io = Io {
        input,
        terminal: None,
        outputs: Mutex::new(outputs),
        late: Mutex::default(),
    };
    Ok((
        Stdio {
            stdin,
            stdout,
            stderr,
            terminal: None,
        },
        io,
    ))
}

/// Opens one output; keeps its FIFO in `outputs`.
fn output(stream: Stream, uri: &str, outputs: &mut Vec<Fifo>) -> Result<Option<OwnedFd>, IoError> {
    match Location::of(stream, uri)? {
        Location::None => Ok(None),
        Location::File(path) => output::file(&path)
            .map(|file| Some(file.into()))
            .map_err(|source| failed(stream, &path, source)),
        Location::Fifo(path) => {
            let (end, fifo) = Fifo::open(&path).map_err(|source| failed(stream, &path, source))?;
            outputs.push(fifo);
            Ok(Some(end))
        }
    }
}

fn with_terminal(streams: &Streams) -> Result<(Stdio, Io), IoError> {
    let (sink, outputs) = sink(&streams.stdout)?;
    let (slave, terminal) = Terminal::open(sink).map_err(IoError::Terminal)?;
    let input = match Location::of(Stream::Stdin, &streams.stdin)? {
        Location::Fifo(path) => {
            let master = terminal.master().clone();
            Some(
                Input::into_task(&path, |fifo| master.copy_from(fifo))
                    .map_err(|source| failed(Stream::Stdin, &path, source))?,
            )
        }
        Location::None | Location::File(_) => None,
    };
    let io = Io {
        input,
        terminal: Some(terminal),
        outputs: Mutex::new(outputs),
        late: Mutex::default(),
    };
    Ok((
        Stdio {
            terminal: Some(slave),
            ..Stdio::default()
        },
        io,
    ))
}

/// Opens the destination of a terminal's output. Without one, the output is still read from the
/// terminal, because its process would block otherwise.
fn sink(uri: &str) -> Result<(Sink, Vec<Fifo>), IoError> {
    match Location::of(Stream::Stdout, uri)? {
        Location::None => Ok((Box::new(tokio::io::sink()), Vec::new())),
        Location::File(path) => {
            let file =
                output::file(&path).map_err(|source| failed(Stream::Stdout, &path, source))?;
            Ok((Box::new(tokio::fs::File::from_std(file)), Vec::new()))
        }
        Location::Fifo(path) => {
            let failed = |source| failed(Stream::Stdout, &path, source);
            let fifo = Fifo::keep(&path).map_err(failed)?;
            // For reading as well, so that a restart of containerd is not an error, as without a
            // terminal.
            let sender = pipe::OpenOptions::new()
                .read_write(true)
                .open_sender(&path)
                .map_err(failed)?;
            Ok((Box::new(sender), vec![fifo]))
        }
    }
}

fn failed(stream: Stream, path: &Path, source: io::Error) -> IoError {
    IoError::Open {
        stream,
        path: path.display().to_string(),
        source,
    }
}
