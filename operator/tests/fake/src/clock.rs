//! One time for the server, the simulated nodes and what is tested: always the same at the start,
//! so that a seed's story is told again as it was; then tokio's, which a test can pause so that
//! hours pass in no time.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A time that passes as tokio's does.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that shows the first moment of 2026.
    pub fn start() -> Self {
        let wall = Timestamp::from_second(1_767_225_600).expect("a time that can be told");
        Self {
            wall,
            start: Instant::now(),
        }
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        let passed =
            SignedDuration::try_from(self.start.elapsed()).expect("a test ends before time does");
        self.wall + passed
    }

    /// What it shows, as objects say times: whole seconds.
    pub fn text(&self) -> String {
        self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}
