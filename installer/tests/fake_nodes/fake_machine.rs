//! The fake services of a node. containerd reads its configuration at a restart, serves the
//! handlers in it, and runs a guest unless the launcher has the word `broken` in it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail};
use installer_protocol::Artifact;
use node_installer::containers::{ContainerdSettings, RunningPod, RunningWorkloads};
use node_installer::cri::{CriStatus, RuntimeReadiness, ServedHandlers};
use node_installer::fetch::{Archive, FetchError, Fetcher};
use node_installer::kernel::Kernel;
use node_installer::machine::{Machine, Trial};
use node_installer::node_root::{NodePath, NodeRoot};
use systemd_client::{ActiveState, LoadState, Unit};
use toml::{Table, Value};

/// The panic payload that ends a process at a step.
#[derive(Debug)]
pub(crate) struct Killed;

/// Faults of the node.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Number of restarts that fail; containerd is down after each.
    pub(crate) restarts: Cell<u32>,
    /// containerd does not list the configured handlers.
    pub(crate) lists_nothing: Cell<bool>,
    /// containerd refuses every configuration with this word.
    pub(crate) refused: Cell<Option<&'static str>>,
    /// No guest runs.
    pub(crate) guests: Cell<bool>,
    /// Nothing can be downloaded.
    pub(crate) mirror: Cell<bool>,
    /// containerd does not answer, although its unit is active.
    pub(crate) no_answer: Cell<bool>,
}

/// The services of a node, and what tests observe of them.
#[derive(Debug)]
pub(crate) struct FakeMachine {
    pub(crate) root: NodeRoot,
    pub(crate) faults: Faults,
    /// The step at which the process is killed.
    pub(crate) kill_at: Cell<Option<usize>>,
    /// Steps so far.
    pub(crate) steps: Cell<usize>,
    /// Restarts of containerd so far.
    pub(crate) restarts: Cell<u32>,
    /// The launchers of the guests that ran.
    pub(crate) guests: RefCell<Vec<String>>,
    /// The commands of started guards.
    pub(crate) guards: RefCell<Vec<Vec<String>>>,
    /// The archive in the installer's image.
    pub(crate) bundled: RefCell<PathBuf>,
    /// Downloads so far. Each returns the archive in the installer's image.
    pub(crate) downloads: Cell<u32>,
    /// A file that gets this content at the next pause.
    pub(crate) mend: RefCell<Option<(PathBuf, Vec<u8>)>>,
    pub(crate) version: &'static str,
    /// The kernel's release.
    pub(crate) kernel: Cell<&'static str>,
    /// The arguments of containerd's unit.
    pub(crate) arguments: RefCell<Vec<String>>,
    /// The environment files of containerd's unit.
    pub(crate) environment_files: RefCell<Vec<String>>,
    /// The state folder of the running containerd.
    pub(crate) state: RefCell<String>,
    /// The running pods with their handlers.
    pub(crate) pods: RefCell<BTreeMap<String, String>>,
    /// The file that containerd reads.
    pub(crate) main: RefCell<NodePath>,
    unit: Option<String>,
    since: Cell<u64>,
    up: Cell<bool>,
    /// The handlers and launchers that containerd read when it started.
    read: RefCell<BTreeMap<String, String>>,
    clock: Cell<u64>,
    /// The fake time.
    passed: Cell<Duration>,
    /// Stands for the installer's own program.
    program: PathBuf,
}

