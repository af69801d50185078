//! The state of an installer: from its Job, and from the state of its pod's container.

use installer_protocol::Report;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::events::bounded;
use crate::names;
use crate::plan::{Began, JobFacts, Obstacle, Start};

/// The label with the name of a pod's Job.
const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

/// The state of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// The runtime that it is for.
    pub runtime: String,
    /// The node that it is for.
    pub node: String,
    /// When it was created.
    created: Option<Timestamp>,
    /// Digest of its template.
    template: Option<String>,
    /// Whether a pod was created for it.
    had_pods: bool,
    /// Whether it is being deleted.
    deleted: bool,
    /// How it ended, if it did.
    ended: Option<String>,
}

/// The state of an installer's pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodState {
    /// Its Job.
    pub job: String,
    /// Its node.
    pub node: String,
    container: Container,
}

#[derive(Debug, Clone, PartialEq)]
enum Container {
    /// It does not run yet, and why if that is known.
    Unstarted(Option<Obstacle>),
    Running,
    Reported(Box<Report>),
    Lost(String, Began),
}

/// Returns the state of `job`.
pub fn job_state(job: &Job) -> JobState {
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let over = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    });
    JobState {
        runtime: job
            .labels()
            .get(names::RUNTIME_LABEL)
            .cloned()
            .unwrap_or_default(),
        node: job
            .annotations()
            .get(names::NODE_ANNOTATION)
            .cloned()
            .unwrap_or_default(),
        created: job
            .meta()
            .creation_timestamp
            .as_ref()
            .map(|Time(created)| *created),
        template: job.annotations().get(names::TEMPLATE_ANNOTATION).cloned(),
        had_pods: counts_pods(&status),
        deleted: job.meta().deletion_timestamp.is_some(),
        ended: over
            .map(|condition| joined([condition.reason.as_ref(), condition.message.as_ref()])),
    }
}

fn counts_pods(status: &JobStatus) -> bool {
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let uncounted = uncounted
        .into_iter()
        .flat_map(|pods| [&pods.failed, &pods.succeeded])
        .flatten()
        .any(|pods| !pods.is_empty());
    uncounted
        || [
            status.active,
            status.failed,
            status.succeeded,
            status.terminating,
        ]
        .into_iter()
        .flatten()
        .any(|count| count > 0)
}

/// Returns the state of `pod`.
pub fn pod_state(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    PodState {
        job: pod.labels().get(JOB_LABEL).cloned().unwrap_or_default(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        container: container(&status),
    }
}

fn container(status: &PodStatus) -> Container {
    let container = status
        .container_statuses
        .as_deref()
        .unwrap_or_default()
        .first();
    let state = container
        .and_then(|container| container.state.clone())
        .unwrap_or_default();
    if let (Some(container), Some(ended)) = (container, &state.terminated) {
        return ended_container(status, container, ended);
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return ended_without_container(status);
    }
    if state.running.is_some() {
        return Container::Running;
    }
    // Every container has these reasons first.
    let is_first = |reason: &str| matches!(reason, "ContainerCreating" | "PodInitializing");
    let waiting = state.waiting.filter(|waiting| {
        waiting
            .reason
            .as_deref()
            .is_some_and(|reason| !is_first(reason))
    });
    Container::Unstarted(waiting.map(|waiting| Obstacle {
        reason: waiting.reason.unwrap_or_default(),
        message: waiting.message.unwrap_or_default(),
    }))
}

/// Returns the end of a pod without an ended container: the kubelet rejected the pod, or it was
/// evicted.
fn ended_without_container(status: &PodStatus) -> Container {
    let why = joined([status.reason.as_ref(), status.message.as_ref()]);
    // The kubelet's message for a pod that its admission rejects.
    let was_rejected = status
        .message
        .as_deref()
        .is_some_and(|message| message.starts_with("Pod was rejected"));
    Container::Lost(
        bounded(format!("its pod ended without running: {why}")),
        if was_rejected {
            Began::Never
        } else {
            Began::Perhaps
        },
    )
}

fn ended_container(
    status: &PodStatus,
    container: &ContainerStatus,
    ended: &ContainerStateTerminated,
) -> Container {
    let message = ended.message.as_deref().unwrap_or_default().trim();
    if let Ok(report) = Report::from_message(message) {
        return Container::Reported(Box::new(report));
    }
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    let end = format!("exit code {}, {reason}", ended.exit_code);
    // The reason of the pod: it was evicted, or exceeded its deadline.
    let of_pod = joined([status.reason.as_ref(), status.message.as_ref()]);
    let why = [end.as_str(), message, of_pod.as_str()]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    Container::Lost(bounded(why), began(container, ended))
}

/// Whether a container that ended without a report may have run.
fn began(container: &ContainerStatus, ended: &ContainerStateTerminated) -> Began {
    let failed_to_start = matches!(
        ended.reason.as_deref(),
        Some("StartError" | "ContainerCannotRun")
    );
    // The kubelet's status of a container that it never created, when its pod ends. The status of a
    // container that it created and lost has another message, or its id.
    let was_not_created = ended.reason.as_deref() == Some("ContainerStatusUnknown")
        && container
            .container_id
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        && ended.started_at.is_none()
        && ended.message.as_deref().is_some_and(|message| {
            message.ends_with("could not be located when the pod was terminated")
        });
    if failed_to_start || was_not_created {
        Began::Never
    } else {
        Began::Perhaps
    }
}

fn joined<'a>(texts: impl IntoIterator<Item = Option<&'a String>>) -> String {
    texts
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(": ")
}

