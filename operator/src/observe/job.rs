//! How far an installer is: from its Job, and from the state of its pod's container.

use installer_protocol::Report;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::events::bounded;
use crate::names;
use crate::plan::{Began, JobFacts, Obstacle, Start};

/// The label by which Kubernetes tells a pod's Job.
const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

/// What a Job says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// The runtime that it is for.
    pub runtime: String,
    /// The node that it is for.
    pub node: String,
    /// When it was made.
    made: Option<Timestamp>,
    /// Digest of the template that it was made of.
    template: Option<String>,
    /// Whether a pod was made for it.
    had_pods: bool,
    /// Whether it is being deleted.
    deleted: bool,
    /// Whether it ended, and how.
    ended: Option<String>,
}

/// What an installer's pod says.
#[derive(Debug, Clone, PartialEq)]
pub struct PodEnd {
    /// Its Job.
    pub job: String,
    /// Its node.
    pub node: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Its container does not run yet, and why if that is known.
    Unstarted(Option<Obstacle>),
    Running,
    Reported(Box<Report>),
    Lost(String, Began),
}

/// What `job` says.
pub fn end_of_job(job: &Job) -> JobEnd {
    let status = job.status.clone().unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let over = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    });
    JobEnd {
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
        made: job
            .meta()
            .creation_timestamp
            .as_ref()
            .map(|Time(made)| *made),
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

/// What `pod` says.
pub fn end_of_pod(pod: &Pod) -> PodEnd {
    let status = pod.status.clone().unwrap_or_default();
    PodEnd {
        job: pod.labels().get(JOB_LABEL).cloned().unwrap_or_default(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        state: state_of(&status),
    }
}

fn state_of(status: &PodStatus) -> State {
    let container = status
        .container_statuses
        .as_deref()
        .unwrap_or_default()
        .first();
    let state = container
        .and_then(|container| container.state.clone())
        .unwrap_or_default();
    if let (Some(container), Some(ended)) = (container, &state.terminated) {
        return end_of_container(status, container, ended);
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return refused(status);
    }
    if state.running.is_some() {
        return State::Running;
    }
    // These two are every container's first reasons.
    let is_first = |reason: &str| matches!(reason, "ContainerCreating" | "PodInitializing");
    let waiting = state.waiting.filter(|waiting| {
        waiting
            .reason
            .as_deref()
            .is_some_and(|reason| !is_first(reason))
    });
    State::Unstarted(waiting.map(|waiting| Obstacle {
        reason: waiting.reason.unwrap_or_default(),
        message: waiting.message.unwrap_or_default(),
    }))
}

/// How a pod ended whose container has no end: the kubelet refused the pod, or it was evicted.
fn refused(status: &PodStatus) -> State {
    let why = joined([status.reason.as_ref(), status.message.as_ref()]);
    // The kubelet's words where a pod does not pass its own admission.
    let was_rejected = status
        .message
        .as_deref()
        .is_some_and(|message| message.starts_with("Pod was rejected"));
    State::Lost(
        bounded(format!("its pod ended without running: {why}")),
        if was_rejected {
            Began::Never
        } else {
            Began::Perhaps
        },
    )
}

fn end_of_container(
    status: &PodStatus,
    container: &ContainerStatus,
    ended: &ContainerStateTerminated,
) -> State {
    let message = ended.message.as_deref().unwrap_or_default().trim();
    if let Ok(report) = Report::from_message(message) {
        return State::Reported(Box::new(report));
    }
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    let end = format!("exit code {}, {reason}", ended.exit_code);
    // What the pod itself says: that it was evicted, or exceeded its deadline.
    let of_pod = joined([status.reason.as_ref(), status.message.as_ref()]);
    let why = [end.as_str(), message, of_pod.as_str()]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    State::Lost(bounded(why), began(container, ended))
}

/// Whether a container that ended without a report may have run.
fn began(container: &ContainerStatus, ended: &ContainerStateTerminated) -> Began {
    let failed_to_start = matches!(
        ended.reason.as_deref(),
        Some("StartError" | "ContainerCannotRun")
    );
    // What the kubelet says of a container that it never made, when its pod ends. Of one that it
    // made and lost it says something else, or names its id.
    let was_not_made = ended.reason.as_deref() == Some("ContainerStatusUnknown")
        && container
            .container_id
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        && ended.started_at.is_none()
        && ended.message.as_deref().is_some_and(|message| {
            message.ends_with("could not be located when the pod was terminated")
        });
    if failed_to_start || was_not_made {
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

impl PodEnd {
    /// Whether its container may still be at work: also a pod that was deleted has some time to
    /// end.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state, State::Unstarted(_) | State::Running)
    }

    /// Whether it ended before its container started.
    pub fn never_began(&self) -> bool {
        matches!(self.state, State::Lost(_, Began::Never))
    }
}

impl JobEnd {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended.is_none() && !self.deleted
    }

    /// Whether a pod was made for it.
    pub fn had_pods(&self) -> bool {
        self.had_pods
    }
}

/// What is known of an installer: from its Job, if that is there, from its pods, from a pod that
/// ended before it started, and from warnings about them.
pub(super) fn facts(
    job: Option<&JobEnd>,
    pods: &[&PodEnd],
    unstarted: bool,
    complaint: impl Fn() -> Option<Obstacle>,
) -> Option<JobFacts> {
    let states = || pods.iter().map(|pod| &pod.state);
    let open = || pods.iter().any(|pod| pod.is_at_work());
    if let Some(report) = states().find_map(|state| {
        if let State::Reported(report) = state {
            Some(report)
        } else {
            None
        }
    }) {
        return Some(JobFacts::Reported(report.clone()));
    }
    if let Some((why, began)) = states().find_map(|state| {
        if let State::Lost(why, began) = state {
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
            if let State::Unstarted(waiting) = state {
                waiting.clone()
            } else {
                None
            }
        });
        waiting.or_else(&complaint)
    };
    if let Some(why) = &job.ended {
        let starts = states().any(|state| matches!(state, State::Unstarted(_)));
        if starts {
            // The Job controller deletes it; whether it started is known when it has ended.
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
    let start = if states().any(|state| *state == State::Running) {
        Start::Started
    } else {
        obstacle().map_or(Start::Pending, Start::Blocked)
    };
    Some(JobFacts::Running {
        made: job.made,
        template: job.template.clone(),
        start,
    })
}

#[cfg(test)]
mod tests;
