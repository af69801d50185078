//! One container: described by a builder, then run to its end or started as a task
//! ([`super::task`]).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::task::Task;
use super::{Containerd, artifact};
use crate::command;

/// How long a guest may run before its test gives up on it.
pub(super) const RUN_LIMIT: Duration = Duration::from_mins(1);
/// How long `ctr` may take for what runs no guest.
pub(super) const CTR_LIMIT: Duration = Duration::from_secs(30);

/// Which runtime a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Ours.
    Wasmedge,
    /// The one that comes with containerd.
    Runc,
}

impl Runtime {
    /// The name by which containerd finds the shim.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmedge => "io.containerd.wasmedge.v1",
            Self::Runc => "io.containerd.runc.v2",
        }
    }
}

/// What kind of thing a container's image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A Linux image, whatever its layers.
    Image,
    /// A CNCF Wasm artifact: options of `ctr run` do not apply to its containers.
    Artifact,
}

/// A container that is yet to be run.
#[derive(Debug, Clone)]
#[must_use]
pub struct Container {
    containerd: Containerd,
    image: String,
    id: String,
    form: Form,
    runtime: Runtime,
    spec: Option<PathBuf>,
    options: Vec<String>,
    args: Vec<String>,
    input: Vec<u8>,
}

/// How a container ended, and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; 1 also when containerd or the shim refused to create it (then standard error
    /// says so).
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, of the guest and of `ctr`.
    pub stderr: String,
    /// From `ctr`'s start to its end.
    pub took: Duration,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Container {
    pub(super) fn new(containerd: Containerd, image: &str, id: &str) -> Self {
        let (image, id) = (image.to_owned(), id.to_owned());
        Self {
            containerd,
            image,
            id,
            form: Form::Image,
            runtime: Runtime::Wasmedge,
            spec: None,
            options: Vec::new(),
            args: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Says what its image is; a Linux image unless said otherwise.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Whether its task was started, and is there still.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn has_started(&self) -> Result<bool> {
        let list = self
            .containerd
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_LIMIT)
            .text()?;
        let mut rows = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        Ok(rows.any(|row| {
            row.first() == Some(&self.id.as_str())
                && row.get(2).is_some_and(|status| *status != "CREATED")
        }))
    }

    /// Takes another runtime than ours.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Takes the whole OCI spec from `file`, in place of what its image and the other options make
    /// of one. Its root is what the spec says.
    pub fn spec(mut self, file: &Path) -> Self {
        self.spec = Some(file.to_owned());
        self
    }

    /// Sets a variable of its environment.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env", &format!("{name}={value}"))
    }

    /// Sets an annotation of its spec.
    pub fn annotation(self, name: &str, value: &str) -> Self {
        self.option("--annotation", &format!("{name}={value}"))
    }

    /// Mounts `source` of the machine, writable, at `destination`.
    pub fn mount(self, source: &Path, destination: &str) -> Self {
        self.bind(source, destination, "rw")
    }

    /// Mounts `source` of the machine, read-only, at `destination`.
    pub fn mount_read_only(self, source: &Path, destination: &str) -> Self {
        self.bind(source, destination, "ro")
    }

    /// Sets the working directory.
    pub fn cwd(self, folder: &str) -> Self {
        self.option("--cwd", folder)
    }

    /// Any other option of `ctr run`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.options.push(flag.to_owned());
        self
    }

    /// The whole command line, argument 0 first, in place of the image's.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What it reads on standard input; nothing unless given.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs it to its end and removes it.
    ///
    /// # Errors
    /// When `ctr` cannot be started or does not end in time; a container that fails is no error.
    pub fn run(self) -> Result<Finished> {
        let started = Instant::now();
        let words = self.prepare_run()?;
        let ctr = self
            .containerd
            .ctr()
            .args(words)
            .input(self.input.clone())
            .deadline(RUN_LIMIT);
        let output = ctr.output().map_err(|error| self.explain(error))?;
        let took = started.elapsed();
        if self.form == Form::Artifact {
            self.containerd
                .ctr()
                .args(["containers", "rm", &self.id])
                .deadline(CTR_LIMIT)
                .done()?;
        }
        let code = output
            .status
            .code()
            .with_context(|| format!("ctr run {} was killed: {}", self.id, output.status))?;
        Ok(Finished {
            code,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        })
    }

    /// A process that runs it to its end, for output that is shown as it comes.
    ///
    /// # Errors
    /// When the container of an artifact cannot be made.
    pub fn run_command(&self) -> Result<std::process::Command> {
        let mut command = self.containerd.ctr_command();
        command.args(self.prepare_run()?);
        Ok(command)
    }

    /// The arguments with which `ctr` runs it.
    fn prepare_run(&self) -> Result<Vec<String>> {
        match self.form {
            Form::Image => Ok(self.words(&["--rm"])),
            Form::Artifact => {
                artifact::create(
                    &self.containerd,
                    &self.image,
                    &self.id,
                    self.runtime,
                    &self.args,
                )?;
                Ok(["tasks", "start", &self.id].map(str::to_owned).to_vec())
            }
        }
    }

    /// Starts it and leaves it running; its output goes nowhere.
    ///
    /// # Errors
    /// When it cannot be created or started.
    pub fn start(self) -> Result<Task> {
        self.command(&["--detach", "--null-io"])
            .deadline(CTR_LIMIT)
            .done()
            .map_err(|error| self.explain(error))?;
        Ok(Task::new(self.containerd, self.id))
    }

    /// Creates its task and does not start it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(self) -> Result<Task> {
        let mut words = vec!["containers", "create", "--runtime", self.runtime.name()];
        words.extend(self.options.iter().map(String::as_str));
        let what = self.what();
        words.extend(what.iter().map(String::as_str));
        self.containerd
            .ctr()
            .args(words)
            .deadline(CTR_LIMIT)
            .done()
            .map_err(|error| self.explain(error))?;
        // `ctr` has no command that only creates a task. One that then cannot write down its number
        // stops there.
        let nowhere = "/proc/none/";
        let output = self.containerd.ctr().args([
            "tasks",
            "start",
            "--detach",
            "--null-io",
            "--pid-file",
            "/proc/none/pid",
            &self.id,
        ]);
        let output = output.deadline(CTR_LIMIT).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains(nowhere) {
            return Err(self.explain(anyhow::anyhow!("create the task of {}: {said}", self.id)));
        }
        Ok(Task::new(self.containerd, self.id))
    }

    fn command(&self, first: &[&str]) -> command::Run {
        self.containerd.ctr().args(self.words(first))
    }

    fn words(&self, first: &[&str]) -> Vec<String> {
        let mut words = vec!["run".to_owned()];
        words.extend(first.iter().map(|word| (*word).to_owned()));
        words.extend(["--runtime".to_owned(), self.runtime.name().to_owned()]);
        words.extend(self.options.iter().cloned());
        words.extend(self.what());
        words
    }

    /// The last words of its command line: what it is made of, and its id.
    fn what(&self) -> Vec<String> {
        match &self.spec {
            Some(file) => vec![
                "--config".to_owned(),
                file.display().to_string(),
                self.id.clone(),
            ],
            None => [self.image.clone(), self.id.clone()]
                .into_iter()
                .chain(self.args.iter().cloned())
                .collect(),
        }
    }

    fn option(self, name: &str, value: &str) -> Self {
        self.flag(name).flag(value)
    }

    fn bind(self, source: &Path, destination: &str, mode: &str) -> Self {
        let value = format!(
            "type=bind,src={},dst={destination},options=rbind:{mode}",
            source.display()
        );
        self.option("--mount", &value)
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(format!(
            "container {} of {}\n{}",
            self.id,
            self.image,
            self.containerd.evidence()
        ))
    }
}
