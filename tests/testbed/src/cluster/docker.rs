//! The Docker engine of a cluster: a private one in an isolated namespace, or the user's.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::capabilities;
use crate::apt::{self, Dependencies, Request};
use crate::cache::Cache;
use crate::command;
use crate::isolated_namespace::{IsolatedNamespace, Service};
use crate::requirements::{self, Need};
use crate::teardown::Run;
use crate::wait;

/// Timeout for an engine to answer.
const ENGINE_TIMEOUT: Duration = Duration::from_mins(1);

/// Docker and the programs that it starts. Their packages would start services, so they are
/// unpacked, not installed.
const PACKAGES: &[&str] = &[
    "docker.io",
    "containerd",
    "runc",
    "tini",
    "libdevmapper1.02.1",
];

/// Gives the namespace a private `/run` and `/etc`: Docker and its shims write there, whatever
/// folders are configured. `$0`, the run's folder, stays where it is; `$1` is a folder on disk.
const PRIVATE_FOLDERS_SCRIPT: &str = r#"
mkdir -p "$1/run" "$1/etc" "$1/work"
mount --bind "$0" "$1/run"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$0"
mount --bind "$1/run" "$0"
umount "$1/run"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
"#;

/// A Docker engine.
#[derive(Debug, Clone)]
pub(super) enum Docker {
    /// The run's private engine.
    Private(Private),
    /// The engine that `docker` on `PATH` talks to.
    Users,
}

/// An engine in an isolated namespace: its bridges, rules, mounts and processes die with the
/// namespace.
#[derive(Debug, Clone)]
pub(super) struct Private {
    isolated: IsolatedNamespace,
    folder: PathBuf,
    path: OsString,
    libraries: PathBuf,
    /// None in an engine that was reopened.
    service: Option<Arc<Service>>,
}

impl Docker {
    /// Returns a run of `program` (docker, kind) in the engine's namespace.
    pub(super) fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> command::Run {
        match self {
            Self::Users => command::Run::new(program),
            Self::Private(private) => private
                .environment(private.isolated.run("env"))
                .arg(program),
        }
    }

    /// Returns a run of `docker` with these arguments.
    pub(super) fn docker(&self, arguments: &[&str]) -> command::Run {
        self.run("docker").args(arguments)
    }

    /// Returns a run of a program in the node `node`.
    pub(super) fn in_node(&self, node: &str, arguments: &[&str]) -> command::Run {
        self.run("docker")
            .args(["exec", "--interactive", node])
            .args(arguments)
    }

    /// Writes `text` to `path` in `node` and creates its folder.
    pub(super) fn write_in_node(&self, node: &str, path: &str, text: &str) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$0")" && cat > "$0""#;
        self.in_node(node, &["sh", "-c", script, path])
            .input(text)
            .done()
            .with_context(|| format!("write {path} in {node}"))
    }

    /// Returns the end of the engine's log, as evidence.
    pub(super) fn log_tail(&self) -> String {
        match self {
            Self::Private(Private {
                service: Some(service),
                ..
            }) => service.log_tail(),
            Self::Private(_) | Self::Users => String::new(),
        }
    }

    /// Checks that the user's engine answers; the error names the remedy.
    pub(super) fn of_user() -> Result<Self> {
        match Self::Users.docker(&["info"]).output() {
            Ok(output) if output.status.success() => Ok(Self::Users),
            Ok(output) => bail!(
                "docker does not answer: start it, or set DOCKER_HOST\n{}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => Err(error.context(
                "the stock node image needs Docker: install it, or \
                                             leave out --stock and --node-image",
            )),
        }
    }
}

impl Private {
    /// Starts an engine in `isolated`.
    pub(super) fn start(cache: &Cache, run: &Run, isolated: &IsolatedNamespace) -> Result<Self> {
        requirements::install(&[Need {
            package: "iptables",
            provides: "iptables",
        }])?;
        let mut engine = Self::reopen(cache, run, isolated)?;
        let folder = engine.folder.clone();
        fs::create_dir_all(folder.join("client"))
            .with_context(|| format!("make {}", folder.display()))?;
        isolated
            .run("sh")
            .args(["-euc", PRIVATE_FOLDERS_SCRIPT])
            .arg(run.folder())
            .arg(run.disk_folder()?.join("hidden"))
            .done()?;
        let settings = engine.settings(run)?;
        let file = folder.join("docker.json");
        fs::write(&file, serde_json::to_vec_pretty(&settings)?)
            .with_context(|| format!("write {}", file.display()))?;
        let mut daemon = isolated.command("env");
        engine.assignments().into_iter().for_each(|word| {
            daemon.arg(word);
        });
        daemon.arg(library_path(&engine.libraries));
        daemon.arg("dockerd").arg("--config-file").arg(&file);
        engine.service = Some(Arc::new(isolated.spawn("dockerd", daemon)?));
        engine.wait()?;
        Ok(engine)
    }

