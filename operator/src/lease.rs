//! One operator leads: the one that holds a Lease.
//!
//! ```text
//!   wait ──► acquire ──► renew ──► … ──► release (shutdown)
//!    ▲          │           │
//!    └──────────┘           └─► lost: the process ends, and its pod begins anew
//!    somebody was quicker
//! ```
//!
//! Clocks of replicas may differ: a time in the Lease is for people. A replica that waits counts,
//! by its own clock, how long the Lease has not changed, and takes it over after as long as the
//! holder promised; a holder counts from before it asked. It gives up after [`Pace::deadline`],
//! which is before anybody takes over after [`Pace::promise`]. Every write names the version that
//! it replaces, so of two only one succeeds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::{Category, luck};
use crate::names;

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After how long without a renewal others may take over.
    pub promise: Duration,
    /// After how long without a renewal the holder gives up by itself.
    pub deadline: Duration,
    /// Between two looks.
    pub retry: Duration,
}

/// That of Kubernetes' own components.
pub const PACE: Pace = Pace {
    promise: Duration::from_secs(15),
    deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

/// Which Lease it is, and who asks for it.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its namespace.
    pub namespace: String,
    /// Name of this replica.
    pub identity: String,
    /// How often, and how long.
    pub pace: Pace,
}

/// What a Lease says, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Who holds it; none if it was given up.
    pub holder: Option<&'a str>,
    /// After how long without a change it may be taken over.
    pub promise: Duration,
    /// For how long it has not changed, by our clock.
    pub unchanged: Duration,
}

/// Whether this replica holds the Lease, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Leader,
    /// It does not.
    Waiting,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Write ourselves in.
    Acquire,
    /// Write that we are still there.
    Renew,
    /// Look again later.
    Wait,
    /// Somebody else has it now.
    Lost,
}

/// What to do for `identity` in `role`, with what was seen; nothing, where there is no Lease.
pub fn decide(role: Role, seen: Option<Seen<'_>>, identity: &str) -> Decision {
    let Some(Seen {
        holder: Some(holder),
        promise,
        unchanged,
    }) = seen
    else {
        // Also a leader whose Lease somebody deleted: nobody else has it, and whoever is quicker
        // gets it.
        return Decision::Acquire;
    };
    match role {
        Role::Leader if holder == identity => Decision::Renew,
        Role::Leader => Decision::Lost,
        // An identity is a pod's name, so this is what an earlier container of our pod left behind.
        Role::Waiting if holder == identity => Decision::Acquire,
        Role::Waiting if unchanged > promise => Decision::Acquire,
        Role::Waiting => Decision::Wait,
    }
}

/// The Lease is ours, until [`Leadership::lost`] says otherwise.
#[derive(Debug)]
pub struct Leadership {
    lost: JoinHandle<()>,
    release: oneshot::Sender<()>,
}

/// Waits until this replica leads. Calls `stand_by` once another replica is seen to lead: a Lease
/// that is not renewed may belong to a replica that is gone.
pub async fn lead(client: Client, seat: Seat, stand_by: impl Fn()) -> Leadership {
    let mut candidate = Candidate::new(client, seat);
    let mut silent = false;
    loop {
        let stepped = candidate.step(Role::Waiting).await;
        if candidate.has_live_rival {
            stand_by();
        }
        match stepped {
            Ok(Some(since)) => {
                let (release, released) = oneshot::channel();
                tracing::info!(identity = candidate.seat.identity, "this replica leads");
                return Leadership {
                    lost: tokio::spawn(candidate.hold(since, released)),
                    release,
                };
            }
            Ok(None) => silent = false,
            Err(error) if !silent => {
                tracing::warn!(error = %error,
                    "the Lease cannot be asked for; this is tried again");
                silent = true;
            }
            Err(_) => {}
        }
        // Not all at the same time.
        sleep(candidate.seat.pace.retry.mul_f64(1.0 + 0.2 * luck())).await;
    }
}

impl Leadership {
    /// Waits until this replica leads no longer. Whoever sees it has to end at once: another one
    /// may lead already.
    pub async fn lost(&mut self) {
        // A task that panicked renews nothing either.
        let _ended = (&mut self.lost).await;
    }

    /// Gives the Lease up, so that another replica need not wait. To be called when all work has
    /// ended.
    pub async fn release(self) {
        let Self { lost, release } = self;
        // It is not there if the Lease is lost, and then there is nothing to give up.
        let _lost = release.send(());
        let _ended = lost.await;
    }
}

/// A replica and what it last saw.
struct Candidate {
    api: Api<Lease>,
    seat: Seat,
    last: Option<Lease>,
    changed: Instant,
    /// Whether another replica renewed the Lease while this one was looking.
    has_live_rival: bool,
}

