//! How long an installer may take, and how long to wait between two of them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Draft;

/// Tries of what may pass by itself, before a person is asked.
pub(super) const ATTEMPTS: u32 = 6;
/// How long after a node became Ready its list of handlers may still be that of a containerd
/// before.
pub(super) const LISTED: Duration = Duration::from_secs(30);
/// After the first try; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(10);
/// Between two tries at most.
const LONGEST_DELAY: Duration = Duration::from_mins(5);
/// How long an installer's pod may take to start before that is said, where Kubernetes gives no
/// reason.
pub(super) const UNSTARTED: Duration = Duration::from_secs(50);
/// What a Job may take longer than its limit to be seen as ended: Kubernetes kills it, the kubelet
/// says so.
const GRACE: Duration = Duration::from_mins(2);

/// Why an installer is given up whose Job is not there.
pub(super) const UNMADE: &str = "its time is over and its Job is not there: it could not be made, \
                                 or somebody removed it; what the API \
                                 server answers stands in the condition Degraded of the \
                                 WasmRuntime";

/// How long one installer may take.
pub(super) fn limit(draft: &Draft<'_>) -> Duration {
    Duration::from_secs(
        draft
            .observed
            .runtime
            .spec
            .rollout
            .node_timeout_seconds
            .into(),
    )
}

/// Between the end of try number `attempts` and the next.
pub(super) fn delay(attempts: u32) -> Duration {
    FIRST_DELAY
        .saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)))
        .min(LONGEST_DELAY)
}

pub(super) fn after_now(now: Timestamp, delay: Duration) -> Timestamp {
    now.saturating_add(SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// `delay` after `since`, or after now where that was not written down.
pub(super) fn after(since: Option<&Time>, now: Timestamp, delay: Duration) -> Timestamp {
    after_now(since.map_or(now, |Time(since)| *since), delay)
}

/// How long a Job is waited for.
pub(super) enum Patience {
    /// Until then.
    Until(Timestamp),
    /// No longer, for this reason.
    Over(&'static str),
}

/// How long a Job is waited for that was begun at `since`, and made later than that if it could not
/// be made before.
pub(super) fn patience(
    draft: &Draft<'_>,
    since: Option<&Time>,
    made: Option<Timestamp>,
) -> Patience {
    let since = since
        .map(|Time(since)| *since)
        .max(made)
        .unwrap_or(draft.observed.now);
    let end = after_now(since, limit(draft) + GRACE);
    if draft.observed.now < end {
        Patience::Until(end)
    } else {
        Patience::Over("its time is over and the node's kubelet has not said that it ended")
    }
}
