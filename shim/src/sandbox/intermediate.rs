//! Waiting, in a container's process, for libcontainer's intermediate process to have said who this one is.
//!
//! libcontainer forks twice: an intermediate process joins cgroups and namespaces, forks the container's process and
//! then reports its number; the container's process reports that it is ready. On a busy machine the second report can
//! come before the first, and libcontainer (0.6) then fails Create ("unexpected message: InitReady"), leaving the process
//! behind. So the process does not say that it is ready before every intermediate process of this host has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags};

/// What libcontainer calls an intermediate process, as the kernel shows it.
const NAME: &str = "(youki:[1:INTER])";
/// Longer than an intermediate process can live that still has something to report; libcontainer decides then.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(200);

/// A view of the host's children, opened where its `/proc` is still to be seen.
#[derive(Debug)]
pub(super) struct Intermediates {
    proc: OwnedFd,
    host: u32,
}

impl Intermediates {
    /// Called in the container's zygote, whose parent is the host.
    pub(super) fn of_the_host() -> io::Result<Self> {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { proc, host: std::os::unix::process::parent_id() })
    }

    /// Waits until none lives. Closes the view of `/proc`, which no guest may have.
    pub(super) fn wait(self) {
        let started = Instant::now();
        // A kernel without lists of children (CONFIG_PROC_CHILDREN) cannot be asked: then the order is left to chance.
        while self.one_lives().unwrap_or(false) && started.elapsed() < LIMIT {
            std::thread::sleep(PAUSE);
        }
    }

    fn one_lives(&self) -> io::Result<bool> {
        let threads = format!("{}/task", self.host);
        let folder = rustix::fs::openat(&self.proc, &threads, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for thread in Dir::new(folder)? {
            let thread = thread?.file_name().to_string_lossy().into_owned();
            if thread.starts_with('.') {
                continue;
            }
            // A thread that ended meanwhile has no children any more.
            let children = self.read(&format!("{threads}/{thread}/children")).unwrap_or_default();
            if children.split_whitespace().any(|child| self.read(&format!("{child}/stat")).is_ok_and(|stat| is_living_intermediate(&stat)))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let file = rustix::fs::openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(std::fs::File::from(file))
    }
}

/// From the line of `/proc/<pid>/stat`: `pid (name) state …` (proc(5)).
fn is_living_intermediate(stat: &str) -> bool {
    stat.split_once(NAME).is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_intermediate_process_is_waited_for() {
        assert!(is_living_intermediate("12 (youki:[1:INTER]) R 1 1"));
        assert!(is_living_intermediate("12 (youki:[1:INTER]) S 1 1"));
        assert!(!is_living_intermediate("12 (youki:[1:INTER]) Z 1 1"));
        assert!(!is_living_intermediate("12 (youki:[2:INIT]) S 1 1"));
    }

    #[test]
    fn a_process_without_such_children_is_not_waited_for() {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert!(!Intermediates { proc, host: std::process::id() }.one_lives().unwrap());
    }
}
