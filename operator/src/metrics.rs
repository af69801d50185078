//! What is counted, in the form of Prometheus. [`describe`] is the reference page's source.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use installer_protocol::Reason;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::error::{ApplyError, Category};
use crate::plan::{Action, Began, JobFacts, Observed};

type Labels<const N: usize> = [(&'static str, String); N];
/// Seconds: a reconcile that has nothing to do, up to one that waits for an API server in trouble.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Seconds: an installer that finds all done, up to the longest time that a spec can give a node.
const INSTALLER_BUCKETS: [f64; 10] = [
    5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0,
];

/// A metric's name in Prometheus, its kind, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Description {
    /// As it is registered.
    name: &'static str,
    /// What the text format puts behind that.
    suffix: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        suffix: "_total",
        kind: "counter",
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        suffix: "",
        kind: "gauge",
        help,
    }
}

const fn histogram(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        suffix: "",
        kind: "histogram",
        help,
    }
}

const RECONCILES: Description = counter(
    "wasmedge_operator_reconciles",
    "Reconciles, by result (ok, error)",
);
const RECONCILE_SECONDS: Description = histogram(
    "wasmedge_operator_reconcile_seconds",
    "How long reconciles took",
);
const ERRORS: Description = counter(
    "wasmedge_operator_errors",
    "Reconciles that failed, by category of the first error",
);
const NODES: Description = gauge(
    "wasmedge_operator_nodes",
    "Nodes that a runtime was brought to or is on its way to, by runtime and phase",
);
const INSTALLERS: Description = counter(
    "wasmedge_operator_installers",
    "Installers that ended, by runtime, outcome and reason; the outcome is Lost where one left no \
     report",
);
const ROLLBACKS: Description = counter(
    "wasmedge_operator_rollbacks",
    "Installers that put a node back to what it was, by runtime",
);
const INSTALLER_SECONDS: Description = histogram(
    "wasmedge_operator_installer_seconds",
    "From an installer's grant to its report, by outcome",
);
const LEADER: Description = gauge(
    "wasmedge_operator_leader",
    "Whether this replica leads: 1 or 0",
);
const SYNCED: Description = gauge(
    "wasmedge_operator_synced",
    "Whether this replica knows all of the cluster that it watches: 1 or 0",
);
const BUILD: Description = Description {
    name: "wasmedge_operator_build",
    suffix: "_info",
    kind: "info",
    help: "Which operator this is, by version",
};

const ALL: [Description; 10] = [
    RECONCILES,
    RECONCILE_SECONDS,
    ERRORS,
    NODES,
    INSTALLERS,
    ROLLBACKS,
    INSTALLER_SECONDS,
    LEADER,
    SYNCED,
    BUILD,
];

