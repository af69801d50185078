//! A smoke test: one guest that really runs through the new handler. It is a pod of one container
//! that only containerd knows of, of the installer's own image, so nothing is pulled; it has the
//! node's network, so no network plugin is needed.
//!
//! The kubelet looks at all sandboxes every two seconds and stops those of pods that it does not
//! know. A guest takes less, but may be met: what was stopped by somebody else proves nothing, and
//! is tried again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant, SystemTime};

use installer_protocol::CgroupDriver;

use crate::cri::message::{
    ContainerConfig, ContainerMetadata, ContainerState, CreateContainerRequest, ImageSpec,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, SandboxState,
};
use crate::cri::{Cri, CriError};

/// The exit code of `installer/smoke/smoke.wat`, and what it says.
const CODE: i32 = 42;
const LINE: &str = "the smoke guest ran on this node";
/// Where the installer's image holds it.
const GUEST: &str = "/smoke.wasm";
/// The label of a smoke test's sandbox and container; the value is the runtime's name.
const LABEL: &str = "runtime.wasmedge.dev/smoke";
/// Part of the sandbox's name only: no such namespace has to exist.
const NAMESPACE: &str = "wasmedge-system";
/// The log's name in its folder.
const LOG: &str = "smoke.log";
/// The exit code of a process that was killed.
const KILLED: i32 = 137;
/// How often a guest is started whose sandbox somebody stops: the kubelet comes every two seconds,
/// so one of two tries in a row is not met.
const TRIES: u32 = 5;
/// How much later than the news of its end a guest's last line may come.
const LATE: Duration = Duration::from_secs(5);
/// How much later than it ends a sandbox may be listed as ready. What fails by itself waits as long
/// for its verdict.
const HEARD: Duration = Duration::from_secs(2);
/// The pause between two looks at the guest.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of the log's end that go into an error.
const TAIL: usize = 600;

/// What is run, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Name of the runtime: names the sandbox, so that a later run finds what an earlier one left.
    pub runtime: String,
    /// The handler that is tried.
    pub handler: String,
    /// The installer's own image, which holds `/smoke.wasm`.
    pub image: String,
    /// Who sets up the handler's cgroups; with [`CgroupDriver::Auto`] it is whom containerd's
    /// configuration says.
    pub driver: CgroupDriver,
    /// The folder for the guest's log.
    pub logs: Logs,
    /// How long all of it may take.
    pub limit: Duration,
}

/// A folder that containerd writes into and the installer reads. Both names lead to the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path as this process sees it; made if it is missing.
    pub seen: PathBuf,
}

/// A guest that ran as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// From asking for the sandbox to the guest's end.
    pub took: Duration,
}

/// Why the smoke test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// A call failed, most often because the sandbox could not be made: containerd's text says why.
    #[error("run the smoke guest with handler {handler}")]
    Call {
        /// The handler.
        handler: String,
        /// What containerd said.
        source: CriError,
    },
    /// The node does not have the installer's image (any more).
    #[error("the node has no image {image}, which holds the smoke guest")]
    NoImage {
        /// The image.
        image: String,
    },
    /// The folder for the log cannot be used.
    #[error("use {} for the smoke guest's log", folder.display())]
    Logs {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The guest ran to an end, but not to the right one.
    #[error(
        "the smoke guest ended with code {code} ({reason}: {message}), expected {CODE}; it said: \
         {said:?}"
    )]
    WrongEnd {
        /// Its exit code.
        code: i32,
        /// containerd's word for the end.
        reason: String,
        /// containerd's text on it.
        message: String,
        /// The end of its log.
        said: String,
    },
    /// The guest ended rightly without having said its line.
    #[error(
        "the smoke guest ended as expected, but its line is missing from the log; the log: {said:?}"
    )]
    Silent {
        /// The end of its log.
        said: String,
    },
    /// The guest did not end in time.
    #[error("the smoke guest did not end within {} s; it said: {said:?}", limit.as_secs())]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
        /// The end of its log.
        said: String,
    },
}

