//! One time for the server, the simulated nodes and what is tested: the wall's at the start, then tokio's, which a test
//! can pause so that hours pass in no time.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A time that passes as tokio's does.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that shows the wall's time now.
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), start: Instant::now() }
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).expect("a test ends before time does");
        self.wall + passed
    }

    /// What it shows, as objects say times: whole seconds.
    pub fn text(&self) -> String {
        self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}
