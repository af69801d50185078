//! Tests of terminals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;

use super::*;

/// A container's terminal: the process's side, the host's, and the client's ends.
struct Opened {
    slave: OwnedFd,
    io: Io,
    keyboard: File,
    screen: File,
}

fn opened(folder: &Folder, id: &str) -> Opened {
    let (input, output) = (
        folder.fifo(&format!("{id}-stdin")),
        folder.fifo(&format!("{id}-stdout")),
    );
    let streams = Streams {
        stdin: name(&input),
        stdout: name(&output),
        stderr: String::new(),
        terminal: true,
    };
    let (stdio, io) = open(&streams).unwrap();
    assert!(stdio.stdin.is_none() && stdio.stdout.is_none() && stdio.stderr.is_none());
    let keyboard = File::options().write(true).open(input).unwrap();
    Opened {
        slave: stdio.terminal.unwrap(),
        io,
        keyboard,
        screen: File::open(output).unwrap(),
    }
}

fn line(file: File) -> String {
    let mut line = String::new();
    BufReader::new(file).read_line(&mut line).unwrap();
    line
}

#[tokio::test]
async fn typed_input_arrives_and_is_echoed() {
    let folder = Folder::new();
    let Opened {
        slave,
        io: _io,
        mut keyboard,
        screen,
    } = opened(&folder, "a");
    assert!(rustix::termios::isatty(&slave));
    keyboard.write_all(b"1 + 1\n").unwrap();
    assert_eq!(blocking(move || line(slave.into())).await, "1 + 1\n");
    assert_eq!(blocking(move || line(screen)).await, "1 + 1\r\n");
}

#[tokio::test]
async fn end_of_input_types_nothing() {
    let folder = Folder::new();
    let Opened {
        slave,
        io,
        mut keyboard,
        screen: _screen,
    } = opened(&folder, "a");
    io.close_input();
    keyboard.write_all(b"last\n").unwrap();
    drop(keyboard);
    let slave = blocking(move || {
        let mut typed = [0; 5];
        File::from(slave.try_clone().unwrap())
            .read_exact(&mut typed)
            .unwrap();
        assert_eq!(&typed, b"last\n");
        slave
    })
    .await;
    rustix::io::ioctl_fionbio(&slave, true).unwrap();
    assert_eq!(
        File::from(slave).read(&mut [0; 1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[tokio::test]
async fn all_output_is_shown_before_the_end() {
    const LENGTH: usize = 150_000;
    let folder = Folder::new();
    let Opened {
        slave,
        io,
        keyboard: _keyboard,
        mut screen,
    } = opened(&folder, "a");
    let reader = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        screen.read_to_end(&mut shown).unwrap();
        shown.len()
    });
    blocking(move || File::from(slave).write_all(&vec![b'x'; LENGTH]).unwrap()).await;
    io.drain().await;
    assert_eq!(
        tokio::time::timeout(TEST_TIMEOUT, reader)
            .await
            .unwrap()
            .unwrap(),
        LENGTH
    );
}

#[tokio::test]
async fn terminal_output_waits_for_a_reader_that_comes_after_the_exit() {
    let folder = Folder::new();
    let path = folder.fifo("stdout");
    let (stdio, io) = open(&Streams {
        stdout: name(&path),
        terminal: true,
        ..Streams::default()
    })
    .unwrap();
    File::from(stdio.terminal.unwrap())
        .write_all(b"bye\n")
        .unwrap();
    io.drain().await;
    assert_eq!(
        blocking(move || line(File::open(path).unwrap())).await,
        "bye\r\n"
    );
}

#[tokio::test]
async fn unread_terminal_does_not_block_others() {
    let folder = Folder::new();
    let full = opened(&folder, "full");
    let slave = full.slave.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&slave, true).unwrap();
    let mut slave = File::from(slave);
    // Until the FIFO, the task and the terminal hold all that they can: nothing more is taken for a
    // while.
    let mut idle = 0;
    while idle < 5 {
        match slave.write(&[b'x'; 4096]) {
            Ok(_) => idle = 0,
            Err(_) => idle += 1,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Opened {
        slave,
        io: _io,
        mut keyboard,
        screen,
    } = opened(&folder, "free");
    keyboard.write_all(b"still here\n").unwrap();
    assert_eq!(blocking(move || line(slave.into())).await, "still here\n");
    assert_eq!(blocking(move || line(screen)).await, "still here\r\n");
}

#[tokio::test]
async fn terminal_has_the_size_that_was_set() {
    let folder = Folder::new();
    let Opened { slave, io, .. } = opened(&folder, "a");
    io.resize(132, 43).unwrap();
    let size = rustix::termios::tcgetwinsize(&slave).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (132, 43));
}

#[tokio::test]
async fn resize_without_a_terminal_is_refused() {
    let (_stdio, io) = open(&Streams::default()).unwrap();
    let error = io.resize(80, 25).unwrap_err();
    assert!(matches!(error, IoError::NoTerminal));
    assert!(error.to_string().contains("no terminal"), "{error}");
}

#[tokio::test]
async fn terminal_without_destination_is_still_read() {
    let (stdio, io) = open(&Streams {
        terminal: true,
        ..Streams::default()
    })
    .unwrap();
    let mut slave = File::from(stdio.terminal.unwrap());
    blocking(move || slave.write_all(&vec![b'x'; 100_000]).unwrap()).await;
    tokio::time::timeout(TEST_TIMEOUT, io.drain())
        .await
        .unwrap();
}

#[tokio::test]
async fn background_process_on_the_terminal_delays_an_exit_only_briefly() {
    let folder = Folder::new();
    let Opened {
        slave,
        io,
        keyboard: _keyboard,
        screen,
    } = opened(&folder, "a");
    File::from(slave.try_clone().unwrap())
        .write_all(b"done\n")
        .unwrap();
    let shown = tokio::task::spawn_blocking(move || line(screen));
    let io = std::sync::Arc::new(io);
    let watcher = std::sync::Arc::clone(&io);
    tokio::time::timeout(
        Duration::from_secs(2),
        tokio::spawn(async move { watcher.drain().await }),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(shown.await.unwrap(), "done\r\n");
    drop(slave);
}
