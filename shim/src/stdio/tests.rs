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
    assert_eq!(location("stdout", Path::new("")).unwrap(), None);
    assert_eq!(location("stdout", Path::new("/run/fifo")).unwrap(), Some(PathBuf::from("/run/fifo")));
    assert_eq!(location("stdout", Path::new("file:///var/log/x")).unwrap(), Some(PathBuf::from("/var/log/x")));
    let error = location("stdout", Path::new("binary:///bin/logger")).unwrap_err().to_string();
    assert!(error.contains("binary:///bin/logger"), "{error}");
}

#[test]
fn input_arrives_whole_and_ends_when_its_writer_closes() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdin");
    let runtime = runtime();
    let _guard = runtime.enter();
    let (end, _pump) = input(&path).unwrap();
    let writer = std::thread::spawn(move || {
        let mut writer = File::options().write(true).open(path).unwrap();
        writer.write_all(&vec![7; 300_000]).unwrap();
    });
    let mut seen = Vec::new();
    File::from(end).read_to_end(&mut seen).unwrap();
    writer.join().unwrap();
    assert_eq!(seen.len(), 300_000);
}

#[test]
fn input_does_not_end_before_a_writer_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdin");
    let runtime = runtime();
    let _guard = runtime.enter();
    let (end, pump) = input(&path).unwrap();
    rustix::io::ioctl_fionbio(&end, true).unwrap();
    let mut end = File::from(end);
    // Whatever the pump has done by now, the pipe must be open: reading would block.
    for _ in 0..20 {
        std::thread::yield_now();
        assert_eq!(end.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    drop(pump);
}

#[test]
fn output_needs_no_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path(), "stdout");
    let mut out = File::from(output("stdout", &path).unwrap());
    out.write_all(b"kept in the pipe\n").unwrap();
}
