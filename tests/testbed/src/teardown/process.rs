//! A process that cannot be confused with a later one of the same pid.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A process, identified by its pid and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// Returns the process that has the pid `pid` now.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn of(pid: i32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, started })
    }

    /// Returns its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns whether it is alive; a dead process that is not yet reaped is not.
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Kills it; a process that is already gone is not an error.
    pub fn kill(&self) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }

    /// Ends the process group that it leads: SIGTERM, and SIGKILL for processes that are alive
    /// after `grace`.
    ///
    /// # Errors
    /// Fails if a process survives SIGKILL.
    pub fn end_group(&self, grace: Duration) -> Result<()> {
        let group = Pid::from_raw(-self.pid);
        let is_gone = || kill(group, None).is_err();
        let gone = || Ok(is_gone().then_some(()));
        if is_gone() {
            return Ok(());
        }
        let _ = kill(group, Signal::SIGTERM);
        if wait::until(
            format_args!("process group {} to end", self.pid),
            grace,
            gone,
            String::new,
        )
        .is_ok()
        {
            return Ok(());
        }
        let _ = kill(group, Signal::SIGKILL);
        wait::until(
            format_args!("the killed process group {} to be gone", self.pid),
            grace,
            gone,
            String::new,
        )
    }

    pub(super) fn to_text(self) -> String {
        format!("{} {}\n", self.pid, self.started)
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }
}

/// Returns the start time of the live process `pid`, in the kernel's clock ticks.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // proc(5) counts from 1: state is field 3, the start time field 22.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_record_is_read_back_as_written() {
        let this = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(this.is_alive());
        assert_eq!(Process::from_text(&this.to_text()), Some(this));
    }

    #[test]
    fn process_with_a_reused_pid_is_another_process() {
        let this = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(
            !Process {
                started: this.started + 1,
                ..this
            }
            .is_alive()
        );
    }
}
