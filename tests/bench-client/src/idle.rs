//! Idle containers, alone or each in a pod of its own, for measurements by the caller.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::containerd::Containerd;
use crate::cri::{self, Cri};
use crate::plan::{Form, Plan, Subject};
use crate::tasks;

/// Maximum number of concurrent starts and removals.
const MAX_CONCURRENT: usize = 4;
/// Prefix of their ids.
const PREFIX: &str = "idle-";

/// Starts the containers with these numbers for each subject.
pub(crate) async fn start(containerd: &Containerd, cri: &Cri, plan: &Plan) -> Result<()> {
    let (from, to) = plan.numbers;
    for subject in &plan.subjects {
        let ids = (from..to).map(|number| format!("{PREFIX}{}-{number}", subject.name));
        match plan.form {
            Form::Task => {
                let single = Plan {
                    subjects: vec![subject.clone()],
                    ..plan.clone()
                };
                let template = tasks::templates(containerd, &single)
                    .await?
                    .remove(&subject.name)
                    .context("the subject has no template")?;
                run_concurrently(ids, |id| {
                    let (containerd, template) = (containerd.clone(), template.clone());
                    async move {
                        let made = containerd.make(&template, &id).await?;
                        containerd.create(&made).await?;
                        containerd.start(&id).await
                    }
                })
                .await?;
            }
            Form::Pod => {
                run_concurrently(ids, |id| {
                    run_pod(cri.clone(), plan.clone(), subject.clone(), id)
                })
                .await?;
            }
        }
    }
    Ok(())
}

/// Removes everything that [`start`] started.
pub(crate) async fn clear(containerd: &Containerd, cri: &Cri) -> Result<()> {
    let exits = containerd.exits().await?;
    run_concurrently(containerd.made(PREFIX).await?.into_iter(), |made| {
        let (containerd, exit) = (containerd.clone(), exits.of(&made.id));
        async move {
            containerd.kill(&made.id).await?;
            exit.seen().await?;
            // The exit code of a killed program is irrelevant.
            containerd.delete(&made.id).await?;
            containerd.remove(&made).await
        }
    })
    .await?;
    run_concurrently(cri.sandboxes().await?.into_iter(), |id| {
        let cri = cri.clone();
        async move {
            cri.stop_sandbox(&id).await?;
            cri.remove_sandbox(&id).await
        }
    })
    .await
}

async fn run_pod(cri: Cri, plan: Plan, subject: Subject, name: String) -> Result<()> {
    let config = cri::pod(&name, plan.network, &plan.cgroup);
    let sandbox = cri.run_sandbox(&config, &subject.handler).await?;
    cri.run_container(&sandbox, config, &subject.image, &subject.words)
        .await
}

/// Runs `work` for each of `items` with limited concurrency; stops at the first failure.
async fn run_concurrently<T, F>(
    items: impl Iterator<Item = T>,
    mut work: impl FnMut(T) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut all = JoinSet::new();
    for item in items {
        let (places, work) = (Arc::clone(&places), work(item));
        all.spawn(async move {
            let _place = places
                .acquire_owned()
                .await
                .context("the semaphore is closed")?;
            work.await
        });
    }
    while let Some(one) = all.join_next().await {
        one.context("a task panicked")??;
    }
    Ok(())
}
