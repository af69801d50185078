//! The compilations of a host. One for each artifact at a time on the node: starts that need the
//! same one wait for the same job, and the lock of its key covers other hosts.
//!
//! Two lanes keep a start from waiting behind work in the background: a job is in the lane of the
//! starts if one waits for it when it begins. Each lane runs as many helpers at once as the option
//! `compileJobs` allows.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artifact_store::{
    Draft, DraftSpace, EngineName, Failed, Key, KeyInputs, KeyLock, Made, Store, StoreError, Tier,
};
use guest_compiler::{
    Backend, CompileError, CompileRequest, Compiler, Compiling, Limits, Outcome, Stop, Usage,
};
use runtime_options::CgroupDriver;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::blocking::{blocking_set_up, in_own_thread};
use crate::engine::Wasmtime;
use crate::error::CreateError;
use crate::process;
use crate::text::chain;
use crate::workload::{Bytes, Form, GuestModule};

/// When a helper is looked at, after its start. It has read its module by then.
const STALL_CHECK: Duration = Duration::from_mins(1);
/// Processor time that a helper has used by then even at the lowest priority on a busy node; its
/// start takes a fifth of it.
const STALLED_CPU: Duration = Duration::from_millis(250);

/// The compilations of a host.
pub(crate) struct Jobs {
    compiler: Compiler,
    /// Unfinished jobs.
    running: Mutex<HashMap<JobId, Ticket>>,
    starts: Lane,
    background: Lane,
    count: watch::Sender<usize>,
}

/// A receiver of a job's result.
pub(crate) type Ticket = watch::Receiver<Option<Finished>>;

/// The store, by its address, and the key.
type JobId = (usize, Key);

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The store has the artifact.
    Stored,
    /// The module cannot be compiled, for this reason; the store remembers it.
    Failed(String),
    /// The node failed, for this reason. The next start tries again.
    Unavailable(String),
}

/// The lane of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A start waits for it.
    Start,
    /// Nothing waits for it.
    Background,
}

/// An artifact to make.
#[derive(Clone)]
pub(crate) struct Job {
    /// The store that gets it.
    pub(crate) store: Arc<Store>,
    /// What its key is made of.
    pub(crate) inputs: KeyInputs,
    /// The tiers to make after it, in this order, in the background.
    pub(crate) next: Vec<Tier>,
    /// The module.
    pub(crate) module: GuestModule,
    /// The limits of the compilation.
    pub(crate) limits: Limits,
    /// Maximum number of helpers in a lane.
    pub(crate) max_helpers: usize,
    /// What makes the helper's cgroup.
    pub(crate) cgroup_driver: CgroupDriver,
}

impl Jobs {
    pub(crate) fn new(compiler: Compiler) -> Self {
        Self {
            compiler,
            running: Mutex::default(),
            starts: Lane::default(),
            background: Lane::default(),
            count: watch::Sender::new(0),
        }
    }

    /// Returns the number of unfinished jobs, and its changes.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Starts a job, or joins the one that makes the same artifact.
    pub(crate) fn start(self: &Arc<Self>, job: Job, urgency: Urgency) -> Ticket {
        let id = (Arc::as_ptr(&job.store).addr(), job.inputs.key());
        let mut running = failures::lock_ignoring_poison(&self.running);
        if let Some(ticket) = running.get(&id) {
            return ticket.clone();
        }
        let (sender, ticket) = watch::channel(None);
        running.insert(id, ticket.clone());
        self.count.send_replace(running.len());
        drop(running);
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            // Removed also if the job panics: its ticket has no result then.
            let unfinished = Unfinished { jobs: &jobs, id };
            let finished = jobs.run(job, urgency).await;
            sender.send_replace(Some(finished));
            drop(unfinished);
        });
        ticket
    }

    async fn run(self: &Arc<Self>, job: Job, urgency: Urgency) -> Finished {
        let (made, copy) = match self.make(job.clone(), urgency).await {
            Ok(made) => made,
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(
                    module = job.module.origin,
                    engine = %job.inputs.engine,
                    tier = %job.inputs.tier,
                    "cannot compile for now: {reason}"
                );
                return Finished::Unavailable(reason);
            }
        };
        if made == Finished::Stored && !job.next.is_empty() {
            let mut better = job;
            better.inputs.tier = better.next.remove(0);
            if let Some(copy) = copy {
                better.module.bytes = Bytes::Memory(Arc::new(copy.into()));
            }
            self.start(better, Urgency::Background);
        }
        made
    }

    /// Makes the artifact, unless another host does or did. Returns a copy of the module's bytes if
    /// a later job needs them and their file is the container's.
    async fn make(
        self: &Arc<Self>,
        job: Job,
        urgency: Urgency,
    ) -> Result<(Finished, Option<OwnedFd>), JobError> {
        let lock = lock(&job).await?;
        if let Some(finished) = known(&job).await? {
            return Ok((finished, None));
        }
        let lane = match urgency {
            Urgency::Start => &self.starts,
            Urgency::Background => &self.background,
        };
        let _place = lane.enter(job.max_helpers).await;
        let (this, in_thread) = (Arc::clone(self), job.clone());
        let (compiling, lock, draft, copy) = blocking(move || {
            let draft = in_thread.store.draft(&lock, space(&in_thread))?;
            let copy = copy_of(&in_thread)?;
            let request = request(&in_thread, &draft, copy.as_ref())?;
            Ok((this.compiler.start(request)?, lock, draft, copy))
        })
        .await?;
        tracing::info!(
            module = job.module.origin,
            engine = %job.inputs.engine,
            tier = %job.inputs.tier,
            pid = compiling.pid(),
            "compiling"
        );
        let compiling = ended(compiling).await?;
        blocking(move || Ok((finish(&job, compiling, lock, draft)?, copy))).await
    }
}