impl PodState {
    /// Whether its container may still run: a deleted pod has some time to end, too.
    pub fn may_run(&self) -> bool {
        matches!(self.container, Container::Unstarted(_) | Container::Running)
    }

    /// Whether it ended before its container started.
    pub fn never_began(&self) -> bool {
        matches!(self.container, Container::Lost(_, Began::Never))
    }
}

impl JobState {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended.is_none() && !self.deleted
    }

    /// Whether a pod was created for it.
    pub fn had_pods(&self) -> bool {
        self.had_pods
    }
}

/// Returns the facts of an installer: from its Job, if that exists, from its pods, and from
/// warnings about them. `unstarted` is whether a pod of it ended before its container started.
pub(super) fn facts(
    job: Option<&JobState>,
    pods: &[&PodState],
    unstarted: bool,
    warning: impl Fn() -> Option<Obstacle>,
) -> Option<JobFacts> {
    let states = || pods.iter().map(|pod| &pod.container);
    let open = || pods.iter().any(|pod| pod.may_run());
    if let Some(report) = states().find_map(|state| {
        if let Container::Reported(report) = state {
            Some(report)
        } else {
            None
        }
    }) {
        return Some(JobFacts::Reported(report.clone()));
    }
    if let Some((why, began)) = states().find_map(|state| {
        if let Container::Lost(why, began) = state {
            Some((why, *began))
        } else {
            None
        }
    }) {
        return Some(JobFacts::Lost {
            why: why.clone(),
            began,
        });
    }
    let gone = |why: &str, never: bool| JobFacts::Lost {
        why: why.to_owned(),
        began: if never { Began::Never } else { Began::Perhaps },
    };
    let Some(job) = job else {
        let deleted = || unstarted.then(|| gone("its Job was deleted", true));
        return if open() {
            Some(JobFacts::Ending)
        } else {
            deleted()
        };
    };
    let obstacle = || {
        let waiting = states().find_map(|state| {
            if let Container::Unstarted(waiting) = state {
                waiting.clone()
            } else {
                None
            }
        });
        waiting.or_else(&warning)
    };
    if let Some(why) = &job.ended {
        let starts = states().any(|state| matches!(state, Container::Unstarted(_)));
        if starts {
            // The Job controller deletes the pod; its end shows whether it started.
            return Some(JobFacts::Ending);
        }
        let (obstacle, was_refused) = (obstacle(), pods.is_empty() && !job.had_pods);
        let never = unstarted || (was_refused && obstacle.is_some());
        let why = [
            Some(why.clone()),
            obstacle.map(|obstacle| obstacle.to_string()),
        ];
        return Some(gone(
            &why.into_iter().flatten().collect::<Vec<_>>().join("; "),
            never,
        ));
    }
    if job.deleted {
        return Some(if open() {
            JobFacts::Ending
        } else {
            gone("its Job was deleted", unstarted)
        });
    }
    let start = if states().any(|state| *state == Container::Running) {
        Start::Started
    } else {
        obstacle().map_or(Start::Pending, Start::Blocked)
    };
    Some(JobFacts::Running {
        created: job.created,
        template: job.template.clone(),
        start,
    })
}

#[cfg(test)]
mod tests;
