//! The requeue schedule: a runtime is due at once after a change, after a backoff if it failed, and
//! at the time that its plan requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::crd::WasmRuntime;
use crate::error::ApplyError;

/// The longest interval between two reconciles. Changes cause events; this is a safety net.
const IDLE_INTERVAL: Duration = Duration::from_mins(5);

/// The interval between a plan with actions and the next one: actions that are repeated forever, by
/// mistake or because another client undoes them, stay cheap.
const ACTION_INTERVAL: Duration = Duration::from_millis(200);

/// The maximum delay from a change to the next reconcile of a runtime that failed.
const FAILED_CHANGE_DELAY: Duration = Duration::from_secs(10);

/// The time at which each runtime is due.
#[derive(Debug, Default)]
pub(super) struct RequeueSchedule {
    runtimes: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Instant,
    failures: u32,
}

impl RequeueSchedule {
    /// Makes every runtime due after a change, those that failed after a short delay. A failed
    /// action may fail again, but results and removals in the plan must not wait for the backoff.
    pub(super) fn mark_all_changed(&mut self) {
        let now = Instant::now();
        for entry in self.runtimes.values_mut() {
            entry.due = if entry.failures == 0 {
                now
            } else {
                entry.due.min(now + FAILED_CHANGE_DELAY)
            };
        }
    }

    /// Returns how often in a row `name` has failed.
    pub(super) fn failures(&self, name: &str) -> u32 {
        self.runtimes.get(name).map_or(0, |entry| entry.failures)
    }

    /// Adds new runtimes and removes others; returns the names of those that were removed.
    pub(super) fn sync(&mut self, runtimes: &[WasmRuntime]) -> Vec<String> {
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

    /// Whether `name` is due.
    pub(super) fn is_due(&self, name: &str) -> bool {
        self.runtimes
            .get(name)
            .is_some_and(|entry| entry.due <= Instant::now())
    }

    /// Returns the next time at which a runtime is due.
    pub(super) fn next_due(&self) -> Instant {
        let idle = Instant::now() + IDLE_INTERVAL;
        self.runtimes
            .values()
            .map(|entry| entry.due)
            .min()
            .map_or(idle, |due| due.min(idle))
    }

    /// Marks that `name` was reconciled without actions.
    pub(super) fn mark_done(&mut self, name: &str, requeue_after: Option<Duration>) {
        let due = Instant::now() + requeue_after.unwrap_or(IDLE_INTERVAL).min(IDLE_INTERVAL);
        self.runtimes
            .insert(name.to_owned(), Entry { due, failures: 0 });
    }

    /// Marks that actions of `name` were done: every runtime that did not fail is due shortly.
    pub(super) fn mark_acted(&mut self, name: &str) {
        let due = Instant::now() + ACTION_INTERVAL;
        self.runtimes
            .insert(name.to_owned(), Entry { due, failures: 0 });
        self.runtimes
            .values_mut()
            .filter(|entry| entry.failures == 0)
            .for_each(|entry| entry.due = entry.due.min(due));
    }

    /// Marks that `name` failed: the backoff grows with each failure.
    pub(super) fn mark_failed(&mut self, name: &str, error: &ApplyError) {
        let failures = self.runtimes.get(name).map_or(0, |entry| entry.failures);
        let due = Instant::now() + error.backoff(failures);
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
    async fn failed_runtime_backs_off_and_is_due_soon_after_a_change() {
        let mut schedule = RequeueSchedule::default();
        for _ in 0..9 {
            schedule.mark_failed("wasmedge", &refused());
        }
        assert_eq!(schedule.failures("wasmedge"), 9);
        assert!(schedule.next_due() > Instant::now() + FAILED_CHANGE_DELAY);
        schedule.mark_all_changed();
        assert!(!schedule.is_due("wasmedge"));
        assert_eq!(schedule.next_due(), Instant::now() + FAILED_CHANGE_DELAY);
        tokio::time::advance(FAILED_CHANGE_DELAY / 2).await;
        // Continuous changes do not postpone it.
        schedule.mark_all_changed();
        tokio::time::advance(FAILED_CHANGE_DELAY / 2).await;
        assert!(schedule.is_due("wasmedge"));
    }
}
