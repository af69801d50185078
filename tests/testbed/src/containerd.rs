//! A private containerd in an isolated namespace, and `ctr` as its client.
//!
//! * [`install`]: the containerd to use: Debian's, or the pinned one built from its Go module.
//! * [`config`]: its configuration file, in the schema of its version.
//! * [`artifact`]: containers of Wasm artifacts, which `ctr` cannot create.
//! * [`container`]: a container that runs to completion or is started as a task.
//! * [`task`]: a started container: status, signals, further processes.
//!
//! Root and state are in a tmpfs inside the namespace, and so is `/run/containerd`, where shims
//! have their sockets regardless of the configuration. `ctr` therefore runs inside too.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::isolated_namespace::{IsolatedNamespace, Service};
use crate::teardown::Run;
use crate::wait;

mod artifact;
mod config;
mod container;
mod install;
mod task;

pub use config::{Cgroups, Cri, Handler};
pub use container::{Container, Finished, Form, Runtime};
pub use install::Install;
pub use task::{Exec, Task};

/// Timeout for containerd to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of a `ctr` command that runs no guest.
const CTR_TIMEOUT: Duration = Duration::from_mins(1);

/// A containerd that belongs to a run; clones refer to the same one.
#[derive(Debug, Clone)]
pub struct Containerd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    isolated: IsolatedNamespace,
    install: Install,
    folder: PathBuf,
    namespace: String,
    path: String,
    config: PathBuf,
    service: Mutex<Service>,
}

impl Containerd {
    /// Starts `install` in `isolated` and waits until it answers. Shims are searched in `shims`,
    /// then beside containerd.
    ///
    /// # Errors
    /// Fails if it does not come up; the error carries its log.
    pub fn start(
        run: &Run,
        isolated: &IsolatedNamespace,
        install: &Install,
        shims: &[&Path],
    ) -> Result<Self> {
        Self::start_configured(run, isolated, install, shims, None)
    }

    /// As [`Containerd::start`], with CRI.
    ///
    /// # Errors
    /// Fails if it does not come up; the error carries its log.
    pub fn start_with_cri(
        run: &Run,
        isolated: &IsolatedNamespace,
        install: &Install,
        cri: &Cri,
    ) -> Result<Self> {
        Self::start_configured(run, isolated, install, &[], Some(cri))
    }

    fn start_configured(
        run: &Run,
        isolated: &IsolatedNamespace,
        install: &Install,
        shims: &[&Path],
        cri: Option<&Cri>,
    ) -> Result<Self> {
        let folder = run.folder().join(&install.name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        isolated.mount_memory(&folder)?;
        isolated.mount_memory(Path::new("/run/containerd"))?;
        // Compiled guests are those of this containerd alone.
        isolated.mount_memory(Path::new("/var/lib/wasmedge-runtime"))?;
        let file = run.folder().join(format!("{}.toml", install.name));
        fs::write(&file, config::text(install.schema()?, &folder, cri))
            .with_context(|| format!("write {}", file.display()))?;
        let path = search_path(install, shims)?;
        let service = isolated.spawn(
            &format!("containerd-{}", install.name),
            daemon(isolated, install, &path, &file),
        )?;
        // The containerd namespace becomes the name of the containers' cgroups, by which the run's
        // end finds them.
        let namespace = format!("{}.{}", run.name(), install.name);
        let service = Mutex::new(service);
        let inner = Inner {
            isolated: isolated.clone(),
            install: install.clone(),
            folder,
            namespace,
            path,
            config: file,
            service,
        };
        let containerd = Self {
            inner: Arc::new(inner),
        };
        containerd.wait_until_it_answers()?;
        Ok(containerd)
    }

    /// Stops the daemon, starts it again and waits until it answers. Tasks and their shims keep
    /// running.
    ///
    /// # Errors
    /// Fails if it does not stop, or does not come up again.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_stopped()
    }

    /// Stops the daemon. Tasks and their shims keep running.
    ///
    /// # Errors
    /// Fails if it does not stop.
    pub fn stop(&self) -> Result<()> {
        self.signal("TERM")?;
        let service = self.service();
        wait::until(
            "containerd to stop",
            START_TIMEOUT,
            || service.exit_status(),
            || service.log_tail(),
        )?;
        Ok(())
    }

    /// Starts the stopped daemon, and waits until it answers.
    ///
    /// # Errors
    /// Fails if it does not come up again.
    pub fn start_stopped(&self) -> Result<()> {
        let Inner {
            isolated,
            install,
            path,
            config,
            ..
        } = &*self.inner;
        *self.service() = isolated.spawn(
            &format!("containerd-{}-again", install.name),
            daemon(isolated, install, path, config),
        )?;
        self.wait_until_it_answers()
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// Fails if it is not running.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let line = format!("containerd --config {}$", self.inner.config.display());
        self.inner
            .isolated
            .run("pkill")
            .args(["--signal", signal, "--full", "--", &line])
            .done()
    }

    /// Returns the installation that it runs.
    pub fn install(&self) -> &Install {
        &self.inner.install
    }

    /// Returns its isolated namespace.
    pub fn isolated(&self) -> &IsolatedNamespace {
        &self.inner.isolated
    }

    /// Returns its main configuration file, on this machine.
    pub fn config_file(&self) -> &Path {
        &self.inner.config
    }

    /// Returns its socket, inside the namespace.
    pub fn address(&self) -> PathBuf {
        self.inner.folder.join("containerd.sock")
    }

    /// Returns the folder, inside the namespace, where CRI looks for network plugins and their
    /// configuration.
    pub fn network_folder(&self) -> PathBuf {
        self.inner.folder.join("cni")
    }

