//! Polling for a state of the kernel, with a timeout.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::CgroupError;

/// The interval between the first two probes. Each following interval is twice as long.
const INITIAL_INTERVAL: Duration = Duration::from_micros(200);
/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_millis(10);

/// The result of one probe.
pub(crate) enum Probe<T> {
    /// The state is reached.
    Done(T),
    /// The state is not reached; the text describes the present state.
    NotYet(String),
}

/// Probes until the state is reached, at most for `timeout`.
pub(crate) fn until<T>(
    timeout: Duration,
    folder: &Path,
    state: &'static str,
    mut probe: impl FnMut() -> Result<Probe<T>, CgroupError>,
) -> Result<T, CgroupError> {
    let deadline = Instant::now() + timeout;
    let mut interval = INITIAL_INTERVAL;
    loop {
        match probe()? {
            Probe::Done(done) => return Ok(done),
            Probe::NotYet(evidence) if Instant::now() >= deadline => {
                return Err(CgroupError::TimedOut {
                    folder: folder.to_owned(),
                    state,
                    timeout,
                    evidence,
                });
            }
            Probe::NotYet(_) => thread::sleep(interval),
        }
        interval = MAX_INTERVAL.min(interval * 2);
    }
}
