//! Standard input, read to its end with a timeout.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// containerd writes at once and closes its end. The timeout is for a launcher that is started by
/// hand.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// More than any options table has; containerd's own shim accepts ten times as much.
const MAX_INPUT: usize = 1 << 20;

/// Reads all of standard input; nothing if it is a terminal.
pub(crate) fn read() -> Result<Vec<u8>> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Ok(Vec::new());
    }
    let input = input
        .as_fd()
        .try_clone_to_owned()
        .context("duplicate standard input")?;
    read_all(&mut File::from(input), READ_TIMEOUT)
}

fn read_all(input: &mut File, timeout: Duration) -> Result<Vec<u8>> {
    let started = Instant::now();
    let mut read = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        let left = Timespec::try_from(left).context("convert the timeout")?;
        if poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&left))
            .context("wait for standard input")?
            == 0
        {
            bail!(
                "standard input has no end after {} s and {} bytes: containerd closes it",
                timeout.as_secs(),
                read.len()
            );
        }
        match input.read(&mut part).context("read standard input")? {
            0 => return Ok(read),
            length => read.extend_from_slice(&part[..length]),
        }
        ensure!(
            read.len() <= MAX_INPUT,
            "standard input has more than {MAX_INPUT} bytes: containerd writes a message with the \
             runtime options there"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (File, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        (
            File::from(OwnedFd::from(reader)),
            File::from(OwnedFd::from(writer)),
        )
    }

    #[test]
    fn pipe_is_read_to_its_end() {
        let (mut reader, mut writer) = pipe();
        let writing = std::thread::spawn(move || writer.write_all(&vec![7; 100_000]).unwrap());
        assert_eq!(
            read_all(&mut reader, READ_TIMEOUT).unwrap(),
            vec![7; 100_000]
        );
        writing.join().unwrap();
    }

    #[test]
    fn empty_input_is_empty() {
        assert_eq!(
            read_all(&mut File::open("/dev/null").unwrap(), READ_TIMEOUT).unwrap(),
            Vec::<u8>::new()
        );
    }

    #[test]
    fn open_pipe_times_out() {
        let (mut reader, mut writer) = pipe();
        writer.write_all(b"abc").unwrap();
        let error = read_all(&mut reader, Duration::from_millis(20))
            .unwrap_err()
            .to_string();
        assert!(error.contains("3 bytes"), "{error}");
    }

    #[test]
    fn too_long_input_is_refused() {
        let error = read_all(&mut File::open("/dev/zero").unwrap(), READ_TIMEOUT)
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than"), "{error}");
    }
}