/// A job that is counted. Dropping it ends the count.
struct Unfinished<'a> {
    jobs: &'a Jobs,
    id: JobId,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut running = failures::lock_ignoring_poison(&self.jobs.running);
        running.remove(&self.id);
        self.jobs.count.send_replace(running.len());
    }
}

/// A job could not be done, for a reason that is not the module's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The helper could not be started, or the node stopped it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The helper does nothing: a file system of the container does not answer.
    #[error(
        "the module cannot be read: no answer within {} s (helper {pid}); check the servers of the \
         pod's volumes (FUSE, NFS)",
        STALL_CHECK.as_secs()
    )]
    Stalled {
        /// The helper.
        pid: u32,
    },
    /// A thread failed, or there was none.
    #[error(transparent)]
    Host(#[from] CreateError),
    /// The host has no descriptor left.
    #[error("the host can open no more files")]
    Descriptors(#[from] std::io::Error),
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    blocking_set_up(move || Ok(work())).await?
}

/// Takes the lock of the job's key. Another host may hold it as long as it compiles, so the wait
/// has a thread of its own.
async fn lock(job: &Job) -> Result<KeyLock, JobError> {
    let (store, key) = (Arc::clone(&job.store), job.inputs.key());
    let free = blocking(move || Ok(store.try_lock(&key)?)).await?;
    if let Some(lock) = free {
        return Ok(lock);
    }
    tracing::debug!(module = job.module.origin, "another host compiles it");
    let store = Arc::clone(&job.store);
    in_own_thread(move || Ok::<_, JobError>(store.lock(&key)?)).await
}

/// Returns what the store has of the job's key by now.
async fn known(job: &Job) -> Result<Option<Finished>, JobError> {
    let (store, key) = (Arc::clone(&job.store), job.inputs.key());
    blocking(move || {
        if store.find(&key)?.is_some() {
            return Ok(Some(Finished::Stored));
        }
        let failure = store.failure(&key)?;
        Ok(failure.map(|failure| Finished::Failed(failure.reason)))
    })
    .await
}

fn space(job: &Job) -> DraftSpace {
    DraftSpace {
        max_bytes: job.limits.output,
        uid: guest_compiler::protocol::HELPER_USER,
        gid: guest_compiler::protocol::HELPER_USER,
    }
}

/// Makes the file that gets a copy of the module, if a later job needs one.
fn copy_of(job: &Job) -> Result<Option<OwnedFd>, JobError> {
    match &job.module.bytes {
        Bytes::File { .. } if !job.next.is_empty() => Ok(Some(job.store.scratch()?.into())),
        Bytes::File { .. } | Bytes::Memory(_) => Ok(None),
    }
}

fn request(job: &Job, draft: &Draft, copy: Option<&OwnedFd>) -> Result<CompileRequest, JobError> {
    let backend = match (job.inputs.engine, job.inputs.tier) {
        (EngineName::WasmEdge, Tier::Baseline) => Backend::WasmEdge(guest_compiler::Tier::Baseline),
        (EngineName::WasmEdge, Tier::Optimized) => {
            Backend::WasmEdge(guest_compiler::Tier::Optimized)
        }
        (EngineName::Wasmtime, _) => Backend::Wasmtime,
    };
    let form = match job.module.form {
        Form::Binary => guest_compiler::Form::Binary,
        Form::Text => guest_compiler::Form::Text,
    };
    let module = match &job.module.bytes {
        Bytes::Memory(file) => file.as_fd().try_clone_to_owned()?,
        Bytes::File { path, .. } => path.try_clone()?,
    };
    Ok(CompileRequest {
        backend,
        build: Wasmtime::build(),
        module,
        form,
        origin: job.module.origin.clone(),
        sha256: *job.inputs.module.as_bytes(),
        max_module_bytes: job.module.form.max_bytes(),
        copy_to: copy.map(OwnedFd::try_clone).transpose()?,
        draft: draft.folder().try_clone_to_owned()?,
        limits: job.limits,
        cgroup_driver: job.cgroup_driver,
    })
}

/// Waits until the helper has ended; stops it at its deadline, or when it stalls.
async fn ended(mut compiling: Compiling) -> Result<Compiling, JobError> {
    let pidfd = process::readable(compiling.pidfd())?;
    let deadline = Instant::from_std(compiling.deadline());
    let pid = compiling.pid();
    let stalled = async {
        tokio::time::sleep(STALL_CHECK).await;
        if cpu_time(pid).is_none_or(|used| used >= STALLED_CPU) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ready = pidfd.readable() => drop(ready?),
        () = tokio::time::sleep_until(deadline) => {
            compiling.stop(Stop::Deadline);
            drop(pidfd.readable().await?);
        }
        () = stalled => {
            compiling.stop(Stop::Cancelled);
            drop(pidfd.readable().await?);
            return Err(JobError::Stalled { pid });
        }
    }
    drop(pidfd);
    Ok(compiling)
}

/// Returns the processor time of a process's first thread; none if it has ended.
fn cpu_time(pid: u32) -> Option<Duration> {
    let times = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = times.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Publishes the result of a helper that has ended, or remembers its failure.
fn finish(
    job: &Job,
    compiling: Compiling,
    lock: KeyLock,
    draft: Draft,
) -> Result<Finished, JobError> {
    let failed = |reason: String| Failed {
        inputs: job.inputs.clone(),
        module_name: job.module.origin.clone(),
        reason,
    };
    let remember = |lock: &KeyLock, reason: String| {
        tracing::warn!(module = job.module.origin, "{reason}");
        job.store.remember_failure(lock, failed(reason.clone()))?;
        Ok(Finished::Failed(reason))
    };
    match compiling.finish()? {
        Outcome::Failed(failed) => remember(&lock, failed.reason),
        Outcome::Compiled(Usage { cpu, peak }) => {
            let made = Made {
                inputs: job.inputs.clone(),
                module_name: job.module.origin.clone(),
                compile_cpu_ms: milliseconds(cpu),
                compile_peak_bytes: peak,
            };
            let artifact = match job.store.publish(lock, draft, made) {
                Err(StoreError::BadDraft(reason)) => {
                    let lock = job.store.lock(&job.inputs.key())?;
                    return remember(&lock, StoreError::BadDraft(reason).to_string());
                }
                published => published?,
            };
            tracing::info!(
                module = job.module.origin,
                engine = %job.inputs.engine,
                tier = %job.inputs.tier,
                artifact = %artifact.record().key,
                cpu_ms = milliseconds(cpu),
                peak_mib = peak >> 20,
                "compiled"
            );
            Ok(Finished::Stored)
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A queue for helpers.
#[derive(Debug, Default)]
struct Lane {
    running: Arc<Mutex<usize>>,
    left: Arc<Notify>,
}

/// A place of a helper in its lane, until it is dropped.
struct Place {
    running: Arc<Mutex<usize>>,
    left: Arc<Notify>,
}

impl Lane {
    /// Waits until fewer than `max` helpers run in this lane.
    async fn enter(&self, max: usize) -> Place {
        loop {
            let left = self.left.notified();
            if self.try_enter(max) {
                return Place {
                    running: Arc::clone(&self.running),
                    left: Arc::clone(&self.left),
                };
            }
            left.await;
        }
    }

    fn try_enter(&self, max: usize) -> bool {
        let mut running = failures::lock_ignoring_poison(&self.running);
        let enters = *running < max;
        *running += usize::from(enters);
        enters
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *failures::lock_ignoring_poison(&self.running) -= 1;
        self.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lane_holds_as_many_helpers_as_the_option_of_the_next_one_allows() {
        let lane = Arc::new(Lane::default());
        let first = lane.enter(1).await;
        let second = lane.enter(2).await;
        let waiting = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { drop(lane.enter(1).await) }
        });
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
