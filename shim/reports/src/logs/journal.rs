//! The journal's socket: one datagram a line, in the journal's own protocol, so that every field
//! can be searched for.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::line::Line;

/// Where the journal listens. systemd holds the socket, also while the journal restarts.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long a value may be, in bytes: a line then fits into a datagram of any system's default
/// size.
const VALUE_LIMIT: usize = 16 * 1024;
/// What `journalctl -t` takes.
const IDENTIFIER: &str = "containerd-shim-wasmedge";

/// The journal. Never waited for: what it has no room for is dropped, and counted.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    address: PathBuf,
    dropped: u64,
}

impl Journal {
    /// The journal of this system, if it has one.
    pub(super) fn of_this_system() -> Option<Self> {
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

    /// Writes `line`; the first one that is taken after others were not says how many were not.
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

/// `line` in the journal's native protocol.
fn datagram(line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    // As syslog numbers severities.
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

/// The journal's name for the field `name`: capitals, digits and underscores, beginning with a
/// letter. Those that other programs may write too say whose they are.
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

/// Appends one field: `NAME=value`, or with the value's length in front of it where the value has
/// lines of its own.
fn append(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(VALUE_LIMIT)];
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
