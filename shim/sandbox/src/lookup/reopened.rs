//! A regular file that one process checks and another one reads.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Failure, Step as _};
use crate::wire::WireFd;

/// The open must neither wait for the end of a lease nor take a terminal.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A file that is sent to another process as an `O_PATH` descriptor and is opened for reading
/// there, before that process gives up its privileges. The sender never holds it open
/// ([`crate::lookup`]).
#[derive(Debug)]
pub struct Reopened(State);

#[derive(Debug)]
enum State {
    Path { path: WireFd, proc: WireFd },
    Open(File),
}

impl Reopened {
    /// Takes `path`, an `O_PATH` descriptor of a regular file, to be sent.
    ///
    /// # Errors
    /// If `/proc` cannot be opened.
    pub fn new(path: OwnedFd) -> Result<Self, Failure> {
        let proc = File::open("/proc").step(|| "open /proc")?;
        Ok(Self(State::Path {
            path: WireFd::new(path),
            proc: WireFd::new(proc),
        }))
    }

    /// Returns the file.
    ///
    /// # Errors
    /// If it was not sent to this process.
    pub fn into_file(self) -> std::io::Result<File> {
        match self.0 {
            State::Open(file) => Ok(file),
            State::Path { .. } => Err(std::io::Error::other("it is not open in this process")),
        }
    }
}

impl Serialize for Reopened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            State::Path { path, proc } => (path, proc).serialize(serializer),
            State::Open(_) => Err(serde::ser::Error::custom(
                "an open file cannot be sent to another process",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Reopened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (path, proc) = <(WireFd, WireFd)>::deserialize(deserializer)?;
        let opened = open(path.as_fd(), proc.as_fd());
        opened
            .map(|file| Self(State::Open(file)))
            .map_err(|errno| D::Error::custom(format!("open the program for reading: {errno}")))
    }
}

/// Opens the regular file that `path` refers to, for reading. Refuses other types: opening a device
/// may act on it.
pub(super) fn open(path: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> Result<File, Errno> {
    if FileType::from_raw_mode(rustix::fs::fstat(path)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // Not by its path in the container, which may name another file by now.
    rustix::fs::openat(
        proc,
        format!("self/fd/{}", path.as_raw_fd()),
        FLAGS,
        Mode::empty(),
    )
    .map(File::from)
}
