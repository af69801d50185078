//! When to look at each runtime again: at once when something changed, later after a failure, at a
//! deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::crd::WasmRuntime;
use crate::error::ApplyError;

/// Nobody has to be looked at before an event comes; a look now and then costs nothing.
const IDLE: Duration = Duration::from_mins(5);

/// Between a decision that changed something and the next one: also what is done again and again,
/// by mistake or against somebody who undoes it, costs little.
const MOMENT: Duration = Duration::from_millis(200);

/// From a change to the next look at a runtime that failed.
const SOON: Duration = Duration::from_secs(10);

/// When each runtime is due.
#[derive(Debug, Default)]
pub(super) struct Pace {
    runtimes: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Instant,
    failures: u32,
}

impl Pace {
    /// Something changed: everyone is due, and whoever failed soon. What failed may do so again;
    /// the rest of a plan hears and takes back, and must not wait for it.
    pub(super) fn all_changed(&mut self) {
        let now = Instant::now();
        for entry in self.runtimes.values_mut() {
            entry.due = if entry.failures == 0 {
                now
            } else {
                entry.due.min(now + SOON)
            };
        }
    }

    /// How often in a row `name` has failed.
    pub(super) fn failures(&self, name: &str) -> u32 {
        self.runtimes.get(name).map_or(0, |entry| entry.failures)
    }

    /// Makes every runtime known, and gives back the names of those that are gone.
    pub(super) fn keep(&mut self, runtimes: &[WasmRuntime]) -> Vec<String> {
        let names: BTreeSet<String> = runtimes.iter().map(kube::ResourceExt::name_any).collect();
        for name in &names {
            self.runtimes.entry(name.clone()).or_insert_with(|| Entry {
                due: Instant::now(),
                failures: 0,
            });
        }
        self.runtimes
            .extract_if(.., |name, _| !names.contains(name))
            .map(|(name, _)| name)
            .collect()
    }

    /// Whether it is time to look at `name`.
    pub(super) fn is_due(&self, name: &str) -> bool {
        self.runtimes
            .get(name)
            .is_some_and(|entry| entry.due <= Instant::now())
    }

    /// The next time that somebody is due.
    pub(super) fn next(&self) -> Instant {
        let idle = Instant::now() + IDLE;
        self.runtimes
            .values()
            .map(|entry| entry.due)
            .min()
            .map_or(idle, |due| due.min(idle))
    }

    /// All went well; `again` is when the plan wants to be made again.
    pub(super) fn done(&mut self, name: &str, again: Option<Duration>) {
        let due = Instant::now() + again.unwrap_or(IDLE).min(IDLE);
        self.runtimes
            .insert(name.to_owned(), Entry { due, failures: 0 });
    }

    /// Something was done: everyone is due in a moment, but whoever failed waits all the same.
    pub(super) fn acted(&mut self, name: &str) {
        let due = Instant::now() + MOMENT;
        self.runtimes
            .insert(name.to_owned(), Entry { due, failures: 0 });
        self.runtimes
            .values_mut()
            .filter(|entry| entry.failures == 0)
            .for_each(|entry| entry.due = entry.due.min(due));
    }

    /// It failed: the next try waits, longer with each failure.
    pub(super) fn failed(&mut self, name: &str, error: &ApplyError) {
        let failures = self.runtimes.get(name).map_or(0, |entry| entry.failures);
        let due = Instant::now() + error.delay(failures);
        self.runtimes.insert(
            name.to_owned(),
            Entry {
                due,
                failures: failures.saturating_add(1),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::error::{Category, Cause};

    fn refused() -> ApplyError {
        let source = Cause::Refusal(Status::failure("no", "Forbidden").with_code(403).boxed());
        ApplyError::Api {
            operation: "do it".to_owned(),
            category: Category::Forbidden,
            source,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_failed_waits_longer_each_time_and_is_looked_at_soon_after_a_change() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.failed("wasmedge", &refused());
        }
        assert_eq!(pace.failures("wasmedge"), 9);
        assert!(pace.next() > Instant::now() + SOON);
        pace.all_changed();
        assert!(!pace.is_due("wasmedge"));
        assert_eq!(pace.next(), Instant::now() + SOON);
        tokio::time::advance(SOON / 2).await;
        // A cluster that changes all the time does not put it off.
        pace.all_changed();
        tokio::time::advance(SOON / 2).await;
        assert!(pace.is_due("wasmedge"));
    }
}
