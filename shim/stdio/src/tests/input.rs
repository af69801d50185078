//! Tests of standard input.

use std::io::{Read as _, Write as _};

use super::*;

/// More than the FIFO, the pipe behind it and the copying task hold together.
const LENGTH: usize = 200_000;

fn pattern() -> Vec<u8> {
    (0..LENGTH)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect()
}

/// The process's end, the host's side, and the client's end of a new container's standard input.
fn opened(folder: &Folder) -> (File, Io, File) {
    let path = folder.fifo("stdin");
    let (stdio, io) = open(&Streams {
        stdin: name(&path),
        ..Streams::default()
    })
    .unwrap();
    (
        stdio.stdin.unwrap().into(),
        io,
        File::options().write(true).open(path).unwrap(),
    )
}

fn rest(mut end: File) -> Vec<u8> {
    let mut seen = Vec::new();
    end.read_to_end(&mut seen).unwrap();
    seen
}

#[tokio::test]
async fn input_ends_when_client_and_host_have_closed_it() {
    let folder = Folder::new();
    let (mut end, io, mut client) = opened(&folder);
    client.write_all(b"to be read").unwrap();
    drop(client);
    let end = blocking(move || {
        end.read_exact(&mut [0; 10]).unwrap();
        end
    })
    .await;
    rustix::io::ioctl_fionbio(&end, true).unwrap();
    assert_eq!(
        (&end).read(&mut [0; 1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "the host's write end is still open"
    );
    rustix::io::ioctl_fionbio(&end, false).unwrap();
    io.close_input();
    assert_eq!(blocking(move || rest(end)).await, b"");
}

#[tokio::test]
async fn input_written_after_close_io_still_arrives() {
    let folder = Folder::new();
    let (end, io, mut client) = opened(&folder);
    io.close_input();
    let writer = std::thread::spawn(move || client.write_all(&pattern()).unwrap());
    assert!(blocking(move || rest(end)).await == pattern());
    writer.join().unwrap();
}

#[tokio::test]
async fn input_in_the_fifo_without_writers_still_arrives() {
    let folder = Folder::new();
    let (mut end, io, mut client) = opened(&folder);
    let (written, progress_sender) = tokio::sync::oneshot::channel();
    let writer = std::thread::spawn(move || {
        client.write_all(&pattern()).unwrap();
        drop(client);
        written.send(()).unwrap();
    });
    // The process has read just enough for the client to write the rest.
    let mut first = vec![0; 65_536];
    let (mut seen, end) = blocking(move || {
        end.read_exact(&mut first).unwrap();
        (first, end)
    })
    .await;
    tokio::time::timeout(TEST_TIMEOUT, progress_sender)
        .await
        .expect("the rest fits into the FIFO and the pipe")
        .unwrap();
    io.close_input();
    seen.extend(blocking(move || rest(end)).await);
    assert!(
        seen == pattern(),
        "{} of {LENGTH} bytes arrived",
        seen.len()
    );
    writer.join().unwrap();
}

#[tokio::test]
async fn closed_input_without_writers_ends() {
    let folder = Folder::new();
    let (end, io, client) = opened(&folder);
    drop(client);
    io.close_input();
    assert_eq!(blocking(move || rest(end)).await, b"");
}

#[tokio::test]
async fn client_sees_that_the_container_is_gone() {
    let folder = Folder::new();
    let (end, io, mut client) = opened(&folder);
    drop((end, io));
    let refused = blocking(move || {
        // The copying task closes the FIFO when it is next polled.
        loop {
            if let Err(error) = client.write_all(&[0; 4096]) {
                break error;
            }
        }
    })
    .await;
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}
