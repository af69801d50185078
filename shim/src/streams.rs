//! The standard streams of a process, opened and handed to the crate that makes the process.

use container_io::{Io, IoError, Stdio, Streams};
use oci_spec::runtime::Process;

/// Opens the streams of `process`. A terminal gets its spec's size before the process starts.
///
/// # Errors
/// If a stream cannot be opened, or its kind is not supported.
pub(crate) fn open(streams: &Streams, process: Option<&Process>) -> Result<(Stdio, Io), IoError> {
    let (stdio, io) = container_io::open(streams)?;
    if let (true, Some(size)) = (streams.terminal, process.and_then(Process::console_size)) {
        let characters = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        io.resize(characters(size.width()), characters(size.height()))?;
    }
    Ok((stdio, io))
}

/// Converts the streams for a process that libcontainer sets up.
pub(crate) fn for_native(stdio: Stdio) -> native_container::Stdio {
    let Stdio {
        stdin,
        stdout,
        stderr,
        terminal,
    } = stdio;
    native_container::Stdio {
        stdin,
        stdout,
        stderr,
        terminal,
    }
}

/// Converts the streams for a process that guest-sandbox sets up.
pub(crate) fn for_guest(stdio: Stdio) -> guest_sandbox::Stdio {
    let Stdio {
        stdin,
        stdout,
        stderr,
        terminal,
    } = stdio;
    match terminal {
        Some(terminal) => guest_sandbox::Stdio::Terminal(terminal),
        None => guest_sandbox::Stdio::Streams {
            stdin,
            stdout,
            stderr,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        serde_json::from_str(json).unwrap()
    }

    #[tokio::test]
    async fn terminal_has_the_size_of_its_spec() {
        let sized = process(
            r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}, "consoleSize": {"height": 24, "width": 80}}"#,
        );
        let sizeless = process(r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}}"#);
        let terminal = Streams {
            terminal: true,
            ..Streams::default()
        };
        for (process, expected) in [
            (Some(&sized), (80, 24)),
            (Some(&sizeless), (0, 0)),
            (None, (0, 0)),
        ] {
            let (stdio, _io) = open(&terminal, process).unwrap();
            let size = rustix::termios::tcgetwinsize(stdio.terminal.unwrap()).unwrap();
            assert_eq!((size.ws_col, size.ws_row), expected);
        }
        // Without a terminal the size has no effect.
        open(&Streams::default(), Some(&sized)).unwrap();
    }
}
