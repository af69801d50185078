//! The timeouts of installers, and the backoff between two attempts on a node.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::observed::Observed;

/// Automatic attempts after failures that may be transient.
pub(super) const MAX_ATTEMPTS: u32 = 6;
/// For how long after a node became Ready its list of handlers may be that of the previous
/// containerd.
pub(super) const HANDLER_LIST_DELAY: Duration = Duration::from_secs(30);
/// The backoff after the first attempt; doubled with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// After how long a pod that has not started is reported, if Kubernetes gives no reason.
pub(super) const POD_START_TIMEOUT: Duration = Duration::from_secs(50);
/// Time after its deadline until the end of a Job is seen: Kubernetes kills the pod, and the
/// kubelet reports it.
const JOB_END_GRACE: Duration = Duration::from_mins(2);

/// The message of an installer that is abandoned because its Job does not exist.
pub(super) const JOB_MISSING: &str = "the timeout passed and the Job does not exist: it could \
                                      not be created, or it was deleted; see the condition \
                                      Degraded of the WasmRuntime for the API server's answer";

/// Returns how long one installer may run.
pub(super) fn installer_timeout(observed: &Observed) -> Duration {
    Duration::from_secs(observed.runtime.spec.rollout.node_timeout_seconds.into())
}

/// Returns the time of the next attempt after attempt number `attempts` failed now.
pub(super) fn next_attempt(observed: &Observed, attempts: u32) -> Timestamp {
    let backoff = FIRST_BACKOFF
        .saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)))
        .min(MAX_BACKOFF);
    add(observed.now, backoff)
}

/// Returns `since` plus `delay`, or now plus `delay` if `since` is unknown.
pub(super) fn after(since: Option<&Time>, now: Timestamp, delay: Duration) -> Timestamp {
    add(since.map_or(now, |Time(since)| *since), delay)
}

pub(super) fn add(time: Timestamp, delay: Duration) -> Timestamp {
    time.saturating_add(SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// The time until which a Job is waited for.
pub(super) enum JobDeadline {
    /// It is ahead.
    At(Timestamp),
    /// It has passed; the text is the reason for the status.
    Passed(&'static str),
}

/// Returns the deadline of a Job that was started at `since`, or created later, if it could not be
/// created before.
pub(super) fn job_deadline(
    observed: &Observed,
    since: Option<&Time>,
    created: Option<Timestamp>,
) -> JobDeadline {
    let since = since
        .map(|Time(since)| *since)
        .max(created)
        .unwrap_or(observed.now);
    let end = add(since, installer_timeout(observed) + JOB_END_GRACE);
    if observed.now < end {
        JobDeadline::At(end)
    } else {
        JobDeadline::Passed("the timeout passed and the node's kubelet did not report its end")
    }
}
