//! Benchmark of one task without containerd: the shim's executable is started as containerd does,
//! and called over ttrpc. This excludes containerd's own share of each call.
//!
//! | phase | from | to |
//! |---|---|---|
//! | launch | the start of the executable | the connection to the address that it printed |
//! | create, start, delete | the request | the answer |
//! | first output | the request to start | the first byte on standard output |
//! | ended | the request to start | the answer to Wait |

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim_async::Client;
use containerd_shim_protos::ttrpc::Request;
use containerd_shim_protos::ttrpc::proto::KeyValue;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::containerd::{Containerd, Made};
use crate::output::{fifo, open};
use crate::plan::{Plan, Samples};
use crate::tasks;

/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout of all calls of a task.
const TASK_TIMEOUT: Duration = Duration::from_mins(2);
/// Timeout for a shim to listen after its reply.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The folder of the shims' sockets, and of the bundles here: it is not visible from outside an
/// isolated namespace.
const BUNDLES: &str = "/run/containerd";

pub(crate) async fn run(containerd: &Containerd, plan: &Plan) -> Result<Samples> {
    let templates = tasks::templates(containerd, plan).await?;
    let mut samples = Samples::default();
    for turn in plan.turns() {
        let name = turn.subject.name.as_str();
        let template = templates
            .get(name)
            .with_context(|| format!("{name} has no template"))?;
        let made = containerd
            .make(template, &format!("direct-{}", turn.id()))
            .await?;
        let life = tokio::time::timeout(
            TASK_TIMEOUT,
            run_task(containerd, &turn.subject.shim, &made),
        )
        .await;
        let life = life.with_context(|| {
            format!(
                "the task {} of {name} has not ended in {TASK_TIMEOUT:?}",
                made.id
            )
        })?;
        let phases = life.with_context(|| format!("the task {} of {name}", made.id))?;
        containerd.remove(&made).await?;
        if turn.counts {
            for (phase, time) in phases {
                samples.time(name, phase, time);
            }
        }
    }
    Ok(samples)
}

