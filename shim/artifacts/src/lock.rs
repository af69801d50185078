//! The lock of a key: one compile of it on the node, over all hosts and restarts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::folder::{Folder, Locked, try_flock};
use crate::key::Key;
use crate::root::Folders;

/// The lock of a key, held until it is dropped or the process dies.
#[derive(Debug)]
pub struct KeyLock {
    pub(crate) key: Key,
    name: String,
    file: OwnedFd,
    folders: Arc<Folders>,
}

/// What a process does that finds a lock taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfHeld {
    Wait,
    GiveUp,
}

impl KeyLock {
    /// Takes the lock of a key. None if it is held and not waited for.
    pub(crate) fn take(
        folders: Arc<Folders>,
        key: Key,
        if_held: IfHeld,
    ) -> io::Result<Option<Self>> {
        let name = key.to_string();
        loop {
            let file = folders.locks.lock_file(&name)?;
            let locked = match if_held {
                IfHeld::Wait => wait(&file)?,
                IfHeld::GiveUp => try_flock(&file, FlockOperation::NonBlockingLockExclusive)?,
            };
            if locked == Locked::HeldByAnother {
                return Ok(None);
            }
            // Its former holder has removed the file while this process waited.
            if folders.locks.holds(&name, &file)? {
                return Ok(Some(Self {
                    key,
                    name,
                    file,
                    folders,
                }));
            }
        }
    }

    /// Returns the key.
    pub fn key(&self) -> Key {
        self.key
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While it is held: a process that opened the file before looks whether it is still there.
        if let Err(error) = self.folders.locks.unlink(&self.name) {
            tracing::debug!(key = %self.key, %error, "cannot remove the lock file of an artifact");
        }
        // Not only by closing: a process that was forked in between has the descriptor too.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn wait(file: &OwnedFd) -> io::Result<Locked> {
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(Locked::Yes),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes lock files that no process holds, and returns how many. They are left by processes that
/// were killed.
pub(crate) fn sweep(locks: &Folder) -> io::Result<usize> {
    let mut removed = 0;
    for name in locks.names()? {
        if name.parse::<Key>().is_err() {
            continue;
        }
        let Ok(file) = locks.lock_file(&name) else {
            continue;
        };
        let locked = try_flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if locked == Locked::Yes && locks.holds(&name, &file)? {
            locks.unlink(&name)?;
            removed += 1;
        }
    }
    Ok(removed)
}
