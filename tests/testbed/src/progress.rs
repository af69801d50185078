//! Progress lines: one line for each step, with its duration.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Runs `work` and prints one line with its name, duration and, on failure, the fact that it
/// failed.
pub fn step<T>(what: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    print_line(format_args!("{mark} {what} {}", seconds(started.elapsed())));
    result
}

/// Prints one line to standard output.
pub fn print_line(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // A closed standard output (`| head`) must not stop a clean-up half-way.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Formats `duration` for readers: `(0.34 s)`, `(12.3 s)`, `(4 min 05 s)`.
pub fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match duration.as_secs() {
        0..=9 => format!("({s:.2} s)"),
        10..=119 => format!("({s:.1} s)"),
        whole => format!("({} min {:02} s)", whole / 60, whole % 60),
    }
}

/// Reports at intervals that a long step is still running; silent if the step ends within the first
/// interval.
#[derive(Debug)]
pub struct Heartbeat {
    what: String,
    started: Instant,
    next: Duration,
}

impl Heartbeat {
    const INTERVAL: Duration = Duration::from_secs(15);

    /// Starts the heartbeat of the step `what`.
    pub fn new(what: impl Display) -> Self {
        Self {
            what: what.to_string(),
            started: Instant::now(),
            next: Self::INTERVAL,
        }
    }

    /// Prints at most one line per interval, with `detail` (the command's last line of output),
    /// however often it is called.
    pub fn beat(&mut self, detail: &str) {
        let elapsed = self.started.elapsed();
        if elapsed < self.next {
            return;
        }
        self.next = elapsed + Self::INTERVAL;
        let detail: String = detail.trim().chars().take(width()).collect();
        print_line(format_args!(
            "  … {} {} {detail}",
            self.what,
            seconds(elapsed)
        ));
    }
}

/// Returns the width of a heartbeat's detail: narrow in a log, wide in a terminal.
fn width() -> usize {
    if std::io::stdout().is_terminal() {
        60
    } else {
        100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_formatted_in_seconds_or_minutes() {
        assert_eq!(seconds(Duration::from_millis(340)), "(0.34 s)");
        assert_eq!(seconds(Duration::from_millis(12_340)), "(12.3 s)");
        assert_eq!(seconds(Duration::from_secs(245)), "(4 min 05 s)");
    }
}