    /// Returns the folder, inside the namespace, where each task has its spec and its shim's
    /// address.
    pub fn tasks_folder(&self) -> PathBuf {
        self.inner
            .folder
            .join("state/io.containerd.runtime.v2.task")
            .join(&self.inner.namespace)
    }

    /// Returns the containerd namespace that `ctr` uses here.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Returns a run of `ctr` without arguments.
    pub fn ctr(&self) -> command::Run {
        let (program, words) = self.ctr_command_line();
        self.inner.isolated.run(program).args(words)
    }

    /// As [`Containerd::ctr`], for a caller that needs the process itself.
    pub fn ctr_command(&self) -> Command {
        let (program, words) = self.ctr_command_line();
        let mut command = self.inner.isolated.command(program);
        command.args(words);
        command
    }

    /// Imports and unpacks every image in the archive (an OCI layout as a tar file).
    ///
    /// # Errors
    /// Fails if containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.import_into(&self.inner.namespace, archive)
    }

    /// As [`Containerd::import`], into another namespace; CRI's is `k8s.io`.
    ///
    /// # Errors
    /// Fails if containerd refuses it.
    pub fn import_into(&self, namespace: &str, archive: &Path) -> Result<()> {
        // If `--namespace` is given twice, the later one counts.
        let mut ctr = self.ctr().args([
            "--namespace",
            namespace,
            "images",
            "import",
            "--all-platforms",
        ]);
        if self.inner.install.has_local_import()? {
            // The transfer service, the default since 2.1, unpacks for the machine's own platform
            // only.
            ctr = ctr.arg("--local");
        }
        ctr.arg(archive)
            .deadline(CTR_TIMEOUT)
            .done()
            .with_context(|| format!("import {}", archive.display()))
    }

    /// Returns the names of all images.
    ///
    /// # Errors
    /// Fails if `ctr` fails.
    pub fn images(&self) -> Result<Vec<String>> {
        Ok(self
            .ctr()
            .args(["images", "ls", "-q"])
            .deadline(CTR_TIMEOUT)
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Describes a container of `image` with the id `id`.
    pub fn container(&self, image: &str, id: &str) -> Container {
        Container::new(self.clone(), image, id)
    }

    /// Returns the ids of all containers.
    ///
    /// # Errors
    /// Fails if `ctr` fails.
    pub fn containers(&self) -> Result<Vec<String>> {
        Ok(self
            .ctr()
            .args(["containers", "ls", "-q"])
            .deadline(CTR_TIMEOUT)
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Starts to write every event, one line each, to a log.
    ///
    /// # Errors
    /// Fails if `ctr` cannot be started.
    pub fn events(&self) -> Result<Service> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut command = self.ctr_command();
        command.arg("events");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        self.inner.isolated.spawn(
            &format!("events-{}-{number}", self.inner.install.name),
            command,
        )
    }

    /// Returns evidence for a failure: the log's last lines, and the existing tasks.
    pub fn evidence(&self) -> String {
        let tasks = self
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_TIMEOUT)
            .text()
            .unwrap_or_else(|error| format!("{error:#}"));
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        // Lines that each start logs would hide those of this one.
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("loading plugin"))
            .collect();
        format!(
            "log of containerd {}:\n{}\n{tasks}",
            self.inner.install.name,
            command::last_lines(&lines.join("\n"), 30)
        )
    }

    /// Returns the log of containerd and its shims.
    ///
    /// # Errors
    /// Fails if the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = self.service().log().to_owned();
        fs::read(&log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .with_context(|| format!("read {}", log.display()))
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        // The value is replaced as a whole, so it is valid even if its last holder panicked.
        self.inner
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines of the log that contain `id`.
    ///
    /// # Errors
    /// Fails if the log cannot be read.
    pub fn log_of(&self, id: &str) -> Result<String> {
        Ok(self
            .log()?
            .lines()
            .filter(|line| line.contains(id))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    fn ctr_command_line(&self) -> (&'static str, Vec<std::ffi::OsString>) {
        let Inner {
            install,
            namespace,
            path,
            ..
        } = &*self.inner;
        let words = [
            format!("PATH={path}").into(),
            install.bin.join("ctr").into_os_string(),
            "--address".into(),
            self.address().into_os_string(),
            "--namespace".into(),
            namespace.into(),
        ];
        ("env", words.into())
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        wait::until(
            format_args!("containerd {} to answer", self.inner.install.name),
            START_TIMEOUT,
            || {
                self.service().ensure_running()?;
                let output = self
                    .ctr()
                    .args(["--connect-timeout", "1s", "version"])
                    .deadline(START_TIMEOUT)
                    .output()?;
                Ok(output.status.success().then_some(()))
            },
            || self.service().log_tail(),
        )
    }
}

/// Returns the command that starts the daemon.
fn daemon(isolated: &IsolatedNamespace, install: &Install, path: &str, config: &Path) -> Command {
    let mut command = isolated.command("env");
    command
        .arg(format!("PATH={path}"))
        .arg(install.bin.join("containerd"))
        .arg("--config")
        .arg(config);
    command
}

/// Returns the `PATH` on which containerd looks for shims, and shims look for runc.
fn search_path(install: &Install, shims: &[&Path]) -> Result<String> {
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
    let folders = shims
        .iter()
        .copied()
        .chain([install.bin.as_path(), install.runc.as_path()])
        .chain(system);
    let path = std::env::join_paths(folders)
        .context("a folder with a colon in its name cannot be part of PATH")?;
    match path.to_str().map(OsStr::new) {
        Some(text) => Ok(text.to_string_lossy().into_owned()),
        None => bail!(
            "a folder with a name that is not UTF-8 cannot be passed to containerd: {}",
            path.display()
        ),
    }
}
