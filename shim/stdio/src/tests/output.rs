//! Tests of standard output and error.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use super::*;

/// The size of a tail that a client once lost.
const TAIL: usize = 36_160;

fn opened(path: &Path) -> (File, Io) {
    let (stdio, io) = open(&Streams {
        stdout: name(path),
        ..Streams::default()
    })
    .unwrap();
    (stdio.stdout.unwrap().into(), io)
}

/// Opens a client's end without waiting for a writer.
fn reader(path: &Path) -> File {
    File::options()
        .read(true)
        .custom_flags(crate::output::flags(rustix::fs::OFlags::NONBLOCK))
        .open(path)
        .unwrap()
}

#[tokio::test]
async fn output_needs_no_reader() {
    let folder = Folder::new();
    let (mut out, _io) = opened(&folder.fifo("stdout"));
    out.write_all(b"kept in the FIFO\n").unwrap();
}

#[tokio::test]
async fn exit_is_reported_only_after_the_output_is_read() {
    let folder = Folder::new();
    let path = folder.fifo("stdout");
    let mut client = reader(&path);
    let (mut out, io) = opened(&path);
    out.write_all(&vec![7; TAIL]).unwrap();
    drop(out);
    let watched = client.try_clone().unwrap();
    let slow = std::thread::spawn(move || {
        let mut chunk = [0; 1024];
        while client.read(&mut chunk).is_ok_and(|length| length > 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    io.drain().await;
    assert_eq!(held(&watched), 0, "a client would close it now");
    slow.join().unwrap();
}

#[tokio::test]
async fn idle_reader_delays_an_exit_only_briefly() {
    let folder = Folder::new();
    let path = folder.fifo("stdout");
    let mut client = reader(&path);
    let (mut out, io) = opened(&path);
    out.write_all(&vec![7; TAIL]).unwrap();
    drop(out);
    let started = Instant::now();
    io.drain().await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).unwrap();
    assert_eq!(seen.len(), TAIL, "unread output is kept");
}

#[tokio::test]
async fn output_waits_for_a_reader_that_comes_after_the_exit() {
    let folder = Folder::new();
    let path = folder.fifo("stdout");
    let (mut out, io) = opened(&path);
    out.write_all(b"last words").unwrap();
    drop(out);
    io.drain().await;
    let seen = blocking(move || {
        let mut seen = String::new();
        File::open(path).unwrap().read_to_string(&mut seen).unwrap();
        seen
    })
    .await;
    assert_eq!(seen, "last words");
}

#[tokio::test]
async fn reader_sees_end_of_file_when_the_process_exits() {
    let folder = Folder::new();
    let path = folder.fifo("stdout");
    let mut client = reader(&path);
    let (out, _io) = opened(&path);
    assert_eq!(
        client.read(&mut [0; 1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(out);
    assert_eq!(
        client.read(&mut [0; 1]).unwrap(),
        0,
        "whether or not drain was called"
    );
}

#[tokio::test]
async fn output_and_error_to_one_file_are_appended() {
    let folder = Folder::new();
    let path = folder.0.path().join("log");
    std::fs::write(&path, "before\n").unwrap();
    let uri = format!("file://{}", name(&path));
    let (stdio, io) = open(&Streams {
        stdout: uri.clone(),
        stderr: uri,
        ..Streams::default()
    })
    .unwrap();
    for (end, line) in [(stdio.stdout, "out\n"), (stdio.stderr, "err\n")] {
        File::from(end.unwrap()).write_all(line.as_bytes()).unwrap();
    }
    io.drain().await;
    assert_eq!(std::fs::read_to_string(path).unwrap(), "before\nout\nerr\n");
}

#[tokio::test]
async fn file_that_is_named_as_a_fifo_is_refused() {
    let folder = Folder::new();
    let path = folder.0.path().join("log");
    std::fs::write(&path, "").unwrap();
    let error = open(&Streams {
        stdout: name(&path),
        ..Streams::default()
    })
    .unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("not a FIFO"),
        "{error:?}"
    );
}