/// Runs the smoke guest once and removes everything of it, also what an earlier run of the same
/// runtime left.
pub async fn run(cri: &Cri, smoke: &Smoke) -> Result<Passed, SmokeError> {
    let log = smoke.logs.seen.join(LOG);
    let ended = tokio::time::timeout(smoke.limit, tries(cri, smoke, &log)).await;
    let ended = ended.unwrap_or_else(|_| {
        Err(SmokeError::TimedOut {
            limit: smoke.limit,
            said: tail(&read(&log)),
        })
    });
    // What is left takes some memory and does no harm; the next test removes it first.
    if let Err(error) = remove_leftovers(cri, &smoke.runtime).await {
        tracing::warn!(error = %error, "the smoke guest's sandbox or container stays behind");
    }
    if let Err(error) = std::fs::remove_file(&log)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = %error, log = %log.display(), "the smoke guest's log stays behind");
    }
    ended
}

/// Removes what a smoke test of `runtime` left behind when its installer was killed; how many
/// sandboxes that were.
///
/// A container may be left without its sandbox: a sandbox that is removed while containerd creates
/// a container in it takes along the containers that are there, and this one is there a moment
/// later.
pub async fn remove_leftovers(cri: &Cri, runtime: &str) -> Result<usize, CriError> {
    let left = cri.sandboxes(labels(runtime)).await?;
    for sandbox in &left {
        cri.remove_sandbox(&sandbox.id).await?;
    }
    for container in cri.containers(labels(runtime)).await? {
        cri.remove_container(&container.id).await?;
    }
    Ok(left.len())
}

