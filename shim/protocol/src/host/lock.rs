//! The lock of a host's files: only root can open its file, so only root can hold it. Waiting has a
//! timeout.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::file::{FileError, if_found};

/// Longer than a launcher holds the lock: it waits at most a minute for the host that it started.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(90);
/// The mode of the lock file. A process that can open a file, even for reading, can lock it.
const MODE: u32 = 0o600;
/// The kernel's list of file locks.
const LOCKS: &str = "/proc/locks";

/// Locks the file at `path`; creates it if it is missing. Dropping the result unlocks it.
pub(super) fn lock(path: &Path, timeout: Duration) -> Result<File, FileError> {
    let failed = |error: io::Error| FileError::new("lock", path, error);
    let deadline = Instant::now() + timeout;
    loop {
        let file = wait(open(path).map_err(failed)?, deadline, timeout).map_err(failed)?;
        // The former holder may have removed the file; the name then stands for another file, or
        // for none.
        let ours = file.metadata().map_err(failed)?;
        match if_found(fs::symlink_metadata(path)).map_err(failed)? {
            Some(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(file);
            }
            _ => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE)
        .custom_flags(flags)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file: remove it"));
    }
    // Earlier builds created files that every user could read.
    if found.mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// Waits in a thread, so that a launcher continues as soon as the lock is free.
fn wait(file: File, deadline: Instant, timeout: Duration) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (device, inode) = file.metadata().map(|found| (found.dev(), found.ino()))?;
    let (sender, receiver) = mpsc::channel();
    let waiter = move || {
        let locked = file.lock().map(|()| file);
        // After a timeout the receiver is gone; dropping the file here unlocks it.
        let _ = sender.send(locked);
    };
    thread::Builder::new()
        .name("lock".to_owned())
        .spawn(waiter)?;
    receiver
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .unwrap_or_else(|_| {
            let holder = match fs::read_to_string(LOCKS)
                .ok()
                .and_then(|locks| holder(&locks, device, inode))
            {
                Some(pid) => {
                    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    format!(
                        "process {pid} ({}) holds the lock",
                        name.trim().escape_debug()
                    )
                }
                None => format!("another process, which {LOCKS} does not show, holds the lock"),
            };
            let seconds = timeout.as_secs();
            Err(io::Error::new(
                ErrorKind::TimedOut,
                format!(
                    "{holder} for more than {seconds} s: end \
                                                         that process if it hangs, and try again"
                ),
            ))
        })
}

/// Finds the process that holds the lock on a file in the kernel's list: `1: FLOCK ADVISORY WRITE
/// 123 00:1a:456 0 EOF`. Lines of waiters have an arrow after the number.
fn holder(locks: &str, device: u64, inode: u64) -> Option<i32> {
    let file = format!(
        "{:02x}:{:02x}:{inode}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    locks
        .lines()
        .find_map(|line| match *line.split_whitespace().collect::<Vec<_>>() {
            [_, "FLOCK", _, _, pid, found, ..] if found == file => {
                pid.parse().ok().filter(|&pid| pid > 0)
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn lock_file_is_private_even_if_an_earlier_build_created_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        drop(lock(&path, LOCK_TIMEOUT).unwrap());
        assert_eq!(mode(&path), MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(lock(&path, LOCK_TIMEOUT).unwrap());
        assert_eq!(mode(&path), MODE);
    }

    #[test]
    fn lock_timeout_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let held = lock(&path, LOCK_TIMEOUT).unwrap();
        let error = lock(&path, Duration::from_millis(10)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            error.kind() == ErrorKind::TimedOut && error.to_string().contains("x.lock"),
            "{error}"
        );
        assert!(
            cause.contains(&format!("process {} (", std::process::id()))
                && cause.contains("end that process"),
            "{cause}"
        );
        drop(held);
        // The thread that still waits unlocks the file at once.
        drop(lock(&path, LOCK_TIMEOUT).unwrap());
    }

    #[test]
    fn lock_does_not_follow_links_or_open_fifos() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link.lock");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        lock(&link, LOCK_TIMEOUT).unwrap_err();
        assert!(!folder.path().join("elsewhere").exists());
        let fifo = folder.path().join("fifo.lock");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        lock(&fifo, LOCK_TIMEOUT).unwrap_err();
    }

    #[test]
    fn holder_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1a:456 0 EOF\n2: FLOCK  ADVISORY  WRITE 22 \
                     00:1a:45 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 33 00:1a:456 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 44 \
                     00:1a:456 0 EOF\n";
        assert_eq!(holder(locks, rustix::fs::makedev(0, 0x1a), 456), Some(33));
        assert_eq!(holder(locks, rustix::fs::makedev(8, 1), 456), None);
        // A process outside this pid namespace has the number 0 there.
        assert_eq!(
            holder(
                "1: FLOCK  ADVISORY  WRITE 0 00:1a:456 0 EOF",
                rustix::fs::makedev(0, 0x1a),
                456
            ),
            None
        );
    }
}
