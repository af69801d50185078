//! Standard input, read to its end and never waited for without end.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// containerd writes at once, and closes its end. This is for whoever starts a launcher by hand.
const LIMIT: Duration = Duration::from_secs(5);
/// More than any options table has; containerd's own shim takes ten times as much.
const MOST: usize = 1 << 20;

/// All of it; nothing when it is a terminal.
pub(crate) fn read() -> Result<Vec<u8>> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Ok(Vec::new());
    }
    let input = input
        .as_fd()
        .try_clone_to_owned()
        .context("take standard input")?;
    read_all(&mut File::from(input), LIMIT)
}

fn read_all(input: &mut File, limit: Duration) -> Result<Vec<u8>> {
    let started = Instant::now();
    let mut read = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let left = Timespec::try_from(left).context("count seconds")?;
        if poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&left))
            .context("wait for standard input")?
            == 0
        {
            bail!(
                "standard input has no end after {} s and {} bytes: containerd closes it",
                limit.as_secs(),
                read.len()
            );
        }
        match input.read(&mut part).context("read standard input")? {
            0 => return Ok(read),
            length => read.extend_from_slice(&part[..length]),
        }
        ensure!(
            read.len() <= MOST,
            "standard input has more than {MOST} bytes: containerd writes a message with the \
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
    fn a_pipe_is_read_to_its_end() {
        let (mut reader, mut writer) = pipe();
        let writing = std::thread::spawn(move || writer.write_all(&vec![7; 100_000]).unwrap());
        assert_eq!(read_all(&mut reader, LIMIT).unwrap(), vec![7; 100_000]);
        writing.join().unwrap();
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(
            read_all(&mut File::open("/dev/null").unwrap(), LIMIT).unwrap(),
            Vec::<u8>::new()
        );
    }

    #[test]
    fn a_pipe_that_nobody_closes_is_given_up() {
        let (mut reader, mut writer) = pipe();
        writer.write_all(b"abc").unwrap();
        let error = read_all(&mut reader, Duration::from_millis(20))
            .unwrap_err()
            .to_string();
        assert!(error.contains("3 bytes"), "{error}");
    }

    #[test]
    fn more_than_any_message_is_refused() {
        let error = read_all(&mut File::open("/dev/zero").unwrap(), LIMIT)
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than"), "{error}");
    }
}
