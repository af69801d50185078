//! The agent: acts as kubelets and installers. Each installer Job gets a pod that reports at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use installer_protocol::report::{ContainerdFacts, Installed, Restart};
use installer_protocol::{Outcome, Reason, Report, Request, Stage, Verb};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// The node on which no guest runs: its installer rolls back.
pub(crate) const BAD: &str = "bad";

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The agent, which runs until it is dropped.
pub(crate) struct Agent {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (is_stopped, cluster) = (Arc::clone(&ends), cluster.clone());
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !is_stopped.load(Ordering::Relaxed) {
                for job in cluster.get("jobs")["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                {
                    if seen.insert(job["metadata"]["uid"].to_string()) {
                        run(&cluster, job);
                    }
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        });
        Self {
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()),
            "the agent failed"
        );
    }
}

fn run(cluster: &Cluster, job: &Value) {
    let template = &job["spec"]["template"];
    let name = job["metadata"]["name"].as_str().expect("a Job has a name");
    let mut labels = template["metadata"]["labels"].clone();
    labels["batch.kubernetes.io/job-name"] = json!(name);
    cluster.create(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name,
        "labels": labels}, "spec": template["spec"]}),
    );
    let argument = template["spec"]["containers"][0]["args"][1]
        .as_str()
        .expect("an installer has its request as second argument");
    let request: Request = serde_json::from_str(argument).expect("the request can be read");
    let node = template["spec"]["nodeName"]
        .as_str()
        .expect("an installer has its node");
    let report = report(request.verb, node);
    let handlers = match report.outcome {
        Outcome::Installed => json!([{"name": ""}, {"name": request.handler}]),
        _ => json!([{"name": ""}]),
    };
    cluster.patch_status(
        &format!("node/{node}"),
        &json!({"runtimeHandlers": handlers}),
    );
    let state = json!({"terminated": {"exitCode": 0, "reason": "Completed",
        "message": report.to_message()}});
    let container = json!({"name": "installer", "image": "i", "imageID": "i", "ready": false,
        "restartCount": 0, "state": state});
    cluster.patch_status(
        &format!("pod/{name}"),
        &json!({"phase": "Succeeded", "containerStatuses": [container]}),
    );
}

fn report(verb: Verb, node: &str) -> Report {
    let installed = Installed {
        version: "0.1.0".to_owned(),
        sha256: "0".repeat(64),
        path: "/opt/wasmedge-runtime/0.1.0".to_owned(),
    };
    let (outcome, stage, reason, installed) = match verb {
        Verb::Install if node == BAD => (
            Outcome::RolledBack,
            Stage::Verify,
            Reason::SmokeFailed,
            None,
        ),
        Verb::Install => (
            Outcome::Installed,
            Stage::Clean,
            Reason::Done,
            Some(installed),
        ),
        Verb::Uninstall => (Outcome::Removed, Stage::Clean, Reason::Done, None),
    };
    Report {
        outcome,
        stage,
        reason,
        message: "done".to_owned(),
        containerd: ContainerdFacts::default(),
        installed,
        restart: Restart::Done,
    }
}