/// Runs the guest until it came to an end of its own.
async fn tries(cri: &Cri, smoke: &Smoke, log: &Path) -> Result<Passed, SmokeError> {
    let failed = |source| SmokeError::Call {
        handler: smoke.handler.clone(),
        source,
    };
    if !cri.has_image(&smoke.image).await.map_err(failed)? {
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
    let mut left = TRIES;
    loop {
        left -= 1;
        remove_leftovers(cri, &smoke.runtime)
            .await
            .map_err(failed)?;
        prepare(&smoke.logs.seen, log).map_err(|source| SmokeError::Logs {
            folder: smoke.logs.seen.clone(),
            source,
        })?;
        let config = sandbox(smoke, driver);
        let start = Instant::now();
        // That the sandbox itself is not made is nobody else's doing.
        let id = cri
            .run_sandbox(config.clone(), &smoke.handler)
            .await
            .map_err(failed)?;
        let ended = guest(cri, smoke, &id, config).await;
        let took = start.elapsed();
        let log_text = if ended.as_ref().is_ok_and(|end| end.code == CODE) {
            heard(log).await
        } else {
            read(log)
        };
        let passed = ended
            .map_err(failed)
            .and_then(|end| judge(end, &log_text))
            .map(|()| Passed { took });
        match passed {
            Err(error)
                if left > 0 && was_stopped(cri, smoke, &id, &error).await.map_err(failed)? =>
            {
                tracing::info!(error = %error, "somebody stopped the smoke guest's sandbox, so it \
                                                is started again");
            }
            ended => return ended,
        }
    }
}

/// The guest's log. containerd copies what a container says at its own pace: that it has ended may
/// be known before its last line is written.
async fn heard(log: &Path) -> String {
    let since = Instant::now();
    loop {
        let text = read(log);
        if said(&text).any(|line| line == LINE) || since.elapsed() >= LATE {
            return text;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a guest ended.
#[derive(Debug)]
struct End {
    code: i32,
    reason: String,
    message: String,
}

/// Runs the guest in a sandbox, to its end.
async fn guest(
    cri: &Cri,
    smoke: &Smoke,
    sandbox: &str,
    config: PodSandboxConfig,
) -> Result<End, CriError> {
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(container(smoke)),
        sandbox_config: Some(config),
    };
    let id = cri.create_container(request).await?;
    cri.start_container(&id).await?;
    loop {
        let status = cri.container(&id).await?;
        if status.state() == ContainerState::Exited {
            return Ok(End {
                code: status.exit_code,
                reason: status.reason,
                message: status.message,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a guest ended as it should.
fn judge(end: End, log: &str) -> Result<(), SmokeError> {
    let End {
        code,
        reason,
        message,
    } = end;
    if code != CODE {
        return Err(SmokeError::WrongEnd {
            code,
            reason,
            message,
            said: tail(log),
        });
    }
    if !said(log).any(|line| line == LINE) {
        return Err(SmokeError::Silent { said: tail(log) });
    }
    Ok(())
}

/// Whether a failure may be somebody else's doing, who stopped or removed the sandbox, or was about
/// to.
async fn was_stopped(
    cri: &Cri,
    smoke: &Smoke,
    id: &str,
    error: &SmokeError,
) -> Result<bool, CriError> {
    if matches!(error, SmokeError::WrongEnd { code: KILLED, .. }) {
        return Ok(true);
    }
    // Once a minute the kubelet removes containers that have ended and that it does not know, their
    // sandboxes not.
    if matches!(error, SmokeError::Call { source, .. } if source.is_not_found()) {
        return Ok(true);
    }
    let failed = Instant::now();
    loop {
        let sandboxes = cri.sandboxes(labels(&smoke.runtime)).await?;
        if !sandboxes
            .iter()
            .any(|sandbox| sandbox.id == id && sandbox.state() == SandboxState::Ready)
        {
            return Ok(true);
        }
        // A refused call may be the first sign: containerd lists a sandbox as ready until it has
        // heard of its end.
        if !matches!(error, SmokeError::Call { .. }) || failed.elapsed() >= HEARD {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn labels(runtime: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.to_owned(), runtime.to_owned())])
}

/// The sandbox, under a name that no other has: a name that was used stays reserved until all of it
/// is removed.
fn sandbox(smoke: &Smoke, driver: CgroupDriver) -> PodSandboxConfig {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let metadata = PodSandboxMetadata {
        name: format!("wasmedge-smoke-{}", smoke.runtime),
        uid: format!("smoke-{}-{}", process::id(), now.as_nanos()),
        namespace: NAMESPACE.to_owned(),
    };
    let security_context = Some(LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
    });
    PodSandboxConfig {
        metadata: Some(metadata),
        log_directory: smoke.logs.host.display().to_string(),
        labels: labels(&smoke.runtime),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(driver).to_owned(),
            security_context,
        }),
    }
}

/// Where the sandbox's cgroups are made. systemd takes slices only, and each host has this one.
/// Where the runtime makes them itself, they lie at the top: a parent of our own would stay behind.
/// A slice's name does for both.
fn cgroup_parent(driver: CgroupDriver) -> &'static str {
    match driver {
        CgroupDriver::Systemd | CgroupDriver::Auto => "system.slice",
        CgroupDriver::Cgroupfs => "/",
    }
}

fn container(smoke: &Smoke) -> ContainerConfig {
    let security_context = Some(LinuxContainerSecurityContext {
        namespace_options: Some(namespaces()),
    });
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "smoke".to_owned(),
        }),
        image: Some(ImageSpec {
            image: smoke.image.clone(),
        }),
        command: vec![GUEST.to_owned()],
        labels: labels(&smoke.runtime),
        log_path: LOG.to_owned(),
        linux: Some(LinuxContainerConfig { security_context }),
    }
}

fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
    }
}

/// Makes the folder; a log that is there is not this guest's.
fn prepare(folder: &Path, log: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match std::fs::remove_file(log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A log that is not there says nothing.
fn read(log: &Path) -> String {
    std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// What a container said, of a log in CRI's form: time, stream, `F` or `P`, text.
fn said(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line))
}

/// The end of what a container said.
fn tail(log: &str) -> String {
    let text = said(log).collect::<Vec<_>>().join("\n");
    let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
    text[start..].to_owned()
}

#[cfg(test)]
mod tests;