impl Candidate {
    fn new(client: Client, seat: Seat) -> Self {
        Self {
            api: Api::namespaced(client, &seat.namespace),
            seat,
            last: None,
            changed: Instant::now(),
            has_live_rival: false,
        }
    }

    /// Renews until it is lost or released.
    async fn hold(mut self, mut renewed: Instant, mut released: oneshot::Receiver<()>) {
        loop {
            let end = renewed + self.seat.pace.deadline;
            tokio::select! {
                biased;
                _ = &mut released => return self.give_up().await,
                () = sleep(self.seat.pace.retry) => {}
            }
            match timeout_at(end, self.step(Role::Leader)).await {
                Ok(Ok(Some(since))) => renewed = since,
                Ok(Ok(None)) => {
                    tracing::error!(identity = self.seat.identity, "another replica leads now");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the Lease was not renewed; this is tried again");
                }
                Err(_) => {}
            }
            if Instant::now() >= renewed + self.seat.pace.deadline {
                tracing::error!(
                    identity = self.seat.identity,
                    "the Lease could not be renewed in time"
                );
                return;
            }
        }
    }

    /// One look, and one write if it is our turn: since when the Lease is ours, or that it is not.
    async fn step(&mut self, role: Role) -> kube::Result<Option<Instant>> {
        let began = Instant::now();
        // What we wrote last is what there is, as long as nobody else writes: a renewal is one
        // call.
        if role == Role::Waiting || self.last.is_none() {
            self.look().await?;
        }
        let lease = match decide(role, self.seen(), &self.seat.identity) {
            Decision::Wait | Decision::Lost => return Ok(None),
            Decision::Acquire | Decision::Renew => self.written(),
        };
        let write = async {
            match lease.resource_version() {
                Some(_) => {
                    self.api
                        .replace(names::LEASE, &PostParams::default(), &lease)
                        .await
                }
                None => self.api.create(&PostParams::default(), &lease).await,
            }
        };
        match timeout(self.seat.pace.retry, write).await {
            Ok(Ok(lease)) => {
                self.note(Some(lease));
                Ok(Some(began))
            }
            // Somebody was quicker, or took it away: what is there now has to be looked at first.
            Ok(Err(error))
                if matches!(Category::of(&error), Category::Conflict | Category::Gone) =>
            {
                self.look().await?;
                match decide(role, self.seen(), &self.seat.identity) {
                    Decision::Lost => Ok(None),
                    _ if role == Role::Waiting => Ok(None),
                    _ => Err(error),
                }
            }
            Ok(Err(error)) => {
                self.last = None;
                Err(error)
            }
            Err(_) => {
                // It may have been written all the same.
                self.last = None;
                Err(kube::Error::Service(
                    "no answer to a write of the Lease".into(),
                ))
            }
        }
    }

    async fn look(&mut self) -> kube::Result<()> {
        let lease = timeout(self.seat.pace.retry, self.api.get_opt(names::LEASE)).await;
        let lease = lease
            .map_err(|_| kube::Error::Service("no answer to a look at the Lease".into()))??;
        self.note(lease);
        Ok(())
    }

    fn note(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| {
            lease
                .as_ref()
                .and_then(|lease| lease.uid().zip(lease.resource_version()))
        };
        if version(&lease) != version(&self.last) {
            self.changed = Instant::now();
            let is_held = holder(lease.as_ref()).is_some_and(|holder| holder != self.seat.identity);
            self.has_live_rival |= is_held && self.last.is_some();
        }
        self.last = lease;
    }

    fn seen(&self) -> Option<Seen<'_>> {
        let spec = self.last.as_ref()?.spec.as_ref()?;
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        Some(Seen {
            holder: holder(self.last.as_ref()),
            promise: seconds.map_or(self.seat.pace.promise, Duration::from_secs),
            unchanged: self.changed.elapsed(),
        })
    }

    /// The Lease with us in it.
    fn written(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = self.last.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(names::LEASE.to_owned()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let before = lease.spec.take().unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.seat.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.seat.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.seat.pace.promise.as_secs()).unwrap_or(i32::MAX),
            ),
            acquire_time: if is_ours {
                before.acquire_time
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(
                before
                    .lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(!is_ours)),
            ),
            ..before
        });
        lease
    }

    async fn give_up(mut self) {
        let Some(mut lease) = self.last.take() else {
            return;
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match timeout(
            self.seat.pace.retry,
            self.api
                .replace(names::LEASE, &PostParams::default(), &lease),
        )
        .await
        {
            Ok(Ok(_)) => tracing::info!(identity = self.seat.identity, "gave the Lease up"),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the Lease was not given up; another replica takes \
                                                it over when it runs out");
            }
            Err(_) => tracing::warn!(
                "the Lease was not given up in time; another replica takes it over when it runs out"
            ),
        }
    }
}

/// Who holds a Lease.
fn holder(lease: Option<&Lease>) -> Option<&str> {
    lease?
        .spec
        .as_ref()?
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests;
