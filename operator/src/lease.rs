//! Leader election: the replica that holds the Lease leads.
//!
//! ```text
//!   wait ──► acquire ──► renew ──► … ──► release (shutdown)
//!    ▲          │           │
//!    └──────────┘           └─► lost: the process exits, and its pod restarts
//!    another replica was faster
//! ```
//!
//! The clocks of replicas may differ: times in the Lease are for users only. A waiting replica
//! measures with its own clock how long the Lease has not changed, and takes it over after the
//! holder's [`LeaseTimings::lease_duration`]. The holder measures from before its request, and
//! stops to lead after [`LeaseTimings::renew_deadline`], which is shorter. Every write names the
//! version that it replaces, so that only one of two succeeds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::{Category, jitter};
use crate::names;

/// The timings of leader election, as in client-go.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimings {
    /// After how long without a renewal another replica may take over.
    pub lease_duration: Duration,
    /// After how long without a renewal the holder stops to lead.
    pub renew_deadline: Duration,
    /// The interval between two requests.
    pub retry_period: Duration,
}

/// The timings of Kubernetes' own components.
pub const TIMINGS: LeaseTimings = LeaseTimings {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

/// The Lease and the replica that requests it.
#[derive(Debug, Clone)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of this replica.
    pub identity: String,
    /// The timings.
    pub timings: LeaseTimings,
}

/// The observed state of the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedLease<'a> {
    /// The holder; none if it was released.
    pub holder: Option<&'a str>,
    /// After how long without a change it may be taken over.
    pub lease_duration: Duration,
    /// For how long it has not changed, by our clock.
    pub unchanged: Duration,
}

/// The role of this replica, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It holds the Lease.
    Leader,
    /// It waits for the Lease.
    Waiting,
}

/// The next step of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Write this replica as holder.
    Acquire,
    /// Renew the Lease.
    Renew,
    /// Read it again later.
    Wait,
    /// Another replica holds it now.
    Lost,
}

/// Decides the next step of `identity` in `role`. `seen` is none if there is no Lease.
pub fn decide(role: Role, seen: Option<ObservedLease<'_>>, identity: &str) -> Decision {
    let Some(ObservedLease {
        holder: Some(holder),
        lease_duration,
        unchanged,
    }) = seen
    else {
        // Also for a leader, if the Lease was deleted: no replica holds it, and the first write
        // wins.
        return Decision::Acquire;
    };
    match role {
        Role::Leader if holder == identity => Decision::Renew,
        Role::Leader => Decision::Lost,
        // The identity is the pod's name: an earlier container of this pod held the Lease.
        Role::Waiting if holder == identity => Decision::Acquire,
        Role::Waiting if unchanged > lease_duration => Decision::Acquire,
        Role::Waiting => Decision::Wait,
    }
}

/// The leadership of this replica, until [`Leadership::lost`] returns.
#[derive(Debug)]
pub struct Leadership {
    lost: JoinHandle<()>,
    release: oneshot::Sender<()>,
}

/// Waits until this replica leads. Calls `stand_by` once another replica is seen to renew the
/// Lease: a Lease that is not renewed may belong to a replica that is gone.
pub async fn lead(client: Client, election: Election, stand_by: impl Fn()) -> Leadership {
    let mut candidate = Candidate::new(client, election);
    let mut is_logged = false;
    loop {
        let stepped = candidate.step(Role::Waiting).await;
        if candidate.has_live_rival {
            stand_by();
        }
        match stepped {
            Ok(Some(since)) => {
                let (release, released) = oneshot::channel();
                tracing::info!(identity = candidate.election.identity, "this replica leads");
                return Leadership {
                    lost: tokio::spawn(candidate.hold(since, released)),
                    release,
                };
            }
            Ok(None) => is_logged = false,
            Err(error) if !is_logged => {
                tracing::warn!(%error, "cannot acquire the Lease; it is tried again");
                is_logged = true;
            }
            Err(_) => {}
        }
        // Jitter, so that replicas do not ask at the same time.
        sleep(
            candidate
                .election
                .timings
                .retry_period
                .mul_f64(1.0 + 0.2 * jitter()),
        )
        .await;
    }
}

impl Leadership {
    /// Waits until this replica does not lead any more. The process has to exit then: another
    /// replica may lead already.
    pub async fn lost(&mut self) {
        // A task that panicked does not renew the Lease either.
        let _ended = (&mut self.lost).await;
    }

    /// Releases the Lease, so that another replica need not wait. All work has to be done before.
    pub async fn release(self) {
        let Self { lost, release } = self;
        // The receiver is gone if the Lease is lost, and then there is nothing to release.
        let _lost = release.send(());
        let _ended = lost.await;
    }
}

