//! The real services of a node: systemd through its private socket, containerd through its socket,
//! and programs inside the node's root.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use installer_protocol::Artifact;
use systemd_client::{Systemd, Unit};
use tokio::runtime::{Builder, Runtime};

use crate::containers::RunningWorkloads;
use crate::cri::{Cri, CriStatus};
use crate::fetch::{Archive, FetchError, Fetcher};
use crate::kernel::Kernel;
use crate::machine::{Machine, Trial};
use crate::node_root::{NodePath, NodeRoot};
use crate::smoke::{self, Logs, Smoke};

/// Maximum run time of containerd's program.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time of a unit's restart. A k3s server is slow.
const RESTART_TIMEOUT: Duration = Duration::from_mins(3);
/// Maximum time of the smoke test, with the first start of the runtime on a loaded node.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(90);

/// The services of the node with this root.
#[derive(Debug)]
pub struct Services {
    root: NodeRoot,
    runtime: Runtime,
    fetcher: Fetcher,
    began: Instant,
}

impl Services {
    /// Makes the services of the node at `root`.
    ///
    /// # Errors
    /// If no threads can be started.
    pub fn new(root: NodeRoot) -> Result<Self> {
        // Two threads are enough for all concurrent work, on any machine.
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the threads for connections")?;
        Ok(Self {
            root,
            runtime,
            fetcher: Fetcher::default(),
            began: Instant::now(),
        })
    }

    /// Returns the runtime of the connections.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn systemd(&self) -> Result<Systemd> {
        let socket = self.root.locate(&NodePath::new("/run/systemd/private")?)?;
        Ok(Systemd::connect(&socket)?)
    }

    /// Calls containerd at `socket`.
    fn containerd<T, F: Future<Output = T>>(
        &self,
        socket: &NodePath,
        call: impl FnOnce(Cri) -> F,
    ) -> Result<T> {
        let socket = self
            .root
            .locate(socket)
            .with_context(|| format!("find {socket} on the node"))?;
        Ok(self
            .runtime
            .block_on(async { call(Cri::at(&socket)).await }))
    }
}

impl Machine for Services {
    fn unit(&self, name: &str) -> Result<Unit> {
        Ok(self.systemd()?.unit(name)?)
    }

    fn run(&self, program: &NodePath, arguments: &[&str]) -> io::Result<Output> {
        let mut command = self.root.command(program)?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.runtime.block_on(async {
            let mut command = tokio::process::Command::from(command);
            // On a timeout the program is killed, when its future is dropped.
            let ended =
                tokio::time::timeout(PROGRAM_TIMEOUT, command.kill_on_drop(true).output()).await;
            ended.unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "{program} did not end within {} s",
                        PROGRAM_TIMEOUT.as_secs()
                    ),
                ))
            })
        })
    }

    fn restart(&self, unit: &str) -> Result<()> {
        let mut systemd = self.systemd()?;
        systemd.restart(unit, RESTART_TIMEOUT)?;
        Ok(())
    }

    fn served(&self, socket: &NodePath, timeout: Duration) -> Result<CriStatus> {
        Ok(self.containerd(
            socket,
            |cri| async move { cri.wait_until_ready(timeout).await },
        )??)
    }

    fn running(&self, socket: &NodePath) -> Result<RunningWorkloads> {
        Ok(self.containerd(socket, |cri| async move { cri.running().await })??)
    }

    fn kernel(&self) -> io::Result<Kernel> {
        Kernel::running()
    }

    fn smoke(&self, trial: &Trial<'_>) -> Result<()> {
        let smoke = Smoke {
            runtime: trial.runtime.to_owned(),
            handler: trial.handler.to_owned(),
            image: trial.image.to_owned(),
            driver: trial.driver,
            logs: Logs {
                node: trial.logs.as_str().into(),
                local: self.root.locate(trial.logs)?,
            },
            timeout: SMOKE_TIMEOUT,
        };
        let passed =
            self.containerd(
                trial.socket,
                |cri| async move { smoke::run(&cri, &smoke).await },
            )??;
        tracing::info!(
            handler = trial.handler,
            took_ms = passed.took.as_millis(),
            "the smoke guest ran"
        );
        Ok(())
    }

    fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<Archive, FetchError> {
        self.runtime.block_on(self.fetcher.fetch(artifact, folder))
    }

    fn own_program(&self) -> io::Result<PathBuf> {
        std::env::current_exe()
    }

    fn start(
        &self,
        unit: &str,
        description: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<()> {
        Ok(self
            .systemd()?
            .start_transient(unit, description, command, timeout)?)
    }

    fn now(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn about_to(&self, change: &str) {
        tracing::debug!(change, "changing the node");
    }
}
