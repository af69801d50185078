//! Waiting for the kernel, until a deadline.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::CgroupError;

/// The first pause between two looks. Each is twice as long as the one before it.
const FIRST: Duration = Duration::from_micros(200);
/// The longest: what is not over by then is not over soon.
const LONGEST: Duration = Duration::from_millis(10);

/// What a look at something shows.
pub(crate) enum Look<T> {
    /// It is as it should be.
    Done(T),
    /// It is not yet, and this is how it is.
    NotYet(String),
}

/// Looks until it is as it should be, at most for `limit`.
pub(crate) fn until<T>(
    limit: Duration,
    folder: &Path,
    state: &'static str,
    mut look: impl FnMut() -> Result<Look<T>, CgroupError>,
) -> Result<T, CgroupError> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST;
    loop {
        match look()? {
            Look::Done(done) => return Ok(done),
            Look::NotYet(evidence) if Instant::now() >= deadline => {
                return Err(CgroupError::TimedOut {
                    folder: folder.to_owned(),
                    state,
                    limit,
                    evidence,
                });
            }
            Look::NotYet(_) => thread::sleep(pause),
        }
        pause = LONGEST.min(pause * 2);
    }
}