/// Every metric: its name as Prometheus sees it, its kind, and what it says.
pub fn describe() -> Vec<(String, &'static str, &'static str)> {
    ALL.iter()
        .map(|one| (format!("{}{}", one.name, one.suffix), one.kind, one.help))
        .collect()
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<1>, Counter>,
    reconcile_seconds: Histogram,
    errors: Family<Labels<1>, Counter>,
    nodes: Family<Labels<2>, Gauge>,
    installers: Family<Labels<3>, Counter>,
    rollbacks: Family<Labels<1>, Counter>,
    installer_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    leader: Gauge,
    synced: Gauge,
    leads: AtomicBool,
    is_synced: AtomicBool,
    stands_by: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, with nothing counted yet.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(RECONCILE_BUCKETS),
            errors: Family::default(),
            nodes: Family::default(),
            installers: Family::default(),
            rollbacks: Family::default(),
            installer_seconds: Family::new_with_constructor(|| Histogram::new(INSTALLER_BUCKETS)),
            leader: Gauge::default(),
            synced: Gauge::default(),
            leads: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
            stands_by: AtomicBool::new(false),
        };
        metrics.register(RECONCILES, metrics.reconciles.clone());
        metrics.register(RECONCILE_SECONDS, metrics.reconcile_seconds.clone());
        metrics.register(ERRORS, metrics.errors.clone());
        metrics.register(NODES, metrics.nodes.clone());
        metrics.register(INSTALLERS, metrics.installers.clone());
        metrics.register(ROLLBACKS, metrics.rollbacks.clone());
        metrics.register(INSTALLER_SECONDS, metrics.installer_seconds.clone());
        metrics.register(LEADER, metrics.leader.clone());
        metrics.register(SYNCED, metrics.synced.clone());
        metrics.register(
            BUILD,
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        // An alert on a rate needs the series before its first count.
        for category in Category::ALL {
            drop(
                metrics
                    .errors
                    .get_or_create(&[("category", category.as_str().to_owned())]),
            );
        }
        for result in ["ok", "error"] {
            drop(
                metrics
                    .reconciles
                    .get_or_create(&[("result", result.to_owned())]),
            );
        }
        metrics
    }

    fn register(&mut self, description: Description, metric: impl Metric) {
        self.registry
            .register(description.name, description.help, metric);
    }

    /// A reconcile ended.
    pub fn reconciled(&self, took: Duration, error: Option<&ApplyError>) {
        let result = if error.is_none() { "ok" } else { "error" };
        self.reconciles
            .get_or_create(&[("result", result.to_owned())])
            .inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
        if let Some(error) = error {
            self.errors
                .get_or_create(&[("category", error.category().as_str().to_owned())])
                .inc();
        }
    }

    /// An action was done. That an installer's Job is removed means that it was heard: each is
    /// counted once.
    pub fn acted(&self, observed: &Observed, action: &Action) {
        let runtime = observed.runtime.name_any();
        match action {
            Action::DeleteJob { job, .. } => self.heard(observed, &runtime, job),
            Action::ReleaseFinalizer => self.forget(&runtime),
            _ => {}
        }
    }

    fn heard(&self, observed: &Observed, runtime: &str, job: &str) {
        let (outcome, reason) = match observed.jobs.get(job) {
            Some(JobFacts::Reported(report)) => {
                (format!("{:?}", report.outcome), report.reason.as_str())
            }
            Some(JobFacts::Lost {
                began: Began::Perhaps,
                ..
            }) => ("Lost".to_owned(), Reason::Interrupted.as_str()),
            Some(JobFacts::Lost {
                began: Began::Never,
                ..
            }) => ("Lost".to_owned(), Reason::NotStarted.as_str()),
            // It is ended before it could say anything.
            Some(JobFacts::Running { .. } | JobFacts::Ending) | None => return,
        };
        let labels = [
            ("runtime", runtime.to_owned()),
            ("outcome", outcome.clone()),
            ("reason", reason.to_owned()),
        ];
        self.installers.get_or_create(&labels).inc();
        if outcome == "RolledBack" {
            self.rollbacks
                .get_or_create(&[("runtime", runtime.to_owned())])
                .inc();
        }
        let state = observed
            .states
            .values()
            .find(|state| state.status.job.as_deref() == Some(job));
        if let Some(since) = state.and_then(|state| state.status.since.as_ref()) {
            let took: SignedDuration = observed.now.duration_since(since.0);
            self.installer_seconds
                .get_or_create(&[("outcome", outcome)])
                .observe(took.as_secs_f64());
        }
    }

    /// Where a runtime's nodes stand.
    pub fn nodes(&self, runtime: &str, states: &BTreeMap<String, WasmRuntimeNodeStatus>) {
        for phase in Phase::ALL {
            let count = states
                .values()
                .filter(|status| status.phase == *phase)
                .count();
            self.nodes
                .get_or_create(&phase_labels(runtime, *phase))
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A runtime is gone: its nodes are counted no more.
    pub fn forget(&self, runtime: &str) {
        for phase in Phase::ALL {
            self.nodes.remove(&phase_labels(runtime, *phase));
        }
    }

    /// This replica leads from now on, or does no longer.
    pub fn leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
        self.leader.set(leads.into());
    }

    /// Another replica leads: it was seen to renew the Lease.
    pub fn stands_by(&self) {
        self.stands_by.store(true, Ordering::Relaxed);
    }

    /// Every watch has said all that there is, and every runtime was looked at once.
    pub fn synced(&self) {
        self.is_synced.store(true, Ordering::Relaxed);
        self.synced.set(1);
    }

    /// Whether this replica does its part: it leads and has looked at every runtime, or waits to
    /// take over. With every replica ready, what was installed with the operator is being brought
    /// to nodes, and its RuntimeClass is there.
    pub fn is_ready(&self) -> bool {
        if self.leads.load(Ordering::Relaxed) {
            self.is_synced.load(Ordering::Relaxed)
        } else {
            self.stands_by.load(Ordering::Relaxed)
        }
    }

    /// Everything, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written to it");
        text
    }
}

