//! A private containerd in an isolated namespace, and `ctr` to talk to it.
//!
//! * [`install`]: which containerd: Debian's, or the pinned one built from its Go module.
//! * [`config`]: its configuration file, in the form of its version.
//! * [`artifact`]: containers of Wasm artifacts, which `ctr` cannot make.
//! * [`container`]: running a container to its end, or starting it.
//! * [`task`]: a container that was started: watched, signalled, joined by further processes.
//!
//! Root and state lie in memory inside the namespace, and so does `/run/containerd`, where shims
//! have their sockets whatever the configuration says; `ctr` therefore runs inside too.

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

/// How long containerd may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long one `ctr` command may take that runs no guest.
const CTR_LIMIT: Duration = Duration::from_mins(1);

/// A containerd that belongs to a run; copies are the same one.
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
    /// Starts `install` in `isolated` and waits until it answers. Shims are found in `shims`, then
    /// beside containerd.
    ///
    /// # Errors
    /// When it does not come up; the error carries its log.
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
    /// When it does not come up; the error carries its log.
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
        let file = run.folder().join(format!("{}.toml", install.name));
        fs::write(&file, config::text(install.schema()?, &folder, cri))
            .with_context(|| format!("write {}", file.display()))?;
        let path = search_path(install, shims)?;
        let service = isolated.spawn(
            &format!("containerd-{}", install.name),
            daemon(isolated, install, &path, &file),
        )?;
        // The name of the namespace becomes that of the containers' cgroups, by which the run's end
        // finds them.
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

    /// Ends the daemon, starts it again and waits until it answers. Tasks and their shims are left
    /// alone.
    ///
    /// # Errors
    /// When it does not end, or does not come up again.
    pub fn restart(&self) -> Result<()> {
        self.end()?;
        self.start_again()
    }

    /// Ends the daemon. Tasks and their shims are left alone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&self) -> Result<()> {
        self.signal("TERM")?;
        let service = self.service();
        wait::until(
            "containerd to end",
            START_LIMIT,
            || service.ended(),
            || service.last_words(),
        )?;
        Ok(())
    }

    /// Starts the daemon that was ended, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn start_again(&self) -> Result<()> {
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
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let line = format!("containerd --config {}$", self.inner.config.display());
        self.inner
            .isolated
            .run("pkill")
            .args(["--signal", signal, "--full", "--", &line])
            .done()
    }

    /// Which one it is.
    pub fn install(&self) -> &Install {
        &self.inner.install
    }

    /// The namespace that it is in.
    pub fn isolated(&self) -> &IsolatedNamespace {
        &self.inner.isolated
    }

    /// Its main configuration file, on this machine.
    pub fn config_file(&self) -> &Path {
        &self.inner.config
    }

    /// Where it listens, inside the namespace.
    pub fn address(&self) -> PathBuf {
        self.inner.folder.join("containerd.sock")
    }

    /// Where, inside the namespace, the containerd of CRI finds network plugins and what tells it
    /// to use them.
    pub fn network_folder(&self) -> PathBuf {
        self.inner.folder.join("cni")
    }

    /// Where, inside the namespace, each task has a folder with its spec and its shim's address.
    pub fn tasks_folder(&self) -> PathBuf {
        self.inner
            .folder
            .join("state/io.containerd.runtime.v2.task")
            .join(&self.inner.namespace)
    }

    /// The containerd namespace of everything that `ctr` does here.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// A `ctr` command without its arguments.
    pub fn ctr(&self) -> command::Run {
        let (program, words) = self.ctr_words();
        self.inner.isolated.run(program).args(words)
    }

    /// As [`Containerd::ctr`], for a caller who wants the process itself.
    pub fn ctr_command(&self) -> Command {
        let (program, words) = self.ctr_words();
        let mut command = self.inner.isolated.command(program);
        command.args(words);
        command
    }

    /// Imports and unpacks every image in the archive (an OCI layout as a tar file).
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.import_into(&self.inner.namespace, archive)
    }

    /// As [`Containerd::import`], into another namespace; CRI's is `k8s.io`.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn import_into(&self, namespace: &str, archive: &Path) -> Result<()> {
        // Of two namespaces the later one counts.
        let mut ctr = self.ctr().args([
            "--namespace",
            namespace,
            "images",
            "import",
            "--all-platforms",
        ]);
        if self.inner.install.has_local_import()? {
            // The transfer service, its default since 2.1, unpacks for the machine's own platform
            // only.
            ctr = ctr.arg("--local");
        }
        ctr.arg(archive)
            .deadline(CTR_LIMIT)
            .done()
            .with_context(|| format!("import {}", archive.display()))
    }

    /// The names of all images.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn images(&self) -> Result<Vec<String>> {
        Ok(self
            .ctr()
            .args(["images", "ls", "-q"])
            .deadline(CTR_LIMIT)
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// A container of `image`, to be named `id`.
    pub fn container(&self, image: &str, id: &str) -> Container {
        Container::new(self.clone(), image, id)
    }

    /// The ids of all containers.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn containers(&self) -> Result<Vec<String>> {
        Ok(self
            .ctr()
            .args(["containers", "ls", "-q"])
            .deadline(CTR_LIMIT)
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Has every event, as one line each, written to a log from now on.
    ///
    /// # Errors
    /// When `ctr` cannot be started.
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

    /// What helps to understand a failure: the log's last lines, and the tasks there are.
    pub fn evidence(&self) -> String {
        let tasks = self
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_LIMIT)
            .text()
            .unwrap_or_else(|error| format!("{error:#}"));
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        // What every start says hides what this one has to say.
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

    /// All that containerd and its shims have logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = self.service().log().to_owned();
        fs::read(&log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .with_context(|| format!("read {}", log.display()))
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        // Replaced whole, so it is whole even if its last holder panicked.
        self.inner
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines of the log that name `id`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_of(&self, id: &str) -> Result<String> {
        Ok(self
            .log()?
            .lines()
            .filter(|line| line.contains(id))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    fn ctr_words(&self) -> (&'static str, Vec<std::ffi::OsString>) {
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
            START_LIMIT,
            || {
                self.service().must_be_up()?;
                let output = self
                    .ctr()
                    .args(["--connect-timeout", "1s", "version"])
                    .deadline(START_LIMIT)
                    .output()?;
                Ok(output.status.success().then_some(()))
            },
            || self.service().last_words(),
        )
    }
}

/// The command that starts the daemon.
fn daemon(isolated: &IsolatedNamespace, install: &Install, path: &str, config: &Path) -> Command {
    let mut command = isolated.command("env");
    command
        .arg(format!("PATH={path}"))
        .arg(install.bin.join("containerd"))
        .arg("--config")
        .arg(config);
    command
}

/// Where containerd looks for shims, and shims for runc.
fn search_path(install: &Install, shims: &[&Path]) -> Result<String> {
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new);
    let folders = shims
        .iter()
        .copied()
        .chain([install.bin.as_path(), install.runc.as_path()])
        .chain(system);
    let path = std::env::join_paths(folders)
        .context("a folder with a colon in its name cannot stand on PATH")?;
    match path.to_str().map(OsStr::new) {
        Some(text) => Ok(text.to_string_lossy().into_owned()),
        None => bail!(
            "a folder whose name is not UTF-8 cannot be handed to containerd: {}",
            path.display()
        ),
    }
}
