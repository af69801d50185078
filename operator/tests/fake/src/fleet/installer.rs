//! One installer Job, from its creation to its end.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use installer_protocol::report::{ContainerdFacts, Installed, Restart};
use installer_protocol::{Artifact, Outcome, Reason, Report, Request, Stage, Verb};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::machine::{Machine, Touch};
use super::script::{Delays, Script};
use super::{POD_COLLECTION_DELAY, Shared, object};
use crate::store::Key;

/// The end of an installer's container.
enum End {
    /// It left this report.
    Reported(Box<Report>),
    /// It did not start.
    Unstarted,
    /// It was killed.
    Killed,
    /// It has no end: its machine is gone.
    Vanished,
}

/// Runs a Job, and removes it after its time to live.
pub(super) async fn run(fleet: Shared, job: Key, object: Arc<Value>, request: Request) {
    attempt(&fleet, &job, &object, &request).await;
    if let Some(seconds) = object["spec"]["ttlSecondsAfterFinished"].as_u64() {
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            let uid = |job: &Value| job["metadata"]["uid"].clone();
            // It may have been removed and created again.
            if fleet
                .cluster
                .get(&job)
                .is_some_and(|found| uid(&found) == uid(&object) && object::has_ended(&found))
            {
                let _ = fleet.cluster.delete(&job);
            }
        });
    }
}