/// A replica and the Lease that it last saw.
struct Candidate {
    api: Api<Lease>,
    election: Election,
    last: Option<Lease>,
    changed: Instant,
    /// Whether another replica was seen to renew the Lease.
    has_live_rival: bool,
}

impl Candidate {
    fn new(client: Client, election: Election) -> Self {
        Self {
            api: Api::namespaced(client, &election.namespace),
            election,
            last: None,
            changed: Instant::now(),
            has_live_rival: false,
        }
    }

    /// Renews the Lease until it is lost or released.
    async fn hold(mut self, mut renewed: Instant, mut released: oneshot::Receiver<()>) {
        loop {
            let end = renewed + self.election.timings.renew_deadline;
            tokio::select! {
                biased;
                _ = &mut released => return self.write_release().await,
                () = sleep(self.election.timings.retry_period) => {}
            }
            match timeout_at(end, self.step(Role::Leader)).await {
                Ok(Ok(Some(since))) => renewed = since,
                Ok(Ok(None)) => {
                    tracing::error!(
                        identity = self.election.identity,
                        "lost the Lease: another replica leads"
                    );
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot renew the Lease; it is tried again");
                }
                Err(_) => {}
            }
            if Instant::now() >= renewed + self.election.timings.renew_deadline {
                tracing::error!(
                    identity = self.election.identity,
                    "lost the Lease: it was not renewed within the renew deadline"
                );
                return;
            }
        }
    }

    /// Reads the Lease and writes it if it is our turn. Returns since when it is ours, if it is.
    async fn step(&mut self, role: Role) -> kube::Result<Option<Instant>> {
        let began = Instant::now();
        // Our last write is the present state unless another replica wrote: a renewal is one call.
        if role == Role::Waiting || self.last.is_none() {
            self.read().await?;
        }
        let lease = match decide(role, self.observed(), &self.election.identity) {
            Decision::Wait | Decision::Lost => return Ok(None),
            Decision::Acquire | Decision::Renew => self.renewed_lease(),
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
        match timeout(self.election.timings.retry_period, write).await {
            Ok(Ok(lease)) => {
                self.observe(Some(lease));
                Ok(Some(began))
            }
            // Another client changed or deleted it: read what is there now.
            Ok(Err(error))
                if matches!(Category::of(&error), Category::Conflict | Category::Gone) =>
            {
                self.read().await?;
                match decide(role, self.observed(), &self.election.identity) {
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
                // It may have been written.
                self.last = None;
                Err(kube::Error::Service(
                    "no answer to the write of the Lease".into(),
                ))
            }
        }
    }

    async fn read(&mut self) -> kube::Result<()> {
        let lease = timeout(
            self.election.timings.retry_period,
            self.api.get_opt(names::LEASE),
        )
        .await;
        let lease = lease
            .map_err(|_| kube::Error::Service("no answer to the read of the Lease".into()))??;
        self.observe(lease);
        Ok(())
    }

    fn observe(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| {
            lease
                .as_ref()
                .and_then(|lease| lease.uid().zip(lease.resource_version()))
        };
        if version(&lease) != version(&self.last) {
            self.changed = Instant::now();
            let is_held =
                holder(lease.as_ref()).is_some_and(|holder| holder != self.election.identity);
            self.has_live_rival |= is_held && self.last.is_some();
        }
        self.last = lease;
    }

    fn observed(&self) -> Option<ObservedLease<'_>> {
        let spec = self.last.as_ref()?.spec.as_ref()?;
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        Some(ObservedLease {
            holder: holder(self.last.as_ref()),
            lease_duration: seconds
                .map_or(self.election.timings.lease_duration, Duration::from_secs),
            unchanged: self.changed.elapsed(),
        })
    }

    /// Returns the Lease with this replica as holder.
    fn renewed_lease(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = self.last.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(names::LEASE.to_owned()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let before = lease.spec.take().unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.election.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.election.timings.lease_duration.as_secs()).unwrap_or(i32::MAX),
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

    async fn write_release(mut self) {
        let Some(mut lease) = self.last.take() else {
            return;
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match timeout(
            self.election.timings.retry_period,
            self.api
                .replace(names::LEASE, &PostParams::default(), &lease),
        )
        .await
        {
            Ok(Ok(_)) => tracing::info!(identity = self.election.identity, "released the Lease"),
            Ok(Err(error)) => {
                tracing::warn!(
                    %error,
                    "cannot release the Lease; another replica takes it over when it expires"
                );
            }
            Err(_) => tracing::warn!(
                "cannot release the Lease in time; another replica takes it over when it expires"
            ),
        }
    }
}

/// Returns the holder of a Lease.
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
