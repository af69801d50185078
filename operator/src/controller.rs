//! Watches the cluster, and reconciles each runtime when something changed: observe, plan, apply,
//! status.
//!
//! One task feeds [`World`] from the watches and decides for every runtime with all of it: a budget
//! is kept by one that sees all nodes at once. Runtimes are few, and a plan is no more than a walk
//! over the nodes.
//!
//! * `watch`: the watches, as one stream. * `act`: the actions of a plan, carried out. * `pace`:
//!   when to look again.

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
use crate::observe::{Change, News, World};
use crate::plan::{Action, Observed, Plan, plan};
use crate::status::status;

mod watch;
mod act;
mod pace;

use pace::Pace;

/// How long an event waits for others: nodes that are changed side by side tell of it side by side,
/// and one decision serves them all.
const GATHERING: Duration = Duration::from_millis(50);

/// How often in a row something may fail that passes by itself, before it is told.
const PASSING: u32 = 3;

/// Watches and reconciles until `shutdown` is done. What was begun is finished first.
///
/// # Errors
/// When a watch ends for good.
pub async fn run(context: Context, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
    let mut news = watch::all(&context);
    let mut controller = Controller {
        context,
        world: World::default(),
        pace: Pace::default(),
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let wake = controller.pace.next();
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            first = news.recv() => {
                let first = first.context("the watches have ended")?;
                tokio::time::sleep(GATHERING).await;
                controller.hear_all(first, &mut news);
            }
            () = tokio::time::sleep_until(wake) => {}
        }
        // A reconcile is not cut short: each of its steps is one call with a deadline of its own.
        controller.reconcile_all().await;
    }
}

struct Controller {
    context: Context,
    world: World,
    pace: Pace,
}

impl Controller {
    /// Takes in all that was said up to now, so that a burst of events is one decision.
    fn hear_all(&mut self, first: News, more: &mut mpsc::Receiver<News>) {
        let mut next = Some(first);
        while let Some(news) = next {
            if self.world.hear(news) == Change::Some {
                self.pace.all_changed();
            }
            next = more.try_recv().ok();
        }
    }

    async fn reconcile_all(&mut self) {
        if !self.world.is_complete() {
            return;
        }
        let runtimes: Vec<WasmRuntime> = self.world.runtimes.values().cloned().collect();
        for gone in self.pace.keep(&runtimes) {
            self.context.metrics.forget(&gone);
        }
        for runtime in &runtimes {
            let name = runtime.name_any();
            if !self.pace.is_due(&name) {
                continue;
            }
            let began = Instant::now();
            let outcome = self.reconcile(runtime).await;
            self.context
                .metrics
                .reconciled(began.elapsed(), outcome.as_ref().err());
            match outcome {
                Ok(plan) if plan.actions.is_empty() => self.pace.done(&name, plan.again),
                // What was done is no news when a watch tells of it, and the next step may follow
                // from it: of this runtime, or of one that waited for a node.
                Ok(_) => self.pace.acted(&name),
                Err(error) => {
                    tracing::warn!(
                        runtime = name,
                        category = error.category().as_str(),
                        error = error.chain(),
                        "reconcile failed"
                    );
                    self.pace.failed(&name, &error);
                }
            }
        }
        self.context.metrics.synced();
    }

    /// Observe, plan, apply, status.
    async fn reconcile(&mut self, runtime: &WasmRuntime) -> Result<Plan, ApplyError> {
        act::resolve_doubts(&self.context, &mut self.world).await?;
        let (observed, plan) = self.decide(runtime);
        let applied = act::all(&self.context, &mut self.world, &observed, &plan).await;
        // A runtime that was let go has nobody left to be told.
        if applied.is_ok() && plan.actions.contains(&Action::ReleaseFinalizer) {
            return Ok(plan);
        }
        let told = match &applied {
            Ok(()) => self.tell(&observed, &plan, None).await,
            Err(error) => {
                let trouble = self.trouble(runtime, error);
                // Some of it was done and some was not: told is what now is.
                let (observed, plan) = self.decide(runtime);
                self.tell(&observed, &plan.undone(&observed), trouble.as_deref())
                    .await
            }
        };
        applied.and(told).map(|()| plan)
    }

    fn decide(&self, runtime: &WasmRuntime) -> (Observed, Plan) {
        let newest = self
            .world
            .runtimes
            .get(&runtime.name_any())
            .unwrap_or(runtime);
        let observed = self.world.observed(
            newest,
            self.context.clock.now(),
            &installer_job::facts(&self.context.settings),
        );
        let plan = plan(&observed);
        (observed, plan)
    }

    /// What is said of a failure, if it is.
    fn trouble(&self, runtime: &WasmRuntime, error: &ApplyError) -> Option<String> {
        let mut conditions = runtime.status.iter().flat_map(|status| &status.conditions);
        let was_told =
            conditions.any(|condition| condition.reason == ConditionReason::ApiError.as_str());
        is_told(
            error.category(),
            self.pace.failures(&runtime.name_any()),
            was_told,
        )
        .then(|| bounded(error.chain()))
    }

    async fn tell(
        &mut self,
        observed: &Observed,
        plan: &Plan,
        trouble: Option<&str>,
    ) -> Result<(), ApplyError> {
        self.context
            .metrics
            .nodes(&observed.runtime.name_any(), &plan.after);
        act::tell(
            &self.context,
            &mut self.world,
            observed,
            &status(observed, plan, trouble),
        )
        .await
    }
}

/// Whether a failure that comes after so many others in a row is told. What is likely to pass is
/// not, at first; what was told stands until all goes well.
fn is_told(category: Category, before: u32, was_told: bool) -> bool {
    category.is_for_a_person() || was_told || before >= PASSING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_likely_to_pass_is_told_when_it_does_not() {
        for (category, before, was_told, expected) in [
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
                is_told(category, before, was_told),
                expected,
                "{category:?} after {before} failures"
            );
        }
    }
}
