//! Waiting for a condition: a deadline always, evidence when it passes.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` again and again until it gives a value; past `limit` fails with what `evidence` has
/// to say.
///
/// The condition is what ends the wait; the pause between two looks only bounds how busy the wait
/// is.
///
/// # Errors
/// When `ready` fails, or `limit` passes.
pub fn until<T>(
    what: impl Display,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
    evidence: impl FnOnce() -> String,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("waited {limit:?} for {what}\n{}", evidence());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
