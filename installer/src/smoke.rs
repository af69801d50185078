//! A smoke test: one guest through the handler. It is a pod of one container that only containerd
//! knows. It uses the installer's own image, so nothing is pulled, and the node's network, so no
//! network plugin is needed.
//!
//! Every two seconds the kubelet stops the sandboxes of pods that it does not know. A guest takes
//! less time, but may be stopped. Such a run has no result, and the guest is started again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant, SystemTime};

use cri_client::config::{self, ContainerConfig, NamespaceMode, PodConfig};
use cri_client::message::{ContainerState, SandboxState};
use installer_protocol::CgroupDriver;

use crate::cri::{Cri, CriError};

/// The exit code of the smoke guest, `installer/smoke/smoke.wat`, and the line that it prints.
const EXPECTED_CODE: i32 = 42;
const EXPECTED_LINE: &str = "the smoke guest ran on this node";
/// The guest's path in the installer's image.
const GUEST: &str = "/smoke.wasm";
/// The label of the sandbox and the container; its value is the runtime's name.
const LABEL: &str = "runtime.wasmedge.dev/smoke";
/// Only a part of the sandbox's name: the namespace need not exist.
const NAMESPACE: &str = "wasmedge-system";
/// The log's name in its folder.
const LOG: &str = "smoke.log";
/// The exit code after SIGKILL.
const KILLED_CODE: i32 = 137;
/// Maximum number of starts. The kubelet stops sandboxes every two seconds, so one of two runs in a
/// row is not affected.
const MAX_STARTS: u32 = 5;
/// Maximum time between a guest's end and its last line in the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time between a sandbox's end and its removal from the list of ready ones. A run that
/// fails by itself waits as long for its result.
const SANDBOX_STATE_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum bytes of the log's end in an error.
const MAX_LOG_TAIL: usize = 600;

/// A smoke test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Name of the runtime. It names the sandbox, so that a later run finds what an earlier one
    /// left.
    pub runtime: String,
    /// The handler under test.
    pub handler: String,
    /// The installer's own image, which contains `/smoke.wasm`.
    pub image: String,
    /// The cgroup driver of the handler; [`CgroupDriver::Auto`] is the one in containerd's
    /// configuration.
    pub driver: CgroupDriver,
    /// The folder for the guest's log.
    pub logs: Logs,
    /// Maximum time of all runs together.
    pub timeout: Duration,
}

/// A folder that containerd writes and the installer reads, by its two paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The path on the node.
    pub node: PathBuf,
    /// The path for this process. The folder is created if it is absent.
    pub local: PathBuf,
}

/// A smoke test that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Time from the request for the sandbox to the guest's end.
    pub took: Duration,
}

/// A smoke test that did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// A call failed, most often because containerd could not make the sandbox.
    #[error("run the smoke guest with handler {handler}")]
    Call {
        /// The handler.
        handler: String,
        /// containerd's error.
        source: CriError,
    },
    /// The node does not have the installer's image.
    #[error("the node has no image {image}, which contains the smoke guest")]
    NoImage {
        /// The image.
        image: String,
    },
    /// The log's folder cannot be used.
    #[error("use {} for the smoke guest's log", folder.display())]
    Logs {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The guest ended in another way.
    #[error(
        "the smoke guest ended with code {code} ({reason}: {message}), expected {EXPECTED_CODE}; \
         its log: {log:?}"
    )]
    WrongEnd {
        /// Its exit code.
        code: i32,
        /// containerd's reason.
        reason: String,
        /// containerd's message.
        message: String,
        /// The end of its log.
        log: String,
    },
    /// The guest ended as expected, but did not print its line.
    #[error(
        "the smoke guest ended as expected, but its line is missing from the log; the log: {log:?}"
    )]
    Silent {
        /// The end of its log.
        log: String,
    },
    /// The guest did not end in time.
    #[error("the smoke guest did not end within {} s; its log: {log:?}", timeout.as_secs())]
    TimedOut {
        /// The time that was waited.
        timeout: Duration,
        /// The end of its log.
        log: String,
    },
}

