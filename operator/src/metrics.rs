//! The metrics, in the form of Prometheus. The reference page is generated from [`describe`].

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
/// Seconds: from a reconcile without work to one that waits for a failing API server.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Seconds: from an installer without work to the longest timeout that a spec can set.
const INSTALLER_BUCKETS: [f64; 10] = [
    5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0,
];

/// A metric: its name in Prometheus, its kind, and its help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Description {
    /// The name as it is registered.
    name: &'static str,
    /// The suffix that the text format appends.
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
    "Duration of reconciles",
);
const ERRORS: Description = counter(
    "wasmedge_operator_errors",
    "Failed reconciles, by category of the first error",
);
const NODES: Description = gauge(
    "wasmedge_operator_nodes",
    "Nodes with a WasmRuntimeNode, by runtime and phase",
);
const INSTALLERS: Description = counter(
    "wasmedge_operator_installers",
    "Installers that ended, by runtime, outcome and reason; the outcome is Lost if there is no \
     report",
);
const ROLLBACKS: Description = counter(
    "wasmedge_operator_rollbacks",
    "Installers that rolled a node back, by runtime",
);
const INSTALLER_SECONDS: Description = histogram(
    "wasmedge_operator_installer_seconds",
    "Time from the start of an installer to its report, by outcome",
);
const LEADER: Description = gauge(
    "wasmedge_operator_leader",
    "Whether this replica is the leader: 1 or 0",
);
const SYNCED: Description = gauge(
    "wasmedge_operator_synced",
    "Whether the watch caches of this replica are complete: 1 or 0",
);
const BUILD: Description = Description {
    name: "wasmedge_operator_build",
    suffix: "_info",
    kind: "info",
    help: "The version of the operator",
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

/// Returns the name in Prometheus, the kind and the help text of every metric.
pub fn describe() -> Vec<(String, &'static str, &'static str)> {
    ALL.iter()
        .map(|one| (format!("{}{}", one.name, one.suffix), one.kind, one.help))
        .collect()
}

/// The metrics of the operator.
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
    is_leader: AtomicBool,
    is_synced: AtomicBool,
    is_standby: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics, at zero.
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
            is_leader: AtomicBool::new(false),
            is_synced: AtomicBool::new(false),
            is_standby: AtomicBool::new(false),
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

    /// Records a reconcile.
    pub fn record_reconcile(&self, took: Duration, error: Option<&ApplyError>) {
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

    /// Records an action. An installer is counted when its Job is deleted, which happens once its
    /// result is recorded: each is counted once.
    pub fn record_action(&self, observed: &Observed, action: &Action) {
        let runtime = observed.runtime.name_any();
        match action {
            Action::DeleteJob { job, .. } => self.record_installer(observed, &runtime, job),
            Action::ReleaseFinalizer => self.remove_runtime(&runtime),
            _ => {}
        }
    }

    fn record_installer(&self, observed: &Observed, runtime: &str, job: &str) {
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
            // It is deleted before it ended.
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

    /// Sets the number of a runtime's nodes in each phase.
    pub fn set_nodes(&self, runtime: &str, states: &BTreeMap<String, WasmRuntimeNodeStatus>) {
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

    /// Removes the node counts of a runtime that is gone.
    pub fn remove_runtime(&self, runtime: &str) {
        for phase in Phase::ALL {
            self.nodes.remove(&phase_labels(runtime, *phase));
        }
    }

    /// Sets whether this replica is the leader.
    pub fn set_leader(&self, leads: bool) {
        self.is_leader.store(leads, Ordering::Relaxed);
        self.leader.set(leads.into());
    }

    /// Marks that another replica is the leader: it was seen to renew the Lease.
    pub fn set_standby(&self) {
        self.is_standby.store(true, Ordering::Relaxed);
    }

    /// Marks that every watch cache is complete and every runtime was reconciled once.
    pub fn set_synced(&self) {
        self.is_synced.store(true, Ordering::Relaxed);
        self.synced.set(1);
    }

    /// Whether this replica is the leader and has reconciled every runtime, or stands by. If every
    /// replica is ready, the rollouts of runtimes that were created together with the operator have
    /// started, and their RuntimeClasses exist.
    pub fn is_ready(&self) -> bool {
        if self.is_leader.load(Ordering::Relaxed) {
            self.is_synced.load(Ordering::Relaxed)
        } else {
            self.is_standby.load(Ordering::Relaxed)
        }
    }

    /// Returns all metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
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
    fn served_metrics_are_those_of_the_reference() {
        let metrics = Metrics::new();
        // A family is served once it has a member.
        metrics.set_nodes("wasmedge", &BTreeMap::new());
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
    fn served_names_have_the_suffixes_of_the_reference() {
        let metrics = Metrics::new();
        metrics.record_reconcile(Duration::from_secs(1), None);
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
    fn phase_without_nodes_is_zero_and_removed_runtime_is_absent() {
        let metrics = Metrics::new();
        let ready = WasmRuntimeNodeStatus {
            phase: Phase::Ready,
            ..WasmRuntimeNodeStatus::default()
        };
        metrics.set_nodes("wasmedge", &BTreeMap::from([("a".to_owned(), ready)]));
        let count = |phase: &str| {
            format!("wasmedge_operator_nodes{{runtime=\"wasmedge\",phase=\"{phase}\"}}")
        };
        assert!(
            metrics.text().contains(&format!("{} 1\n", count("Ready"))),
            "{}",
            metrics.text()
        );
        metrics.set_nodes("wasmedge", &BTreeMap::new());
        assert!(
            metrics.text().contains(&format!("{} 0\n", count("Ready"))),
            "{}",
            metrics.text()
        );
        metrics.remove_runtime("wasmedge");
        assert!(
            !metrics.text().contains("runtime=\"wasmedge\""),
            "{}",
            metrics.text()
        );
    }

    #[test]
    fn standby_replica_is_ready_and_leader_is_ready_once_synced() {
        let metrics = Metrics::new();
        assert!(!metrics.is_ready());
        metrics.set_standby();
        assert!(metrics.is_ready());
        metrics.set_leader(true);
        assert!(!metrics.is_ready());
        metrics.set_synced();
        assert!(metrics.is_ready());
    }
}
