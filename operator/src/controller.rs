//! The controller: watches the cluster, and reconciles each runtime when something changed:
//! observe, plan, apply, status.
//!
//! One task applies watch events to [`ClusterState`] and plans for every runtime: to keep a budget,
//! a plan needs all nodes. Runtimes are few, and a plan is one pass over the nodes.
//!
//! * `watch`: the watches, as one stream.
//! * `carry_out`: the actions of a plan, applied to the cluster.
//! * `requeue`: the requeue schedule.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::ResourceExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::context::Context;
use crate::crd::{ConditionReason, WasmRuntime};
use crate::error::{ApplyError, Category};
use crate::events::bounded;
use crate::objects::installer_job;
use crate::observe::{Change, ClusterState, WatchEvent};
use crate::plan::{Action, Observed, Plan, plan};
use crate::status::status;

mod watch;
mod carry_out;
mod requeue;

use requeue::RequeueSchedule;

/// For how long a watch event waits for further ones: nodes that are changed at the same time cause
/// events at the same time, and one plan covers them all.
const EVENT_BATCH_INTERVAL: Duration = Duration::from_millis(50);

/// How many transient failures in a row are not reported in the status.
const MAX_UNREPORTED_FAILURES: u32 = 3;

/// Watches and reconciles until `shutdown` is done. A reconcile that was started is completed.
///
/// # Errors
/// When a watch ends for good.
pub async fn run(context: Context, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
    let mut events = watch::start_all(&context);
    let mut controller = Controller {
        context,
        cluster: ClusterState::default(),
        schedule: RequeueSchedule::default(),
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let wake = controller.schedule.next_due();
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            first = events.recv() => {
                let first = first.context("the watches have ended")?;
                tokio::time::sleep(EVENT_BATCH_INTERVAL).await;
                controller.apply_events(first, &mut events);
            }
            () = tokio::time::sleep_until(wake) => {}
        }
        // A reconcile is not cancelled: each of its steps is one call with its own timeout.
        controller.reconcile_all().await;
    }
}

struct Controller {
    context: Context,
    cluster: ClusterState,
    schedule: RequeueSchedule,
}

impl Controller {
    /// Applies all waiting events, so that a burst of events causes one plan.
    fn apply_events(&mut self, first: WatchEvent, more: &mut mpsc::Receiver<WatchEvent>) {
        let mut next = Some(first);
        while let Some(event) = next {
            if self.cluster.apply_event(event) == Change::Some {
                self.schedule.mark_all_changed();
            }
            next = more.try_recv().ok();
        }
    }

    async fn reconcile_all(&mut self) {
        if !self.cluster.is_complete() {
            return;
        }
        let runtimes: Vec<WasmRuntime> = self.cluster.runtimes.values().cloned().collect();
        for gone in self.schedule.sync(&runtimes) {
            self.context.metrics.remove_runtime(&gone);
        }
        for runtime in &runtimes {
            let name = runtime.name_any();
            if !self.schedule.is_due(&name) {
                continue;
            }
            let began = Instant::now();
            let outcome = self.reconcile(runtime).await;
            self.context
                .metrics
                .record_reconcile(began.elapsed(), outcome.as_ref().err());
            match outcome {
                Ok(plan) if plan.actions.is_empty() => {
                    self.schedule.mark_done(&name, plan.requeue_after);
                }
                // The watch events of our own writes are no changes, so the next steps are
                // scheduled here: of this runtime, or of one that waited for a node.
                Ok(_) => self.schedule.mark_acted(&name),
                Err(error) => {
                    tracing::warn!(
                        runtime = name,
                        category = error.category().as_str(),
                        error = error.chain(),
                        "cannot reconcile the WasmRuntime; it is tried again"
                    );
                    self.schedule.mark_failed(&name, &error);
                }
            }
        }
        self.context.metrics.set_synced();
    }

    /// Observe, plan, apply, status.
    async fn reconcile(&mut self, runtime: &WasmRuntime) -> Result<Plan, ApplyError> {
        carry_out::read_unconfirmed_writes(&self.context, &mut self.cluster).await?;
        let (observed, plan) = self.decide(runtime);
        let applied =
            carry_out::apply_all(&self.context, &mut self.cluster, &observed, &plan).await;
        // Without the finalizer, the object is gone and has no status.
        if applied.is_ok() && plan.actions.contains(&Action::ReleaseFinalizer) {
            return Ok(plan);
        }
        let written = match &applied {
            Ok(()) => self.write_status(&observed, &plan, None).await,
            Err(error) => {
                let error = self.error_to_report(runtime, error);
                // Some actions were done and some were not: the status shows what is now.
                let (observed, plan) = self.decide(runtime);
                self.write_status(
                    &observed,
                    &plan.without_actions(&observed),
                    error.as_deref(),
                )
                .await
            }
        };
        applied.and(written).map(|()| plan)
    }

    fn decide(&self, runtime: &WasmRuntime) -> (Observed, Plan) {
        let newest = self
            .cluster
            .runtimes
            .get(&runtime.name_any())
            .unwrap_or(runtime);
        let observed = self.cluster.observed(
            newest,
            self.context.clock.now(),
            &installer_job::facts(&self.context.settings),
        );
        let plan = plan(&observed);
        (observed, plan)
    }

    /// Returns the text of a failure, if it is to be reported in the status.
    fn error_to_report(&self, runtime: &WasmRuntime, error: &ApplyError) -> Option<String> {
        let mut conditions = runtime.status.iter().flat_map(|status| &status.conditions);
        let is_shown =
            conditions.any(|condition| condition.reason == ConditionReason::ApiError.as_str());
        is_reported(
            error.category(),
            self.schedule.failures(&runtime.name_any()),
            is_shown,
        )
        .then(|| bounded(error.chain()))
    }

    async fn write_status(
        &mut self,
        observed: &Observed,
        plan: &Plan,
        error: Option<&str>,
    ) -> Result<(), ApplyError> {
        self.context
            .metrics
            .set_nodes(&observed.runtime.name_any(), &plan.after);
        carry_out::write_status(
            &self.context,
            &mut self.cluster,
            observed,
            &status(observed, plan, error),
        )
        .await
    }
}

/// Whether a failure after `before` others in a row is reported. A transient one is not at first; a
/// status that shows a failure does so until a reconcile succeeds.
fn is_reported(category: Category, before: u32, is_shown: bool) -> bool {
    category.needs_intervention() || is_shown || before >= MAX_UNREPORTED_FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_failure_is_reported_if_it_persists() {
        for (category, before, is_shown, expected) in [
            (Category::Forbidden, 0, false, true),
            (Category::Invalid, 0, false, true),
            (Category::Foreign, 0, false, true),
            (Category::Conflict, 0, false, false),
            (Category::Unavailable, 2, false, false),
            (Category::Unavailable, 3, false, true),
            (Category::Throttled, 9, false, true),
            (Category::Conflict, 0, true, true),
        ] {
            assert_eq!(
                is_reported(category, before, is_shown),
                expected,
                "{category:?} after {before} failures"
            );
        }
    }
}