/// Runs the smoke guest and removes its sandbox, container and log, also those of an earlier run of
/// the same runtime.
pub async fn run(cri: &Cri, smoke: &Smoke) -> Result<Passed, SmokeError> {
    let log = smoke.logs.local.join(LOG);
    let result = tokio::time::timeout(smoke.timeout, run_guest(cri, smoke, &log)).await;
    let result = result.unwrap_or_else(|_| {
        Err(SmokeError::TimedOut {
            timeout: smoke.timeout,
            log: tail(&read(&log)),
        })
    });
    // What stays behind uses some memory and does no harm; the next test removes it first.
    if let Err(error) = remove_leftovers(cri, &smoke.runtime).await {
        tracing::warn!(error = %error, "the smoke guest's sandbox or container stays behind");
    }
    if let Err(error) = std::fs::remove_file(&log)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = %error, log = %log.display(), "the smoke guest's log stays behind");
    }
    result
}

/// Removes the sandboxes and containers that a smoke test of `runtime` left when its installer was
/// killed. Returns the number of sandboxes.
///
/// A container may be left without its sandbox: the removal of a sandbox includes the containers
/// that exist then, and containerd may create this one a moment later.
pub async fn remove_leftovers(cri: &Cri, runtime: &str) -> Result<usize, CriError> {
    let left = cri.client.sandboxes(labels(runtime)).await?;
    for sandbox in &left {
        cri.remove_sandbox(&sandbox.id).await?;
    }
    for container in cri.client.containers(labels(runtime)).await? {
        cri.remove_container(&container.id).await?;
    }
    Ok(left.len())
}

/// Runs the guest until it ends by itself.
async fn run_guest(cri: &Cri, smoke: &Smoke, log: &Path) -> Result<Passed, SmokeError> {
    let failed = |source| SmokeError::Call {
        handler: smoke.handler.clone(),
        source,
    };
    if !cri.client.has_image(&smoke.image).await.map_err(failed)? {
        return Err(SmokeError::NoImage {
            image: smoke.image.clone(),
        });
    }
    let driver = match smoke.driver {
        CgroupDriver::Auto => cri
            .driver(&smoke.handler)
            .await
            .map_err(failed)?
            .unwrap_or(CgroupDriver::Auto),
        driver => driver,
    };
    let mut starts_left = MAX_STARTS;
    loop {
        starts_left -= 1;
        remove_leftovers(cri, &smoke.runtime)
            .await
            .map_err(failed)?;
        prepare_log(&smoke.logs.local, log).map_err(|source| SmokeError::Logs {
            folder: smoke.logs.local.clone(),
            source,
        })?;
        let config = sandbox_config(smoke, driver);
        let start = Instant::now();
        // An error here is not caused by the kubelet.
        let id = cri
            .client
            .run_sandbox(config.clone(), &smoke.handler)
            .await
            .map_err(failed)?;
        let ended = run_container(cri, smoke, &id, config).await;
        let took = start.elapsed();
        let log_text = if ended.as_ref().is_ok_and(|end| end.code == EXPECTED_CODE) {
            wait_for_line(log).await
        } else {
            read(log)
        };
        let result = ended
            .map_err(failed)
            .and_then(|end| check_end(end, &log_text))
            .map(|()| Passed { took });
        match result {
            Err(error)
                if starts_left > 0
                    && was_stopped(cri, smoke, &id, &error).await.map_err(failed)? =>
            {
                tracing::info!(error = %error,
                    "the smoke guest's sandbox was stopped, so the guest is started again");
            }
            result => return result,
        }
    }
}