impl FakeMachine {
    pub(crate) fn new(
        root: NodeRoot,
        main: &str,
        state: &str,
        unit: Option<&str>,
        version: &'static str,
        program: PathBuf,
    ) -> Self {
        let machine = Self {
            root,
            faults: Faults::default(),
            kill_at: Cell::default(),
            steps: Cell::default(),
            restarts: Cell::default(),
            guests: RefCell::default(),
            guards: RefCell::default(),
            bundled: RefCell::default(),
            downloads: Cell::default(),
            mend: RefCell::default(),
            version,
            kernel: Cell::new("6.1.0-28-amd64"),
            arguments: RefCell::default(),
            environment_files: RefCell::default(),
            state: RefCell::new(state.to_owned()),
            pods: RefCell::default(),
            main: RefCell::new(NodePath::new(main).unwrap()),
            unit: unit.map(str::to_owned),
            since: Cell::default(),
            up: Cell::new(true),
            read: RefCell::default(),
            clock: Cell::default(),
            passed: Cell::default(),
            program,
        };
        machine.start_containerd();
        machine
    }

    fn is_k0s(&self) -> bool {
        self.unit
            .as_deref()
            .is_some_and(|unit| unit.starts_with("k0s"))
    }

    /// Merges k0s' own configuration and all drop-ins into a file that the main file imports.
    fn merge_drop_ins(&self) {
        let own = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \
                   \"runc\"\n\
                   [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type \
                   = \"io.containerd.runc.v2\"\n";
        let mut merged: Table = own.parse().unwrap();
        for path in self
            .matched_paths(&NodePath::new("/etc/k0s/containerd.d/*.toml").unwrap())
            .unwrap()
        {
            deep(
                &mut merged,
                String::from_utf8(self.root.read(&path).unwrap().unwrap())
                    .unwrap()
                    .parse()
                    .unwrap(),
            );
        }
        merged.insert("version".to_owned(), Value::Integer(2));
        let place = self
            .root
            .locate(&NodePath::new("/run/k0s/containerd-cri.toml").unwrap())
            .unwrap();
        fs::write(place, toml::to_string(&merged).unwrap()).unwrap();
    }

    /// Starts containerd, which reads its configuration.
    pub(crate) fn start_containerd(&self) {
        if self.is_k0s() {
            self.merge_drop_ins();
        }
        self.since.set(self.now());
        self.up.set(true);
        *self.read.borrow_mut() = self.launchers();
    }

    fn answers(&self) -> bool {
        self.up.get() && !self.faults.no_answer.get()
    }

    /// Returns the handlers that containerd serves.
    pub(crate) fn serves(&self) -> Vec<String> {
        self.read.borrow().keys().cloned().collect()
    }