fn phase_labels(runtime: &str, phase: Phase) -> Labels<2> {
    [
        ("runtime", runtime.to_owned()),
        ("phase", phase.as_str().to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_reference_is_there_and_no_other() {
        let metrics = Metrics::new();
        // Families are there with their first member.
        metrics.nodes("wasmedge", &BTreeMap::new());
        let of_runtime = [("runtime", "wasmedge".to_owned())];
        drop(metrics.rollbacks.get_or_create(&of_runtime));
        let text = |name: &'static str| (name, String::new());
        drop(
            metrics
                .installers
                .get_or_create(&[text("runtime"), text("outcome"), text("reason")]),
        );
        drop(metrics.installer_seconds.get_or_create(&[text("outcome")]));
        let text = metrics.text();
        let mut served: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .map(|line| {
                let (name, help) = line.split_once(' ').unwrap();
                format!("{name} {help}")
            })
            .collect();
        let mut described: Vec<String> = ALL
            .iter()
            .map(|one| format!("{} {}.", one.name, one.help))
            .collect();
        served.sort();
        described.sort();
        assert_eq!(served, described);
        assert_eq!(describe().len(), ALL.len());
    }

    #[test]
    fn names_of_the_reference_are_those_that_are_served() {
        let metrics = Metrics::new();
        metrics.reconciled(Duration::from_secs(1), None);
        let text = metrics.text();
        assert!(
            text.contains("wasmedge_operator_reconciles_total{result=\"ok\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains(concat!(
                "wasmedge_operator_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1\n"
            )),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_phase_without_nodes_is_zero_and_a_runtime_that_is_gone_is_absent() {
        let metrics = Metrics::new();
        let ready = WasmRuntimeNodeStatus {
            phase: Phase::Ready,
            ..WasmRuntimeNodeStatus::default()
        };
        metrics.nodes("wasmedge", &BTreeMap::from([("a".to_owned(), ready)]));
        let count = |phase: &str| {
            format!("wasmedge_operator_nodes{{runtime=\"wasmedge\",phase=\"{phase}\"}}")
        };
        assert!(
            metrics.text().contains(&format!("{} 1\n", count("Ready"))),
            "{}",
            metrics.text()
        );
        metrics.nodes("wasmedge", &BTreeMap::new());
        assert!(
            metrics.text().contains(&format!("{} 0\n", count("Ready"))),
            "{}",
            metrics.text()
        );
        metrics.forget("wasmedge");
        assert!(
            !metrics.text().contains("runtime=\"wasmedge\""),
            "{}",
            metrics.text()
        );
    }

    #[test]
    fn a_replica_that_waits_for_the_lead_is_ready_and_one_that_leads_needs_to_know_the_cluster() {
        let metrics = Metrics::new();
        assert!(!metrics.is_ready());
        metrics.stands_by();
        assert!(metrics.is_ready());
        metrics.leads(true);
        assert!(!metrics.is_ready());
        metrics.synced();
        assert!(metrics.is_ready());
    }
}