/// Runs a task from its shim's start to its shim's end; returns the phases with their durations.
async fn run_task(
    containerd: &Containerd,
    shim: &Path,
    made: &Made,
) -> Result<[(&'static str, Duration); 6]> {
    let bundle = Bundle::make(made)?;
    let begun = Instant::now();
    let task = bundle.launch(containerd, shim, &made.id).await?;
    let launched = Instant::now();
    task.create(&bundle, made).await?;
    let created = Instant::now();
    let mut output = bundle.output()?;
    let (first_byte, first) = oneshot::channel();
    // A shim that waits for its readers waits only as long as they take.
    let mut readers = JoinSet::new();
    readers.spawn(async move {
        let mut first_byte = Some(first_byte);
        let mut some = [0; 4096];
        while matches!(output.read(&mut some).await, Ok(1..)) {
            // A dropped receiver needs no answer.
            first_byte
                .take()
                .map(|first_byte| first_byte.send(Instant::now()));
        }
    });
    let first = async { first.await.context("read the task's output") };
    let ended = async {
        let started: api::StartResponse = task
            .call(
                "Start",
                &api::StartRequest {
                    id: made.id.clone(),
                    ..Default::default()
                },
            )
            .await?;
        ensure!(started.pid != 0, "the task was started without a process");
        let started = Instant::now();
        let end: api::WaitResponse = task
            .call(
                "Wait",
                &api::WaitRequest {
                    id: made.id.clone(),
                    ..Default::default()
                },
            )
            .await?;
        ensure!(
            end.exit_status == 0,
            "it ended with exit code {}",
            end.exit_status
        );
        Ok((started, Instant::now()))
    };
    let (first, (started, ended)) = tokio::try_join!(first, ended)?;
    let asked = Instant::now();
    let _: api::DeleteResponse = task
        .call(
            "Delete",
            &api::DeleteRequest {
                id: made.id.clone(),
                ..Default::default()
            },
        )
        .await?;
    let delete = asked.elapsed();
    // A shim without other tasks exits on this, some before they have answered.
    let _: Result<api::Empty> = task
        .call(
            "Shutdown",
            &api::ShutdownRequest {
                id: made.id.clone(),
                ..Default::default()
            },
        )
        .await;
    Ok([
        ("launch", launched - begun),
        ("create", created - launched),
        ("start", started - created),
        ("first output", first - created),
        ("ended", ended - created),
        ("delete", delete),
    ])
}

/// A container's folder, as containerd creates it.
#[derive(Debug)]
struct Bundle {
    folder: tempfile::TempDir,
    /// Shims write their log there; its reading end must be open.
    _log: pipe::Receiver,
}

impl Bundle {
    fn make(made: &Made) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bundle-")
            .tempdir_in(BUNDLES)
            .context("make a folder for a bundle")?;
        let path = folder.path().join("rootfs");
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .with_context(|| format!("make {}", path.display()))?;
        let spec = folder.path().join("config.json");
        fs::write(&spec, &made.spec).with_context(|| format!("write {}", spec.display()))?;
        let log = fifo(&folder.path().join("log"))?;
        fifo(&folder.path().join("stdout")).map(drop)?;
        Ok(Self { folder, _log: log })
    }

    fn stdout(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }

    /// Returns the reading end of the task's standard output.
    fn output(&self) -> Result<pipe::Receiver> {
        open(&self.stdout())
    }

    /// Starts the shim's executable and connects to the address that it prints.
    async fn launch(&self, containerd: &Containerd, shim: &Path, id: &str) -> Result<Task> {
        let mut command = Command::new(shim);
        command
            .arg("-namespace")
            .arg(&containerd.namespace)
            .arg("-address")
            .arg(&containerd.address);
        command
            .args(["-publish-binary", "containerd", "-id", id, "start"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        let mut events = containerd.address.clone().into_os_string();
        events.push(".ttrpc");
        command
            .env("TTRPC_ADDRESS", events)
            .env("GRPC_ADDRESS", &containerd.address);
        command
            .env("NAMESPACE", &containerd.namespace)
            .env("MAX_SHIM_VERSION", "3");
        let output = command
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("start {}", shim.display()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} start: {}\n{printed}{complaint}",
            shim.display(),
            output.status
        );
        let Address { version, address } = Address::read(printed.trim())?;
        let begun = Instant::now();
        let client = loop {
            match Client::connect(&address).await {
                Ok(client) => break client,
                Err(error) if begun.elapsed() > CONNECT_TIMEOUT => {
                    return Err(error).with_context(|| format!("connect to {address}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        Ok(Task {
            client,
            service: format!("containerd.task.v{version}.Task"),
            namespace: containerd.namespace.clone(),
        })
    }
}

/// A shim's reply to `start`: the address alone, or with the version of its API.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Address {
    version: u32,
    address: String,
}

impl Address {
    fn read(printed: &str) -> Result<Self> {
        if printed.starts_with('{') {
            return serde_json::from_str(printed)
                .with_context(|| format!("read the shim's answer {printed:?}"));
        }
        Ok(Self {
            version: 2,
            address: printed.to_owned(),
        })
    }
}

/// A shim's task service.
struct Task {
    client: Client,
    service: String,
    namespace: String,
}

impl Task {
    async fn create(&self, bundle: &Bundle, made: &Made) -> Result<()> {
        let rootfs = made.rootfs.iter().map(|mount| api::Mount {
            type_: mount.r#type.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            options: mount.options.clone(),
            ..Default::default()
        });
        let request = api::CreateTaskRequest {
            id: made.id.clone(),
            bundle: bundle.folder.path().display().to_string(),
            rootfs: rootfs.collect(),
            stdout: bundle.stdout().display().to_string(),
            ..Default::default()
        };
        self.call::<api::CreateTaskResponse>("Create", &request)
            .await
            .map(drop)
    }

    async fn call<A: Message>(&self, method: &str, message: &impl Message) -> Result<A> {
        let mut request = Request::new();
        request.service.clone_from(&self.service);
        method.clone_into(&mut request.method);
        request.timeout_nano = i64::try_from(CALL_TIMEOUT.as_nanos()).unwrap_or(i64::MAX);
        request.payload = message
            .write_to_bytes()
            .with_context(|| format!("write the request to {method}"))?;
        let key = "containerd-namespace-ttrpc".to_owned();
        request.metadata.push(KeyValue {
            key,
            value: self.namespace.clone(),
            ..Default::default()
        });
        let answer = self
            .client
            .request(request)
            .await
            .with_context(|| format!("{}/{method}", self.service))?;
        A::parse_from_bytes(&answer.payload).with_context(|| format!("read the answer to {method}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_alone_selects_api_version_2() {
        let address = Address::read("unix:///run/containerd/s/1").unwrap();
        assert_eq!(
            address,
            Address {
                version: 2,
                address: "unix:///run/containerd/s/1".to_owned()
            }
        );
    }

    #[test]
    fn reply_with_a_version_selects_it() {
        let address =
            Address::read(r#"{"version":3,"address":"unix:///s","protocol":"ttrpc"}"#).unwrap();
        assert_eq!(
            address,
            Address {
                version: 3,
                address: "unix:///s".to_owned()
            }
        );
        Address::read("{").unwrap_err();
    }
}
