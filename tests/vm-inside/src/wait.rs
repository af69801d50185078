//! Waiting for a condition with a timeout, and with evidence when it expires.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Timeout of asynchronous changes. Every instruction is emulated, on a machine that may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Polls `ready` until it returns a value. After [`TIMEOUT`] it fails with `evidence`.
pub(crate) fn until<T>(
    what: impl Display,
    mut ready: impl FnMut() -> Result<Option<T>>,
    evidence: impl FnOnce() -> String,
) -> Result<T> {
    let started = Instant::now();
    let mut interval = Duration::from_millis(5);
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if started.elapsed() > TIMEOUT {
            bail!("waited {TIMEOUT:?} for {what}\n{}", evidence());
        }
        std::thread::sleep(interval);
        interval = (interval * 2).min(Duration::from_millis(200));
    }
}
