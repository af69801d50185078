//! The names that containerd gives to a container's standard streams, and the supported kinds.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The standard streams of a container as containerd names them: paths or URIs; empty means none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: String,
    /// Standard output; with a terminal, all that the terminal shows.
    pub stdout: String,
    /// Standard error; ignored with a terminal, which has one output.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// One of the three streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// An error of opening a container's streams, or of resizing its terminal.
#[derive(Debug, Error)]
pub enum IoError {
    /// A stream could not be opened.
    #[error("cannot open {stream} ({path})")]
    Open {
        /// The stream.
        stream: Stream,
        /// Its path.
        path: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The kind of a stream is not supported.
    #[error("{stream} is {uri}: {supported}; use containerd's default logging")]
    Kind {
        /// The stream.
        stream: Stream,
        /// Its URI.
        uri: String,
        /// The kinds that are supported.
        supported: &'static str,
    },
    /// A terminal could not be created.
    #[error("cannot make a terminal")]
    Terminal(#[source] io::Error),
    /// The container was created without a terminal.
    #[error(
        "the container has no terminal to resize: it was created without one (`tty: true` of its \
         definition)"
    )]
    NoTerminal,
    /// The terminal refuses this size.
    #[error("cannot resize the terminal to {columns} columns wide and {rows} rows high")]
    Resize {
        /// The width, in characters.
        columns: u16,
        /// The height, in lines.
        rows: u16,
        /// The I/O error.
        source: io::Error,
    },
}

/// The destination or source of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// None: the process gets `/dev/null`.
    None,
    /// A FIFO that containerd or its client has created.
    Fifo(PathBuf),
    /// A file, appended to, and created if it is missing.
    File(PathBuf),
}

impl Location {
    /// Parses `uri`: a plain path or a `fifo://` URI, a `file://` URI for output, or empty.
    pub(crate) fn of(stream: Stream, uri: &str) -> Result<Self, IoError> {
        let refused = |supported| {
            Err(IoError::Kind {
                stream,
                uri: uri.to_owned(),
                supported,
            })
        };
        match (stream, uri.split_once("://")) {
            _ if uri.is_empty() => Ok(Self::None),
            (_, None) => Ok(Self::Fifo(PathBuf::from(uri))),
            (_, Some(("fifo", path))) => Ok(Self::Fifo(PathBuf::from(path))),
            (Stream::Stdin, Some(_)) => refused("only FIFOs are supported"),
            (_, Some(("file", path))) => Ok(Self::File(PathBuf::from(path))),
            (_, Some(_)) => refused("only FIFOs and files are supported"),
        }
    }
}
