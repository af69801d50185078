//! Counts of OOM kills in systemd scopes, which systemd removes when their last process exits.
//!
//! After the removal the count cannot be read. So one thread per process, started with the first
//! scope, watches `memory.events` of all scopes through inotify and keeps the last counts. The
//! kernel notifies before the process exits, and systemd learns of the exit in the same way, so the
//! thread usually reads before systemd removes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::files;

/// Buffer for inotify events; one takes sixteen bytes here.
const EVENT_BUFFER_BYTES: usize = 1024;
/// How long a scope is polled after an event. The kernel reports changes of a file every 10 ms at
/// most: if the limit is hit and a process killed right after, the event of the second change may
/// come after the scope is removed.
const RECHECK_DURATION: Duration = Duration::from_millis(100);
/// Polling interval after an event.
const RECHECK_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};

/// The OOM kill counter of one scope.
#[derive(Debug)]
pub(super) struct OomCounter {
    number: i32,
    count: Arc<ScopeCount>,
}

#[derive(Debug)]
struct ScopeCount {
    file: PathBuf,
    kills: AtomicU64,
}

/// The inotify instance, and the scope of each watch descriptor.
#[derive(Debug)]
struct Watch {
    inotify: OwnedFd,
    scopes: Mutex<HashMap<i32, Arc<ScopeCount>>>,
}

/// The watch of this process; None if inotify is not available.
static WATCH: OnceLock<Option<Arc<Watch>>> = OnceLock::new();

impl OomCounter {
    /// Watches the file `memory.events`. Returns None, and logs the cause, if that fails.
    pub(super) fn watch(file: PathBuf) -> Option<Self> {
        let watch = WATCH
            .get_or_init(|| Watch::start().inspect_err(log_watch_failure).ok())
            .as_ref()?;
        let count = Arc::new(ScopeCount {
            file,
            kills: AtomicU64::new(0),
        });
        // The lock keeps the thread from looking up a descriptor that is not in the map yet.
        let mut scopes = watch.scopes();
        let added = inotify::add_watch(&watch.inotify, &count.file, WatchFlags::MODIFY);
        let number = added
            .inspect_err(|error| log_watch_failure(&(*error).into()))
            .ok()?;
        scopes.insert(number, Arc::clone(&count));
        Some(Self { number, count })
    }

    /// Returns the number of OOM kills so far.
    pub(super) fn count(&self) -> u64 {
        self.count.kills.load(Ordering::Acquire)
    }
}

impl Drop for OomCounter {
    fn drop(&mut self) {
        let Some(watch) = WATCH.get().and_then(Option::as_ref) else {
            return;
        };
        watch.scopes().remove(&self.number);
        // The kernel has removed the watch if the file is gone.
        let _ = inotify::remove_watch(&watch.inotify, self.number);
    }
}

fn log_watch_failure(error: &std::io::Error) {
    tracing::warn!(
        %error,
        "OOM kills may be reported as ordinary exits: cannot watch memory.events of scopes"
    );
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
            .spawn(move || own.run())?;
        Ok(watch)
    }

    fn scopes(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Arc<ScopeCount>>> {
        failures::lock_ignoring_poison(&self.scopes)
    }

    /// Reads the counters of each scope that inotify reports, forever.
    fn run(&self) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); EVENT_BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        // Scopes with a recent event, and until when each is polled.
        let mut recent: HashMap<i32, Instant> = HashMap::new();
        loop {
            let interval = (!recent.is_empty()).then_some(RECHECK_INTERVAL);
            let named = if reader.is_buffer_empty() {
                poll(
                    &mut [PollFd::new(&self.inotify, PollFlags::IN)],
                    interval.as_ref(),
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
                Ok(Some(event)) => {
                    recent.insert(event.wd(), Instant::now() + RECHECK_DURATION);
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return log_watch_failure(&error.into()),
            }
            recent.retain(|number, until| {
                self.read_counter(*number);
                Instant::now() < *until
            });
        }
    }

    /// Reads the counter of a scope, if it exists.
    fn read_counter(&self, number: i32) {
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
    fn oom_count_is_known_after_the_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let watched = files.each_ref().map(|file| {
            fs::write(file, "oom 0\noom_kill 0\n").unwrap();
            OomCounter::watch(file.clone()).unwrap()
        });
        fs::write(&files[1], "oom 1\noom_kill 2\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while watched[1].count() == 0 {
            assert!(
                Instant::now() < deadline,
                "{} was not read",
                files[1].display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(&files[1]).unwrap();
        assert_eq!(watched.each_ref().map(OomCounter::count), [0, 2]);
    }
}
