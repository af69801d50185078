//! One line for each thing that happens, with the time it took.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Runs `work` and prints one line that names it and its duration; on failure the line says so.
pub fn step<T>(what: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    say(format_args!("{mark} {what} {}", seconds(started.elapsed())));
    result
}

/// Prints one line.
pub fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // A closed standard output (`| head`) is no reason to stop half-way through a cleanup.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// `duration` as people read it: `(0.34 s)`, `(12.3 s)`, `(4 min 05 s)`.
pub fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match duration.as_secs() {
        0..=9 => format!("({s:.2} s)"),
        10..=119 => format!("({s:.1} s)"),
        whole => format!("({} min {:02} s)", whole / 60, whole % 60),
    }
}

/// Says now and then that a long step is still alive; silent when it ends within the first
/// interval.
#[derive(Debug)]
pub struct Heartbeat {
    what: String,
    started: Instant,
    next: Duration,
}

impl Heartbeat {
    const INTERVAL: Duration = Duration::from_secs(15);

    /// Starts to watch over the step named `what`.
    pub fn new(what: impl Display) -> Self {
        Self {
            what: what.to_string(),
            started: Instant::now(),
            next: Self::INTERVAL,
        }
    }

    /// Called often; prints at most one line per interval, with `detail` (the command's last line
    /// of output).
    pub fn beat(&mut self, detail: &str) {
        let elapsed = self.started.elapsed();
        if elapsed < self.next {
            return;
        }
        self.next = elapsed + Self::INTERVAL;
        let detail: String = detail.trim().chars().take(width()).collect();
        say(format_args!(
            "  … {} {} {detail}",
            self.what,
            seconds(elapsed)
        ));
    }
}

/// Room for the detail of a heartbeat: a narrow column in a log, a wide one before a person.
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
    fn durations_read_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(340)), "(0.34 s)");
        assert_eq!(seconds(Duration::from_millis(12_340)), "(12.3 s)");
        assert_eq!(seconds(Duration::from_secs(245)), "(4 min 05 s)");
    }
}
