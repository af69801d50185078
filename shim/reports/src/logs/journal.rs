//! The journal's socket. Each line is one datagram in the journal's native protocol, so that every
//! field can be searched for.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::line::Line;

/// The journal's socket. systemd holds it, also while the journal restarts.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The maximum length of a value, so that a line fits into a datagram of any system's default size.
const MAX_VALUE: usize = 16 * 1024;
/// The value for `journalctl -t`.
const IDENTIFIER: &str = "containerd-shim-wasmedge";

/// The journal, written without blocking: what does not fit is dropped and counted.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    address: PathBuf,
    dropped: u64,
}

impl Journal {
    /// Returns the journal of this system, if it has one.
    pub(super) fn open() -> Option<Self> {
        let path = Path::new(SOCKET);
        path.exists().then(|| Self::at(path).ok()).flatten()
    }

    pub(super) fn at(address: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address: address.to_owned(),
            dropped: 0,
        })
    }

    /// Writes `line`. The first line after dropped ones has their number.
    pub(super) fn write(&mut self, line: &Line) {
        let mut datagram = datagram(line);
        if self.dropped > 0 {
            append(&mut datagram, "LINES_DROPPED", &self.dropped.to_string());
        }
        match self.socket.send_to(&datagram, &self.address) {
            Ok(_) => self.dropped = 0,
            Err(_) => self.dropped += 1,
        }
    }
}

/// Encodes `line` in the journal's native protocol.
fn datagram(line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    // syslog's numbers of severities.
    let priority = match line.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    append(&mut out, "PRIORITY", priority);
    append(&mut out, "SYSLOG_IDENTIFIER", IDENTIFIER);
    append(&mut out, "MESSAGE", line.message());
    for (name, value) in line.fields() {
        append(&mut out, &field_name(name), value);
    }
    out
}

/// Converts the field `name` to the journal's form: capitals, digits and underscores, beginning
/// with a letter. Names that other programs may use too get a prefix.
fn field_name(name: &str) -> String {
    match name {
        "container" => "CONTAINER_ID".to_owned(),
        "guest" => "GUEST_DIGEST".to_owned(),
        "namespace" => "CONTAINERD_NAMESPACE".to_owned(),
        "runtime" => "CONTAINERD_RUNTIME".to_owned(),
        "message" | "priority" | "syslog_identifier" => {
            format!("FIELD_{}", name.to_ascii_uppercase())
        }
        _ => {
            let plain: String = name
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() {
                        c.to_ascii_uppercase()
                    } else {
                        '_'
                    }
                })
                .collect();
            if plain.starts_with(|c: char| c.is_ascii_alphabetic()) {
                plain
            } else {
                format!("FIELD_{plain}")
            }
        }
    }
}

/// Appends one field: `NAME=value`, or with the value's length in front of it if the value has
/// several lines.
fn append(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(MAX_VALUE)];
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}