/// Returns the guest's log. containerd copies output asynchronously: the container's end may be
/// known before its last line is written.
async fn wait_for_line(log: &Path) -> String {
    let since = Instant::now();
    loop {
        let text = read(log);
        if output(&text).any(|line| line == EXPECTED_LINE) || since.elapsed() >= LOG_TIMEOUT {
            return text;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The end of a guest.
#[derive(Debug)]
struct End {
    code: i32,
    reason: String,
    message: String,
}

/// Runs the guest in a sandbox, to its end.
async fn run_container(
    cri: &Cri,
    smoke: &Smoke,
    sandbox: &str,
    config: PodConfig,
) -> Result<End, CriError> {
    let container = container_config(smoke, &config);
    let id = cri
        .client
        .create_container(sandbox, config, container)
        .await?;
    cri.client.start_container(&id).await?;
    loop {
        let status = cri.client.container(&id).await?;
        if status.state() == ContainerState::Exited {
            return Ok(End {
                code: status.exit_code,
                reason: status.reason,
                message: status.message,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Checks the exit code and the output of a guest.
fn check_end(end: End, log: &str) -> Result<(), SmokeError> {
    let End {
        code,
        reason,
        message,
    } = end;
    if code != EXPECTED_CODE {
        return Err(SmokeError::WrongEnd {
            code,
            reason,
            message,
            log: tail(log),
        });
    }
    if !output(log).any(|line| line == EXPECTED_LINE) {
        return Err(SmokeError::Silent { log: tail(log) });
    }
    Ok(())
}

/// Returns whether another program, such as the kubelet, may have caused the failure, because it
/// stopped or removed the sandbox.
async fn was_stopped(
    cri: &Cri,
    smoke: &Smoke,
    id: &str,
    error: &SmokeError,
) -> Result<bool, CriError> {
    if matches!(
        error,
        SmokeError::WrongEnd {
            code: KILLED_CODE,
            ..
        }
    ) {
        return Ok(true);
    }
    // Once a minute the kubelet removes ended containers that it does not know, but not their
    // sandboxes.
    if matches!(error, SmokeError::Call { source, .. } if source.is_not_found()) {
        return Ok(true);
    }
    let failed = Instant::now();
    loop {
        let sandboxes = cri.client.sandboxes(labels(&smoke.runtime)).await?;
        if !sandboxes
            .iter()
            .any(|sandbox| sandbox.id == id && sandbox.state() == SandboxState::Ready)
        {
            return Ok(true);
        }
        // A refused call may be the first sign: containerd lists a sandbox as ready until it
        // handles the end of its process.
        if !matches!(error, SmokeError::Call { .. }) || failed.elapsed() >= SANDBOX_STATE_TIMEOUT {
            return Ok(false);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn labels(runtime: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.to_owned(), runtime.to_owned())])
}

/// Returns the sandbox's configuration. Its name is unique: a used name stays reserved until the
/// whole sandbox is removed.
fn sandbox_config(smoke: &Smoke, driver: CgroupDriver) -> PodConfig {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut config = config::pod(
        &format!("wasmedge-smoke-{}", smoke.runtime),
        NamespaceMode::Node,
        NamespaceMode::Container,
        cgroup_parent(driver),
    )
    .with_uid(format!("smoke-{}-{}", process::id(), now.as_nanos()))
    .in_namespace(NAMESPACE);
    config.log_directory = smoke.logs.node.display().to_string();
    config.labels = labels(&smoke.runtime);
    config
}

/// Returns the parent of the sandbox's cgroups. systemd accepts slices only, and each node has this
/// one. With the driver cgroupfs they are at the top: a parent of our own would stay behind. A
/// slice's name works with both drivers.
fn cgroup_parent(driver: CgroupDriver) -> &'static str {
    match driver {
        CgroupDriver::Systemd | CgroupDriver::Auto => "system.slice",
        CgroupDriver::Cgroupfs => "/",
    }
}

fn container_config(smoke: &Smoke, pod: &PodConfig) -> ContainerConfig {
    let mut config = pod.container("smoke", &smoke.image, &[GUEST]);
    config.labels = labels(&smoke.runtime);
    LOG.clone_into(&mut config.log_path);
    config
}

/// Creates the folder and removes the log of an earlier guest.
fn prepare_log(folder: &Path, log: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match std::fs::remove_file(log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a log; an absent one is empty.
fn read(log: &Path) -> String {
    std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Returns a container's output from a log in CRI's format: time, stream, `F` or `P`, text.
fn output(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line))
}

/// Returns the end of a container's output.
fn tail(log: &str) -> String {
    let text = output(log).collect::<Vec<_>>().join("\n");
    let start = text.ceil_char_boundary(text.len().saturating_sub(MAX_LOG_TAIL));
    text[start..].to_owned()
}

#[cfg(test)]
mod tests;