async fn attempt(fleet: &Shared, job: &Key, object: &Value, request: &Request) {
    let spec = &object["spec"];
    let node = spec["template"]["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let deadline = spec["activeDeadlineSeconds"]
        .as_u64()
        .map_or(Duration::MAX, Duration::from_secs);
    let Some(machine) = fleet.state().machines.get(&node).cloned() else {
        fleet.record_violation(format!("{job} is for a node that never was: {node}"));
        return;
    };
    if next_script(fleet, &node) == Script::IsNotAdmitted {
        begin(fleet, &node);
        let cause = "Error creating: pods \"installer\" is forbidden: violates PodSecurity \
                     \"restricted:latest\"";
        object::warn(&fleet.cluster, job, "FailedCreate", cause);
        // A Job without an end would never settle.
        sleep(deadline).await;
        return object::fail_job(
            &fleet.cluster,
            job,
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }
    if fleet.cluster.create(object::pod(job, object)).is_err() {
        // The Job was deleted before its pod was created, and created again.
        return;
    }
    if machine.is_gone {
        sleep(POD_COLLECTION_DELAY).await;
        // Another client removed it.
        let _ = fleet.cluster.delete(&object::pod_key(job));
        return object::fail_job(
            &fleet.cluster,
            job,
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    match timeout(deadline, container(fleet, job, &node, request)).await {
        Ok(End::Reported(report)) => finish(fleet, job, &node, &report).await,
        Ok(End::Unstarted) => {
            let message =
                "failed to create containerd task: failed to create shim task: exec format error";
            object::end_pod(
                &fleet.cluster,
                job,
                128,
                "StartError",
                Some(message.to_owned()),
            );
            sleep(machine.delays.notice).await;
            object::fail_job(
                &fleet.cluster,
                job,
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        Ok(End::Killed) => {
            object::end_pod(&fleet.cluster, job, 137, "OOMKilled", None);
            sleep(machine.delays.notice).await;
            object::fail_job(
                &fleet.cluster,
                job,
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        Ok(End::Vanished) => {}
        Err(_) => exceed_deadline(fleet, job, &node).await,
    }
}

/// Kills an installer after its deadline; on a machine that does not respond, the pod stays.
async fn exceed_deadline(fleet: &Shared, job: &Key, node: &str) {
    let (reason, message) = (
        "DeadlineExceeded",
        "Job was active longer than specified deadline",
    );
    let dead = fleet
        .state()
        .machines
        .get(node)
        .is_none_or(|machine| machine.is_dead || machine.is_gone);
    if dead {
        return object::doom_job(&fleet.cluster, job, reason, message);
    }
    fleet.with_machine(node, |machine| machine.installer = None);
    // The Job controller deletes the pod, and its report with it.
    let _ = fleet.cluster.delete(&object::pod_key(job));
    sleep(Duration::from_secs(1)).await;
    object::fail_job(&fleet.cluster, job, reason, message);
}

async fn finish(fleet: &Shared, job: &Key, node: &str, report: &Report) {
    let good = matches!(report.outcome, Outcome::Installed | Outcome::Removed);
    let (code, reason) = if good { (0, "Completed") } else { (1, "Error") };
    let delays = fleet
        .state()
        .machines
        .get(node)
        .map_or_else(Delays::default, |machine| machine.delays);
    object::end_pod(&fleet.cluster, job, code, reason, Some(report.to_message()));
    sleep(delays.notice).await;
    if good {
        object::complete_job(&fleet.cluster, job);
    } else {
        object::fail_job(
            &fleet.cluster,
            job,
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
}

async fn container(fleet: &Shared, job: &Key, node: &str, request: &Request) -> End {
    let Some((script, delays)) = begin(fleet, node) else {
        return future::pending().await;
    };
    wait_until_ready(fleet, node).await;
    if script.has_no_container() {
        // The Job controller keeps each pod until its end was counted.
        object::hold_pod(&fleet.cluster, job);
    }
    sleep(delays.start).await;
    match script {
        Script::NeverStarts => {
            let message = format!("Back-off pulling image {}: not found", request.image);
            object::set_pod(
                &fleet.cluster,
                job,
                "Pending",
                &json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } }),
            );
            return future::pending().await;
        }
        Script::CannotMount => {
            object::set_pod(
                &fleet.cluster,
                job,
                "Pending",
                &json!({ "waiting": { "reason": "ContainerCreating" } }),
            );
            let cause = "MountVolume.SetUp failed for volume \"host-0\" : hostPath type check \
                         failed: /etc/containerd is not a directory";
            object::warn(&fleet.cluster, &object::pod_key(job), "FailedMount", cause);
            return future::pending().await;
        }
        Script::FailsToStart => return End::Unstarted,
        _ => {}
    }
    object::set_pod(
        &fleet.cluster,
        job,
        "Running",
        &json!({ "running": { "startedAt": fleet.cluster.now().to_string() } }),
    );
    mark_running(fleet, job, node, request);
    let end = work(fleet, node, request, &script, delays).await;
    if !matches!(end, End::Vanished) {
        fleet.with_machine(node, |machine| machine.installer = None);
    }
    end
}

fn next_script(fleet: &Shared, node: &str) -> Script {
    let state = fleet.state();
    state
        .machines
        .get(node)
        .and_then(|machine| machine.scripts.front().cloned())
        .unwrap_or(Script::Works)
}

fn begin(fleet: &Shared, node: &str) -> Option<(Script, Delays)> {
    let mut state = fleet.state();
    let machine = state.machines.get_mut(node)?;
    Some((
        machine.scripts.pop_front().unwrap_or(Script::Works),
        machine.delays,
    ))
}

/// Waits until the kubelet is Ready: otherwise it starts no container.
async fn wait_until_ready(fleet: &Shared, node: &str) {
    while !fleet
        .state()
        .machines
        .get(node)
        .is_some_and(|machine| machine.is_ready && !machine.is_dead)
    {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Marks the installer as running. Two at a time on a node are a violation.
fn mark_running(fleet: &Shared, job: &Key, node: &str, request: &Request) {
    let mut other = None;
    fleet.with_machine(node, |machine| {
        other = machine.installer.replace(job.name.clone());
        machine.runs += 1;
        machine
            .touched
            .insert(request.runtime.clone(), Touch::Begun);
    });
    if let Some(other) = other {
        fleet.record_violation(format!("{} started on {node} while {other} ran", job.name));
    }
}

async fn work(
    fleet: &Shared,
    node: &str,
    request: &Request,
    script: &Script,
    delays: Delays,
) -> End {
    sleep(delays.work / 2).await;
    match script {
        Script::Dies => return End::Killed,
        Script::Hangs => return future::pending().await,
        Script::NodeDies => {
            fleet.with_machine(node, |machine| {
                machine.is_dead = true;
                machine.unsettle(&request.runtime);
            });
            fleet.report_ready(node, false);
            return future::pending().await;
        }
        Script::NodeVanishes => {
            fleet.remove_node(node);
            return End::Vanished;
        }
        _ => {}
    }
    sleep(delays.work / 2).await;
    if let Script::Fails(outcome, reason) = script {
        if *outcome == Outcome::Broken {
            fleet.with_machine(node, |machine| {
                machine
                    .handlers
                    .retain(|_, runtime| *runtime != request.runtime);
            });
            fleet.report_handlers(node);
        }
        return End::Reported(Box::new(report(fleet, node, request, *outcome, *reason)));
    }
    if let Script::WorksWithNotReady(time) = script {
        fleet.report_ready(node, false);
        fleet.with_machine(node, |machine| machine.unsettle(&request.runtime));
        let runtime = request.runtime.clone();
        later(fleet, node, *time, move |fleet, node| {
            fleet.with_machine(node, |machine| machine.settle(&runtime));
            fleet.report_ready(node, true);
        });
    }
    // Only a new handler is listed with a delay.
    let mut is_news = false;
    fleet.with_machine(node, |machine| {
        let before = machine.listed();
        carry_out(machine, request, script);
        is_news = request.verb == Verb::Install && machine.listed() != before;
        if is_news {
            machine.unsettle(&request.runtime);
        }
    });
    let runtime = request.runtime.clone();
    later(fleet, node, delays.listing, move |fleet, node| {
        if is_news {
            fleet.with_machine(node, |machine| machine.settle(&runtime));
        }
        fleet.report_handlers(node);
    });
    let outcome = if request.verb == Verb::Install {
        Outcome::Installed
    } else {
        Outcome::Removed
    };
    End::Reported(Box::new(report(
        fleet,
        node,
        request,
        outcome,
        Reason::Done,
    )))
}

fn later(
    fleet: &Shared,
    node: &str,
    time: Duration,
    what: impl FnOnce(&Shared, &str) + Send + 'static,
) {
    let (fleet, node) = (fleet.clone(), node.to_owned());
    tokio::spawn(async move {
        sleep(time).await;
        what(&fleet, &node);
    });
}

fn carry_out(machine: &mut Machine, request: &Request, script: &Script) {
    machine
        .handlers
        .retain(|_, runtime| *runtime != request.runtime);
    match request.verb {
        Verb::Install => {
            machine
                .installed
                .insert(request.runtime.clone(), installed(request));
            machine.touched.insert(request.runtime.clone(), Touch::Done);
            if *script != Script::WorksWithoutHandler {
                machine
                    .handlers
                    .insert(request.handler.clone(), request.runtime.clone());
                machine.sabotaged.remove(&request.handler);
            }
        }
        Verb::Uninstall => {
            machine.installed.remove(&request.runtime);
            machine.touched.remove(&request.runtime);
        }
    }
}

/// Returns the runtime of a request; the version is part of the image's or archive's name.
fn installed(request: &Request) -> Installed {
    let (version, sha256) = match &request.artifact {
        Some(Artifact::Url { url, sha256 }) => (
            url.rsplit('/').next().unwrap_or_default().to_owned(),
            sha256.clone(),
        ),
        Some(Artifact::Image { reference, sha256 }) => (tag(reference), sha256.clone()),
        Some(Artifact::Bundled) | None => (tag(&request.image), "0".repeat(64)),
    };
    let path = format!("/opt/wasmedge-runtime/{version}-{}", &sha256[..12]);
    Installed {
        version,
        sha256,
        path,
    }
}

fn tag(reference: &str) -> String {
    reference.rsplit(':').next().unwrap_or_default().to_owned()
}

fn report(
    fleet: &Shared,
    node: &str,
    request: &Request,
    outcome: Outcome,
    reason: Reason,
) -> Report {
    let machine = fleet.state().machines.get(node).cloned();
    let containerd = machine
        .as_ref()
        .map(|machine| machine.containerd.clone())
        .unwrap_or_default();
    Report {
        outcome,
        stage: Stage::Clean,
        reason,
        message: if reason == Reason::Done {
            String::new()
        } else {
            format!("{} on {node}", reason.as_str())
        },
        containerd: ContainerdFacts {
            version: containerd,
            config_version: 3,
            config_path: "/etc/containerd/conf.d/x.toml".to_owned(),
            systemd_cgroup: true,
        },
        installed: machine.and_then(|machine| machine.installed.get(&request.runtime).cloned()),
        restart: Restart::Done,
    }
}
