//! A node after its installer: whether pods may be scheduled there, and when it needs another
//! installer.

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::candidate::{Candidate, Why};
use super::draft::set_reason;
use super::node_facts::{Served, serves};
use super::observed::Readiness;
use super::step::Step;
use super::timing::{HANDLER_LIST_DELAY, after, installer_timeout};
use crate::crd::Phase;

impl Step<'_, '_, '_> {
    pub(super) fn unsupported(&mut self) -> Option<Candidate> {
        self.unlabel();
        // An installer refused this target on the node: only a user knows when that has changed.
        let was_refused =
            self.status.attempts > 0 && self.status.target.as_ref() == Some(&self.target.hash);
        if was_refused && !self.is_retry_requested() {
            None
        } else {
            self.begin(Why::Fresh)
        }
    }

    pub(super) fn verifying(&mut self) -> Option<Candidate> {
        let served = serves(self.node, self.target.handler());
        if self.node.readiness == Readiness::Ready && served != Served::No {
            if !self.draft.prepared {
                return None;
            }
            self.label();
            self.set(Phase::Ready, |status| {
                status.reason = None;
                status.message = None;
                status.attempts = 0;
            });
            return None;
        }
        let end = after(
            self.status.since.as_ref(),
            self.draft.observed.now,
            installer_timeout(self.draft.observed),
        );
        if self.draft.observed.now < end {
            self.draft.wake_at(end);
            return None;
        }
        self.unlabel();
        let message = if self.node.readiness == Readiness::NotReady {
            "the runtime was installed, and since then the node is not Ready: look at its kubelet \
             and containerd"
        } else {
            "the runtime was installed and ran a guest, but the node's status does not list the \
             handler: look at containerd's configuration"
        };
        self.set(Phase::Failed, |status| {
            status.installed = None;
            status.retry_at = None;
            set_reason(status, Reason::HandlerMissing, message.to_owned());
        });
        None
    }

    pub(super) fn ready(&mut self) -> Option<Candidate> {
        let now = self.draft.observed.now;
        // The kubelet asks containerd every few seconds: its list may be older than what the
        // installer verified.
        let settled = after(self.status.since.as_ref(), now, HANDLER_LIST_DELAY);
        let is_listed = serves(self.node, self.target.handler()) != Served::No;
        if !is_listed && now < settled {
            self.draft.wake_at(settled);
        } else if !is_listed && self.node.readiness == Readiness::Ready {
            // containerd's configuration was replaced, as some distributions do at each boot.
            self.unlabel();
            self.set(Phase::Failed, |status| {
                status.installed = None;
                status.retry_at = Some(Time(now));
                set_reason(
                    status,
                    Reason::HandlerMissing,
                    "containerd no longer serves the handler: it is being installed again"
                        .to_owned(),
                );
            });
            return Candidate::to_install(self.name, self.node, Why::Reverify);
        }
        self.label();
        if self.status.installed.as_ref() != Some(&self.target.hash) {
            return self.begin(Why::Upgrade);
        }
        if self.status.boot_id.as_ref() != Some(&self.node.boot_id) {
            // Files and configuration may be gone with the reboot.
            return self.begin(Why::Reverify);
        }
        None
    }

    pub(super) fn failed(&mut self) -> Option<Candidate> {
        self.label_if_served();
        if self.status.target.as_ref() != Some(&self.target.hash) {
            return self.begin(Why::Upgrade);
        }
        if self.is_retry_requested() {
            // A node that waits for its next attempt has its slot already.
            return self.begin(if self.status.retry_at.is_some() {
                Why::Retry
            } else {
                Why::Upgrade
            });
        }
        match &self.status.retry_at {
            Some(Time(time)) if *time <= self.draft.observed.now => {
                let lost_handler = self.status.attempts == 0;
                self.begin(if lost_handler {
                    Why::Reverify
                } else {
                    Why::Retry
                })
            }
            Some(_) => {
                self.draft.wake_for_retry(self.name);
                None
            }
            None => None,
        }
    }

    /// Sets the label of a failed node as long as an older version works there.
    fn label_if_served(&mut self) {
        let now = self.draft.observed.now;
        // The kubelet's list may be that of the containerd before the rollback.
        let settled = after(self.status.since.as_ref(), now, HANDLER_LIST_DELAY);
        match serves(self.node, self.target.handler()) {
            _ if self.status.installed.is_none() => self.unlabel(),
            Served::Yes => self.label(),
            Served::No if now < settled => self.draft.wake_at(settled),
            Served::No => self.unlabel(),
            Served::Unknown => {}
        }
    }
}
