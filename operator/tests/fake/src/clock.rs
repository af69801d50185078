//! The clock of the server, the simulated nodes and the code under test. It starts at a fixed time,
//! so that a seed causes the same run again, and follows tokio's clock, which a test can pause.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that follows tokio's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    /// Creates a clock that starts with the year 2026.
    pub fn start() -> Self {
        let wall = Timestamp::from_second(1_767_225_600).expect("a valid time");
        Self {
            wall,
            start: Instant::now(),
        }
    }

    /// Returns the time.
    pub fn now(&self) -> Timestamp {
        let passed =
            SignedDuration::try_from(self.start.elapsed()).expect("a test ends before time does");
        self.wall + passed
    }

    /// Returns the time in the form of objects, in whole seconds.
    pub fn text(&self) -> String {
        self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}
