//! How an installer ended: from its Job, and from what its container left as a termination message.

use installer_protocol::Report;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::names;
use crate::plan::JobFacts;

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
    end: Option<End>,
    /// Why its container does not run yet.
    waiting: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum End {
    Reported(Box<Report>),
    Lost(String),
}

/// What `job` says.
pub fn end_of_job(job: &Job) -> JobEnd {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let over = conditions.iter().find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True");
    let deleted = job.meta().deletion_timestamp.is_some().then(|| "its Job was deleted".to_owned());
    let ended = over.map(|condition| {
        let why = [condition.reason.clone(), condition.message.clone()].into_iter().flatten().filter(|text| !text.is_empty());
        why.collect::<Vec<_>>().join(": ")
    });
    JobEnd {
        runtime: job.labels().get(names::RUNTIME_LABEL).cloned().unwrap_or_default(),
        node: job.annotations().get(names::NODE_ANNOTATION).cloned().unwrap_or_default(),
        made: job.meta().creation_timestamp.as_ref().map(|Time(made)| *made),
        ended: ended.or(deleted),
    }
}

/// What `pod` says.
pub fn end_of_pod(pod: &Pod) -> PodEnd {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    let container = statuses.first();
    PodEnd {
        job: pod.labels().get(JOB_LABEL).cloned().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        end: container.and_then(end_of_container).or_else(|| refused(pod)),
        waiting: container.and_then(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            // These two are every container's first words.
            let reason = waiting.reason.as_deref().filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
            Some(format!("the installer does not start: {reason}: {}", waiting.message.as_deref().unwrap_or_default()))
        }),
    }
}

/// How a pod ended whose container never was: the kubelet refused it, or it was evicted.
fn refused(pod: &Pod) -> Option<End> {
    let status = pod.status.as_ref()?;
    let ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let why = [status.reason.clone(), status.message.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    ended.then(|| End::Lost(format!("its pod ended without running: {why}")))
}

fn end_of_container(container: &ContainerStatus) -> Option<End> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    let message = ended.message.as_deref().unwrap_or_default();
    let lost = || End::Lost(format!("exit code {}, {}", ended.exit_code, ended.reason.as_deref().unwrap_or("no reason given")));
    Some(Report::from_message(message).map_or_else(|_| lost(), |report| End::Reported(Box::new(report))))
}

impl PodEnd {
    /// Whether its container may still be at work: also a pod that was deleted has some time to end.
    pub fn is_at_work(&self) -> bool {
        self.end.is_none()
    }
}

impl JobEnd {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// What is known of the installer.
    pub fn facts<'a>(&self, pods: impl Iterator<Item = &'a PodEnd>) -> JobFacts {
        let pods: Vec<&PodEnd> = pods.collect();
        let ends = || pods.iter().filter_map(|pod| pod.end.as_ref());
        if let Some(End::Reported(report)) = ends().find(|end| matches!(end, End::Reported(_))) {
            return JobFacts::Reported(report.clone());
        }
        match (&self.ended, ends().next()) {
            (_, Some(End::Lost(why))) => JobFacts::Lost(why.clone()),
            (Some(why), _) => {
                let waiting = pods.iter().find_map(|pod| pod.waiting.clone());
                JobFacts::Lost([Some(why.clone()), waiting].into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
            (None, _) => JobFacts::Running { made: self.made, waiting: pods.iter().find_map(|pod| pod.waiting.clone()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use installer_protocol::report::{HostFacts, Restart};
    use installer_protocol::{Outcome, Reason, Stage};
    use serde_json::{Value, json};

    use super::*;

    fn job(status: &Value) -> JobEnd {
        let labels = json!({ names::RUNTIME_LABEL: "wasmedge" });
        end_of_job(&serde_json::from_value(json!({ "metadata": { "name": "j", "labels": labels }, "status": status })).unwrap())
    }

    fn pod(state: &Value) -> PodEnd {
        let status = json!({ "containerStatuses": [
            { "name": "installer", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state }] });
        end_of_pod(&serde_json::from_value(json!({ "metadata": { "labels": { JOB_LABEL: "j" } }, "status": status })).unwrap())
    }

    fn report() -> Report {
        Report {
            outcome: Outcome::Installed,
            stage: Stage::Clean,
            reason: Reason::Done,
            message: String::new(),
            host: HostFacts::default(),
            installed: None,
            restart: Restart::Done,
        }
    }

    #[test]
    fn a_report_is_heard_before_the_job_is_said_to_have_ended() {
        let pod = pod(&json!({ "terminated": { "exitCode": 0, "message": report().to_message() } }));
        assert_eq!(job(&json!({})).facts([&pod].into_iter()), JobFacts::Reported(Box::new(report())));
    }

    #[test]
    fn an_installer_that_was_killed_left_no_report() {
        let pod = pod(&json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }));
        assert_eq!(job(&json!({})).facts([&pod].into_iter()), JobFacts::Lost("exit code 137, OOMKilled".to_owned()));
    }

    #[test]
    fn a_pod_that_the_kubelet_refused_is_not_at_work() {
        let status = json!({ "phase": "Failed", "reason": "NodeAffinity", "message": "no" });
        let pod = json!({ "metadata": { "labels": { JOB_LABEL: "j" } }, "status": status });
        let pod = end_of_pod(&serde_json::from_value(pod).unwrap());
        assert!(!pod.is_at_work());
        let JobFacts::Lost(why) = job(&json!({})).facts([&pod].into_iter()) else { panic!("it has ended") };
        assert!(why.contains("NodeAffinity"), "{why}");
    }

    #[test]
    fn a_job_without_pods_runs_until_kubernetes_says_otherwise() {
        assert_eq!(job(&json!({})).facts([].into_iter()), JobFacts::Running { made: None, waiting: None });
        let failed = json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" }] });
        assert_eq!(job(&failed).facts([].into_iter()), JobFacts::Lost("DeadlineExceeded: too long".to_owned()));
    }

    #[test]
    fn what_keeps_an_installer_from_starting_is_passed_on() {
        let pod = pod(&json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } }));
        let JobFacts::Running { waiting: Some(why), .. } = job(&json!({})).facts([&pod].into_iter()) else { panic!("it has not ended") };
        assert!(why.contains("no such image"), "{why}");
    }
}
