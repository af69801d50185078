//! Rules of the standard streams, on real FIFOs.

use std::io::{Read as _, Write as _};

use rustix::fs::Mode;

use super::*;

fn fifo(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    path
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn no_name_means_no_stream_and_unknown_kinds_are_refused() {
    assert_eq!(location("stdout", "").unwrap(), None);
    assert_eq!(location("stdout", "/run/fifo").unwrap(), Some(PathBuf::from("/run/fifo")));
    assert_eq!(location("stdout", "file:///var/log/x").unwrap(), Some(PathBuf::from("/var/log/x")));
    let error = location("stdout", "binary:///bin/logger").unwrap_err().to_string();
    assert!(error.contains("binary:///bin/logger"), "{error}");
}

#[test]
fn input_arrives_whole_and_ends_once_both_ends_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdin");
    let runtime = runtime();
    let _guard = runtime.enter();
    let (end, mut input) = input(&path).unwrap();
    let writer = std::thread::spawn(move || {
        let mut writer = File::options().write(true).open(path).unwrap();
        writer.write_all(&vec![7; 300_000]).unwrap();
    });
    let mut end = File::from(end);
    let mut seen = vec![0; 300_000];
    end.read_exact(&mut seen).unwrap();
    writer.join().unwrap();
    rustix::io::ioctl_fionbio(&end, true).unwrap();
    assert_eq!(end.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "its writer is gone, ours is not");
    rustix::io::ioctl_fionbio(&end, false).unwrap();
    input.close();
    assert_eq!(end.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn input_ends_without_any_writer_once_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdin");
    let runtime = runtime();
    let _guard = runtime.enter();
    let (end, mut input) = input(&path).unwrap();
    input.close();
    assert_eq!(File::from(end).read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn output_needs_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdout");
    let mut out = File::from(output("stdout", &path).unwrap());
    out.write_all(b"kept in the pipe\n").unwrap();
}
