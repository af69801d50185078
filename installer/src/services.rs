//! A node's real services: systemd by its private socket, containerd by its own, programs inside
//! the host's root.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use installer_protocol::Artifact;
use systemd_client::{Systemd, Unit};
use tokio::runtime::{Builder, Runtime};

use crate::cri::{Cri, Served};
use crate::detect::{Kernel, Running};
use crate::fetch::{Archive, FetchError, Fetcher};
use crate::host::{HostPath, HostRoot};
use crate::machine::{Machine, Trial};
use crate::smoke::{self, Logs, Smoke};

/// How long containerd's program may take to print what it is asked for.
const PROGRAM: Duration = Duration::from_secs(30);
/// How long a unit may take to be restarted. A server of k3s takes its time.
const RESTART: Duration = Duration::from_mins(3);
/// How long the smoke guest may take, the first start of the runtime on a loaded node included.
const SMOKE: Duration = Duration::from_secs(90);

/// The services of the host whose root is given.
#[derive(Debug)]
pub struct Services {
    root: HostRoot,
    runtime: Runtime,
    fetcher: Fetcher,
    began: Instant,
}

impl Services {
    /// Services of the host at `root`.
    ///
    /// # Errors
    /// When no threads can be started.
    pub fn new(root: HostRoot) -> Result<Self> {
        // Two: as many as there is to do at once, on however large a machine.
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

    /// The threads for connections.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn systemd(&self) -> Result<Systemd> {
        let socket = self.root.locate(&HostPath::new("/run/systemd/private")?)?;
        Ok(Systemd::connect(&socket)?)
    }

    /// Talks to containerd at `socket`.
    fn containerd<T, F: Future<Output = T>>(
        &self,
        socket: &HostPath,
        talk: impl FnOnce(Cri) -> F,
    ) -> Result<T> {
        let socket = self
            .root
            .locate(socket)
            .with_context(|| format!("look for {socket} of the host"))?;
        Ok(self
            .runtime
            .block_on(async { talk(Cri::at(&socket)).await }))
    }
}

impl Machine for Services {
    fn unit(&self, name: &str) -> Result<Unit> {
        Ok(self.systemd()?.unit(name)?)
    }

    fn run(&self, program: &HostPath, arguments: &[&str]) -> io::Result<Output> {
        let mut command = self.root.command(program)?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.runtime.block_on(async {
            let mut command = tokio::process::Command::from(command);
            // A program that does not end is ended when the wait for it is dropped.
            let ended = tokio::time::timeout(PROGRAM, command.kill_on_drop(true).output()).await;
            ended.unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{program} did not end within {} s", PROGRAM.as_secs()),
                ))
            })
        })
    }

    fn restart(&self, unit: &str) -> Result<()> {
        let mut systemd = self.systemd()?;
        systemd.restart(unit, RESTART)?;
        Ok(())
    }

    fn served(&self, socket: &HostPath, limit: Duration) -> Result<Served> {
        Ok(self.containerd(
            socket,
            |cri| async move { cri.wait_until_ready(limit).await },
        )??)
    }

    fn running(&self, socket: &HostPath) -> Result<Running> {
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
                host: trial.logs.as_str().into(),
                seen: self.root.locate(trial.logs)?,
            },
            limit: SMOKE,
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
        limit: Duration,
    ) -> Result<()> {
        Ok(self
            .systemd()?
            .start_transient(unit, description, command, limit)?)
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
        tracing::debug!(change, "about to");
    }
}
