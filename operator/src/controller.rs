//! Watches the cluster, and reconciles each runtime when something changed: observe, plan, apply, status.
//!
//! One task feeds [`World`] from the watches and decides for every runtime with all of it: a budget is kept by one that
//! sees all nodes at once. Runtimes are few, and a plan is no more than a walk over the nodes.
//!
//! * `watch`: the watches, as one stream. * `act`: the actions of a plan, carried out. * `pace`: when to look again.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::ResourceExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::context::Context;
use crate::crd::WasmRuntime;
use crate::error::ApplyError;
use crate::observe::{Change, News, World};
use crate::plan::{Action, Plan, plan};
use crate::status::status;

mod watch;
mod act;
mod pace;

use pace::Pace;

/// How long an event waits for others: nodes that are changed side by side tell of it side by side, and one decision
/// serves them all.
const GATHERING: Duration = Duration::from_millis(50);

/// Watches and reconciles until `shutdown` is done. What was begun is finished first.
///
/// # Errors
/// When a watch ends for good.
pub async fn run(context: Context, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
    let mut news = watch::all(&context);
    let mut controller = Controller { context, world: World::default(), pace: Pace::default() };
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
            self.context.metrics.reconciled(began.elapsed(), outcome.as_ref().err());
            match outcome {
                Ok(plan) if plan.actions.is_empty() => self.pace.done(&name, plan.again),
                // What was done is no news when a watch tells of it, and the next step may follow from it: of this runtime,
                // or of one that waited for a node.
                Ok(_) => self.pace.acted(&name),
                Err(error) => {
                    tracing::warn!(runtime = name, category = error.category().as_str(), error = error.chain(), "reconcile failed");
                    self.pace.failed(&name, &error);
                }
            }
        }
        self.context.metrics.synced();
    }

    /// Observe, plan, apply, status.
    async fn reconcile(&mut self, runtime: &WasmRuntime) -> Result<Plan, ApplyError> {
        act::resolve_doubts(&self.context, &mut self.world).await?;
        let observed = self.world.observed(runtime, self.context.clock.now(), &self.context.settings.installer().image);
        let plan = plan(&observed);
        let applied = act::all(&self.context, &mut self.world, &observed, &plan).await;
        self.context.metrics.nodes(&runtime.name_any(), &plan.after);
        // A runtime that was let go has nobody left to be told.
        if plan.actions.contains(&Action::ReleaseFinalizer) {
            return applied.map(|()| plan);
        }
        let told = act::tell(&self.context, &mut self.world, &observed, &status(&observed, &plan)).await;
        applied.and(told).map(|()| plan)
    }
}
