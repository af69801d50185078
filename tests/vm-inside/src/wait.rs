//! Waiting for a condition: a deadline always, evidence when it passes.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long things that happen by themselves may take. Every instruction is translated here, and
/// the machine that does it may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Asks `ready` again and again until it gives a value; past [`TIMEOUT`] fails with what `evidence`
/// has to say.
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
