//! The kernel's kills for want of memory in scopes, which systemd removes as soon as nobody is in
//! them.
//!
//! Then nobody can read any more how many there were. So one thread of this process, which begins
//! with the first scope, is told by inotify when the counters of one change, and keeps what it
//! reads. The kernel tells before the process ends, and systemd learns of its end by the same way;
//! which is why the thread comes first, if only just.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::files;

/// Room for some events; one takes sixteen bytes here.
const ROOM: usize = 1024;
/// How long a scope that was named is looked at again. The kernel tells of one file's changes every
/// 10 ms at most: where the limit was hit first and a process killed right after, the second change
/// is told when the scope may be gone.
const TROUBLE: Duration = Duration::from_millis(100);
/// How long it is left alone between two looks.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};

/// The counter of one scope, as it was last seen.
#[derive(Debug)]
pub(super) struct Kills {
    number: i32,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    file: PathBuf,
    kills: AtomicU64,
}

/// What the thread reads from, and what it reads for each number that inotify gave.
#[derive(Debug)]
struct Watch {
    inotify: OwnedFd,
    scopes: Mutex<HashMap<i32, Arc<Seen>>>,
}

/// The one of this process, if the kernel has one for it.
static WATCH: OnceLock<Option<Arc<Watch>>> = OnceLock::new();

impl Kills {
    /// Looks at the file `memory.events` from now on. None where that is impossible, which the log
    /// tells.
    pub(super) fn in_file(file: PathBuf) -> Option<Self> {
        let watch = WATCH
            .get_or_init(|| Watch::start().inspect_err(cannot).ok())
            .as_ref()?;
        let seen = Arc::new(Seen {
            file,
            kills: AtomicU64::new(0),
        });
        // The thread waits for us before it asks for a number that it does not know yet.
        let mut scopes = watch.scopes();
        let added = inotify::add_watch(&watch.inotify, &seen.file, WatchFlags::MODIFY);
        let number = added.inspect_err(|error| cannot(&(*error).into())).ok()?;
        scopes.insert(number, Arc::clone(&seen));
        Some(Self { number, seen })
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.seen.kills.load(Ordering::Acquire)
    }
}

impl Drop for Kills {
    fn drop(&mut self) {
        let Some(watch) = WATCH.get().and_then(Option::as_ref) else {
            return;
        };
        watch.scopes().remove(&self.number);
        // It is gone already if its file is.
        let _ = inotify::remove_watch(&watch.inotify, self.number);
    }
}

fn cannot(error: &std::io::Error) {
    tracing::warn!(%error, "the end of a container for want of memory may be told as another");
}

impl Watch {
    fn start() -> std::io::Result<Arc<Self>> {
        let watch = Arc::new(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC)?,
            scopes: Mutex::default(),
        });
        let own = Arc::clone(&watch);
        std::thread::Builder::new()
            .name("scopes".to_owned())
            .stack_size(64 << 10)
            .spawn(move || own.follow())?;
        Ok(watch)
    }

    fn scopes(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Arc<Seen>>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the counters of each scope that inotify names, for ever.
    fn follow(&self) {
        let mut room = [std::mem::MaybeUninit::uninit(); ROOM];
        let mut reader = inotify::Reader::new(&self.inotify, &mut room);
        // Scopes that were named, and until when they are looked at again by themselves.
        let mut troubled: HashMap<i32, Instant> = HashMap::new();
        loop {
            let pause = (!troubled.is_empty()).then_some(PAUSE);
            let named = if reader.is_buffer_empty() {
                poll(
                    &mut [PollFd::new(&self.inotify, PollFlags::IN)],
                    pause.as_ref(),
                )
            } else {
                Ok(1)
            };
            match named.and_then(|count| {
                if count > 0 {
                    reader.next().map(Some)
                } else {
                    Ok(None)
                }
            }) {
                Ok(Some(event)) => drop(troubled.insert(event.wd(), Instant::now() + TROUBLE)),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return cannot(&error.into()),
            }
            troubled.retain(|number, until| {
                self.look(*number);
                Instant::now() < *until
            });
        }
    }

    /// Reads the counters of a scope, if it is there.
    fn look(&self, number: i32) {
        let scope = self.scopes().get(&number).map(Arc::clone);
        let text = scope
            .as_ref()
            .and_then(|scope| files::read_if_there(&scope.file).ok().flatten());
        if let (Some(scope), Some(kills)) =
            (scope, text.and_then(|text| files::keyed(&text, "oom_kill")))
        {
            scope.kills.fetch_max(kills, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_counted_is_known_after_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let watched = files.each_ref().map(|file| {
            fs::write(file, "oom 0\noom_kill 0\n").unwrap();
            Kills::in_file(file.clone()).unwrap()
        });
        fs::write(&files[1], "oom 1\noom_kill 2\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while watched[1].count() == 0 {
            assert!(
                Instant::now() < deadline,
                "nobody has read {}",
                files[1].display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(&files[1]).unwrap();
        assert_eq!(watched.each_ref().map(Kills::count), [0, 2]);
    }
}