    /// Reopens the engine of a kept run.
    pub(super) fn reopen(cache: &Cache, run: &Run, isolated: &IsolatedNamespace) -> Result<Self> {
        let suite = debian_suite()?;
        let unpacked = apt::fetch(
            cache,
            &Request {
                suite: &suite,
                packages: PACKAGES,
                dependencies: Dependencies::Leave,
            },
        )?;
        let system = std::env::var_os("PATH").unwrap_or_default();
        let own = ["usr/bin", "usr/sbin", "sbin", "bin"].map(|folder| unpacked.root.join(folder));
        let always = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ]
        .map(PathBuf::from);
        let folders = own
            .into_iter()
            .chain(std::env::split_paths(&system))
            .chain(always);
        let path = std::env::join_paths(folders).context("put Docker's programs on PATH")?;
        Ok(Self {
            isolated: isolated.clone(),
            folder: run.folder().join("docker"),
            path,
            libraries: unpacked.root,
            service: None,
        })
    }

    /// Returns the address at which this machine reaches the engine's published ports.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.isolated.address()
    }

    /// Returns the engine's isolated namespace.
    pub(super) fn isolated(&self) -> &IsolatedNamespace {
        &self.isolated
    }

    fn settings(&self, run: &Run) -> Result<serde_json::Value> {
        let mut settings = json!({
            "data-root": run.disk_folder()?.join("docker"),
            "exec-root": self.folder.join("exec"),
            "pidfile": self.folder.join("pid"),
            "hosts": [self.socket()],
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            // The end of the run finds every cgroup by this name.
            "cgroup-parent": format!("/{}", run.name()),
            "log-level": "warn",
        });
        let missing = capabilities::missing()?;
        if !missing.is_empty() {
            let runc = self
                .find("runc")
                .context("the package runc holds no runc")?;
            let runc = capabilities::write_runc(&self.folder, &runc, &missing)?;
            settings["runtimes"] = json!({ "confined": { "path": runc } });
            settings["default-runtime"] = json!("confined");
        }
        Ok(settings)
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    fn assignments(&self) -> [OsString; 6] {
        let assign = |name: &str, value: &std::ffi::OsStr| {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            word
        };
        [
            // The cluster reaches no outside address, so a proxy would only do harm.
            OsString::from("--ignore-environment"),
            assign("PATH", &self.path),
            assign("HOME", self.folder.as_os_str()),
            assign("DOCKER_HOST", self.socket().as_ref()),
            assign("DOCKER_CONFIG", self.folder.join("client").as_os_str()),
            assign("KUBECONFIG", self.folder.join("kubeconfig").as_os_str()),
        ]
    }

    fn environment(&self, run: command::Run) -> command::Run {
        run.args(self.assignments())
    }

    fn wait(&self) -> Result<()> {
        let service = self
            .service
            .clone()
            .context("the engine has no service although it was just started")?;
        wait::until(
            "Docker's answer",
            ENGINE_TIMEOUT,
            || {
                service.ensure_running()?;
                let answer = self
                    .environment(self.isolated.run("env"))
                    .args(["docker", "version"])
                    .output()?;
                Ok(answer.status.success().then_some(()))
            },
            || service.log_tail(),
        )
    }
}

/// Returns the folder of a library that Docker needs and a minimal Debian lacks; it lies beside
/// Docker.
fn library_path(root: &Path) -> OsString {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = [
        root.join("usr/lib").join(&triplet),
        root.join("lib").join(&triplet),
    ];
    let mut word = OsString::from("LD_LIBRARY_PATH=");
    word.push(std::env::join_paths(folders).unwrap_or_default());
    word
}

/// Returns the Debian suite of this machine: Docker's packages run on its C library.
fn debian_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = name.context(
        "/etc/os-release names no VERSION_CODENAME: Docker's packages are \
                             taken from Debian's suites",
    )?;
    Ok(name.trim_matches('"').to_owned())
}