    /// Returns whether containerd has read its present files.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.up.get() && *self.read.borrow() == self.launchers()
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
        if self.kill_at.get() == Some(self.steps.get()) {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    /// Returns the handlers and launchers in the files.
    fn launchers(&self) -> BTreeMap<String, String> {
        let Ok(merged) = self.merged(&self.main.borrow()) else {
            return BTreeMap::new();
        };
        let runtimes = plugins(&merged)
            .filter_map(|plugin| plugin.get("containerd")?.get("runtimes")?.as_table());
        runtimes
            .flatten()
            .map(|(name, runtime)| {
                let text = |key: &str| runtime.get(key).and_then(Value::as_str).map(str::to_owned);
                (
                    name.clone(),
                    text("runtime_path")
                        .or_else(|| text("runtime_type"))
                        .unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Merges a main file and its imports as this version of containerd does.
    fn merged(&self, main: &NodePath) -> Result<Table> {
        let text = |path: &NodePath| -> Result<String> {
            Ok(String::from_utf8(
                self.root
                    .read(path)?
                    .ok_or_else(|| anyhow!("no file {path}"))?,
            )?)
        };
        let main_text = if self.root.has(main) {
            text(main)?
        } else {
            String::new()
        };
        let mut merged: Table = main_text.parse()?;
        let patterns: Vec<String> = merged
            .get("imports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        for pattern in patterns {
            let pattern = if pattern.starts_with('/') {
                NodePath::new(&pattern)?
            } else {
                main.folder().join(&pattern)
            };
            for path in self.matched_paths(&pattern)? {
                let other: Table = text(&path)?.parse()?;
                self.merge(&mut merged, other);
            }
        }
        if let Some(word) = self.faults.refused.get()
            && toml::to_string(&merged)?.contains(word)
        {
            bail!("containerd: failed to load TOML: {word} is not expected here");
        }
        Ok(merged)
    }

    fn matched_paths(&self, pattern: &NodePath) -> Result<Vec<NodePath>> {
        let Some(ending) = pattern.name().strip_prefix('*') else {
            return Ok(vec![pattern.clone()]);
        };
        let folder = self.root.locate(&pattern.folder())?;
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(Vec::new());
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name.ends_with(ending));
        names.sort();
        Ok(names
            .iter()
            .map(|name| pattern.folder().join(name))
            .collect())
    }

    /// Merges key by key since 2.0; before, a file replaces each plugin's section.
    fn merge(&self, into: &mut Table, from: Table) {
        if self.version.starts_with('1') {
            into.extend(from);
        } else {
            deep(into, from);
        }
    }
}

fn deep(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => deep(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn plugins(config: &Table) -> impl Iterator<Item = &Table> {
    config
        .get("plugins")
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
        .filter_map(|(_, plugin)| plugin.as_table())
}

impl Machine for FakeMachine {
    fn unit(&self, name: &str) -> Result<Unit> {
        let is = self.unit.as_deref() == Some(name);
        Ok(Unit {
            name: name.to_owned(),
            load: if is {
                LoadState::Loaded
            } else {
                LoadState::NotFound
            },
            active: if is && self.up.get() {
                ActiveState::Active
            } else {
                ActiveState::Inactive
            },
            active_since: if is { self.since.get() } else { 0 },
            main_pid: 0,
            program: is.then(|| {
                if name == "containerd.service" {
                    "/usr/bin/containerd"
                } else {
                    "/usr/bin/distribution"
                }
                .to_owned()
            }),
            arguments: if is {
                self.arguments.borrow().clone()
            } else {
                Vec::new()
            },
            environment: Vec::new(),
            environment_files: self.environment_files.borrow().clone(),
            result: "success".to_owned(),
        })
    }

    fn run(&self, program: &NodePath, arguments: &[&str]) -> io::Result<Output> {
        assert!(self.root.has(program), "{program} is not on the node");
        let output = |code: i32, stdout: String, stderr: String| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into_bytes(),
            stderr: stderr.into_bytes(),
        };
        Ok(match arguments {
            ["--version"] => output(
                0,
                format!(
                    "containerd github.com/containerd/containerd/v2 v{} 0123",
                    self.version
                ),
                String::new(),
            ),
            ["-c", main, "config", "dump"] => match self.merged(&NodePath::new(main).unwrap()) {
                Ok(merged) => output(0, toml::to_string(&merged).unwrap(), String::new()),
                Err(error) => output(1, String::new(), format!("{error:#}")),
            },
            other => output(2, String::new(), format!("unknown arguments {other:?}")),
        })
    }

    fn restart(&self, unit: &str) -> Result<()> {
        assert_eq!(
            self.unit.as_deref(),
            Some(unit),
            "only containerd's own unit is restarted"
        );
        self.restarts.set(self.restarts.get() + 1);
        self.up.set(false);
        if self.faults.restarts.get() > 0 {
            self.faults.restarts.set(self.faults.restarts.get() - 1);
            bail!("{unit} is failed after its restart (result \"exit-code\")");
        }
        self.start_containerd();
        // On some nodes the restart kills the processes of all pods.
        self.step();
        Ok(())
    }

    fn served(&self, _socket: &NodePath, limit: Duration) -> Result<CriStatus> {
        if !self.answers() {
            self.passed.set(self.passed.get() + limit);
            bail!(
                "containerd is not ready after {} s: no process listens",
                limit.as_secs()
            );
        }
        let names = if self.faults.lists_nothing.get() {
            Vec::new()
        } else {
            self.serves()
        };
        Ok(CriStatus {
            runtime: RuntimeReadiness::Ready,
            handlers: ServedHandlers::Listed(names.into_iter().collect()),
        })
    }

    fn kernel(&self) -> io::Result<Kernel> {
        let namespaces = ["ipc", "mnt", "net", "pid", "uts"]
            .map(str::to_owned)
            .into();
        Ok(Kernel {
            release: self.kernel.get().to_owned(),
            namespaces,
            filters: true,
        })
    }

    fn running(&self, _socket: &NodePath) -> Result<RunningWorkloads> {
        if !self.answers() {
            bail!("no process listens");
        }
        let pods = self
            .pods
            .borrow()
            .iter()
            .map(|(id, handler)| RunningPod {
                id: id.clone(),
                handler: Some(handler.clone()),
            })
            .collect();
        let settings = ContainerdSettings {
            state: Some(self.state.borrow().clone()),
            default: "runc".to_owned(),
            launchers: self.read.borrow().clone(),
        };
        Ok(RunningWorkloads {
            settings: Some(settings),
            pods,
            containers: Vec::new(),
        })
    }

    fn smoke(&self, trial: &Trial<'_>) -> Result<()> {
        let logs = self.root.locate(trial.logs)?;
        fs::create_dir_all(&logs)?;
        fs::write(logs.join("0.log"), "ran")?;
        self.step();
        let launcher = self
            .read
            .borrow()
            .get(trial.handler)
            .cloned()
            .ok_or_else(|| anyhow!("no runtime for {}", trial.handler))?;
        let text = self
            .root
            .read(&NodePath::new(&launcher)?)?
            .ok_or_else(|| anyhow!("{launcher}: no such file"))?;
        if self.faults.guests.get() || String::from_utf8_lossy(&text).contains("broken") {
            bail!("the smoke guest ended with code 1, expected 42");
        }
        self.guests.borrow_mut().push(launcher);
        Ok(())
    }

    fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<Archive, FetchError> {
        if let Artifact::Url { url, .. } = artifact {
            if self.faults.mirror.get() {
                return Err(FetchError::Status {
                    origin: url.clone(),
                    status: 404,
                });
            }
            self.downloads.set(self.downloads.get() + 1);
        }
        let fetcher = Fetcher {
            bundled: self.bundled.borrow().clone(),
            ..Fetcher::default()
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(fetcher.fetch(&Artifact::Bundled, folder))
    }

    fn own_program(&self) -> io::Result<PathBuf> {
        Ok(self.program.clone())
    }

    fn start(
        &self,
        _unit: &str,
        _description: &str,
        command: &[String],
        _limit: Duration,
    ) -> Result<()> {
        let program = self.root.locate(&NodePath::new(&command[0])?)?;
        assert_eq!(
            fs::metadata(program)?.permissions().mode() & 0o111,
            0o111,
            "the guard's program can be run"
        );
        self.guards.borrow_mut().push(command.to_vec());
        Ok(())
    }

    fn now(&self) -> u64 {
        let now = u64::try_from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_micros(),
        )
        .unwrap();
        self.clock.set(now.max(self.clock.get() + 1));
        self.clock.get()
    }

    fn elapsed(&self) -> Duration {
        self.passed.get()
    }

    fn pause(&self, time: Duration) {
        self.passed.set(self.passed.get() + time);
        if let Some((path, bytes)) = self.mend.take() {
            fs::write(path, bytes).unwrap();
        }
        // A distribution that watches its folder restarts containerd. The kernel's timestamps of
        // files have the resolution of a tick.
        if self.is_k0s() {
            std::thread::sleep(Duration::from_millis(10));
            self.restarts.set(self.restarts.get() + 1);
            let socket = self
                .root
                .locate(&NodePath::new("/run/k0s/containerd.sock").unwrap())
                .unwrap();
            fs::remove_file(&socket).unwrap();
            fs::write(&socket, "").unwrap();
            self.start_containerd();
        }
    }

    fn about_to(&self, _change: &str) {
        self.step();
    }
}
