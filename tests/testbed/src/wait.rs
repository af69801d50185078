//! Waiting for a condition with a timeout, and with evidence when it expires.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls `ready` until it returns a value. After `timeout` it fails with `evidence`.
///
/// The condition ends the wait; the interval between two polls only limits the load.
///
/// # Errors
/// Fails if `ready` fails, or `timeout` expires.
pub fn until<T>(
    what: impl Display,
    timeout: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
    evidence: impl FnOnce() -> String,
) -> Result<T> {
    let started = Instant::now();
    let mut interval = Duration::from_millis(2);
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if started.elapsed() > timeout {
            bail!("waited {timeout:?} for {what}\n{}", evidence());
        }
        std::thread::sleep(interval);
        interval = (interval * 2).min(Duration::from_millis(100));
    }
}
