//! Tests of the standard streams on real FIFOs and terminals.

mod input;
mod output;
mod terminal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::streams::Location;

/// Longer than any step here, shorter than a test run that hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A folder with FIFOs, as a client of containerd creates it for each container.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path
    }
}

fn name(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs blocking work on its own thread; panics if it does not end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(TEST_TIMEOUT, tokio::task::spawn_blocking(work))
        .await
        .expect("it blocks")
        .unwrap()
}

/// Returns the number of unread bytes in `fifo`.
fn held(fifo: &File) -> u64 {
    rustix::io::ioctl_fionread(fifo).unwrap()
}

#[test]
fn empty_name_means_no_stream_and_unsupported_kinds_are_refused() {
    assert_eq!(Location::of(Stream::Stdout, "").unwrap(), Location::None);
    assert_eq!(
        Location::of(Stream::Stdout, "/run/fifo").unwrap(),
        Location::Fifo("/run/fifo".into())
    );
    assert_eq!(
        Location::of(Stream::Stdin, "fifo:///run/fifo").unwrap(),
        Location::Fifo("/run/fifo".into())
    );
    assert_eq!(
        Location::of(Stream::Stderr, "file:///var/log/x").unwrap(),
        Location::File("/var/log/x".into())
    );
    let error = Location::of(Stream::Stdout, "binary:///bin/logger?id=1")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("stdout is binary:///bin/logger?id=1"),
        "{error}"
    );
    let error = Location::of(Stream::Stdin, "file:///etc/passwd")
        .unwrap_err()
        .to_string();
    assert!(error.contains("stdin is file:///etc/passwd"), "{error}");
}

#[tokio::test]
async fn missing_stream_is_named_in_the_error() {
    let streams = Streams {
        stderr: "/nowhere/stderr".to_owned(),
        ..Streams::default()
    };
    let error = open(&streams).unwrap_err().to_string();
    assert_eq!(error, "cannot open stderr (/nowhere/stderr)");
}

#[tokio::test]
async fn container_without_streams_has_nothing_to_wait_for() {
    let (stdio, io) = open(&Streams::default()).unwrap();
    assert!(
        stdio.stdin.is_none()
            && stdio.stdout.is_none()
            && stdio.stderr.is_none()
            && stdio.terminal.is_none()
    );
    io.close_input();
    tokio::time::timeout(Duration::from_millis(100), io.drain())
        .await
        .unwrap();
}
