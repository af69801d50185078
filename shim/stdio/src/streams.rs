//! What containerd names as a container's standard streams, and what of it is served.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What containerd names as a container's standard streams: paths or URIs; empty means none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: String,
    /// Standard output; of a container with a terminal, all that the terminal shows.
    pub stdout: String,
    /// Standard error; not looked at if there is a terminal, for that has one output.
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

/// Why a container's streams could not be opened, or its terminal not be resized.
#[derive(Debug, Error)]
pub enum IoError {
    /// A stream could not be opened.
    #[error("cannot open {stream} ({path})")]
    Open {
        /// Which.
        stream: Stream,
        /// What containerd named.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A stream of a kind that this runtime does not serve.
    #[error("{stream} is {uri}: {served}; use containerd's default logging")]
    Kind {
        /// Which.
        stream: Stream,
        /// What containerd named.
        uri: String,
        /// What could be named in its place.
        served: &'static str,
    },
    /// There is no terminal to be had.
    #[error("cannot make a terminal")]
    Terminal(#[source] io::Error),
    /// The container was created without a terminal.
    #[error(
        "the container has no terminal to resize: it was created without one (`tty: true` of its \
         definition)"
    )]
    NoTerminal,
    /// The terminal does not take this size.
    #[error("cannot make the terminal {columns} columns wide and {rows} rows high")]
    Resize {
        /// Its width, in characters.
        columns: u16,
        /// Its height, in lines.
        rows: u16,
        /// Why.
        source: io::Error,
    },
}

/// Where a stream leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Nowhere: the process gets `/dev/null`.
    None,
    /// A FIFO that containerd or its client has made.
    Fifo(PathBuf),
    /// A file that is appended to, and made if need be.
    File(PathBuf),
}

impl Location {
    /// Where `uri` leads: a plain path or a `fifo://` URI, a `file://` URI for output, or empty.
    pub(crate) fn of(stream: Stream, uri: &str) -> Result<Self, IoError> {
        let refused = |served| {
            Err(IoError::Kind {
                stream,
                uri: uri.to_owned(),
                served,
            })
        };
        match (stream, uri.split_once("://")) {
            _ if uri.is_empty() => Ok(Self::None),
            (_, None) => Ok(Self::Fifo(PathBuf::from(uri))),
            (_, Some(("fifo", path))) => Ok(Self::Fifo(PathBuf::from(path))),
            (Stream::Stdin, Some(_)) => refused("only FIFOs are served"),
            (_, Some(("file", path))) => Ok(Self::File(PathBuf::from(path))),
            (_, Some(_)) => refused("only FIFOs and files are served"),
        }
    }
}
