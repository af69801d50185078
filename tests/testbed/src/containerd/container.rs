//! A container: described by a builder, then run to completion or started as a task
//! ([`super::task`]).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::task::Task;
use super::{Containerd, artifact};
use crate::command;

/// Timeout of a guest's run.
pub(super) const RUN_TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout of a `ctr` command that runs no guest.
pub(super) const CTR_TIMEOUT: Duration = Duration::from_secs(30);

/// The runtime of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// This project's runtime.
    Wasmedge,
    /// runc, which comes with containerd.
    Runc,
}

impl Runtime {
    /// Returns the runtime type by which containerd finds the shim.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmedge => "io.containerd.wasmedge.v1",
            Self::Runc => "io.containerd.runc.v2",
        }
    }
}

/// The kind of a container's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A Linux image, with any layers.
    Image,
    /// A CNCF Wasm artifact: options of `ctr run` do not apply to its containers.
    Artifact,
}

/// The description of a container.
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

/// The result of a container's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; also 1 when containerd or the shim refused to create it (standard error then
    /// has the reason).
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error of the guest and of `ctr`.
    pub stderr: String,
    /// Duration of `ctr`'s run.
    pub took: Duration,
}

impl Finished {
    /// Returns standard output as text.
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

    /// Returns the container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets the kind of its image; the default is a Linux image.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Returns whether its task was started and still exists.
    ///
    /// # Errors
    /// Fails if `ctr` fails.
    pub fn has_started(&self) -> Result<bool> {
        let list = self
            .containerd
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_TIMEOUT)
            .text()?;
        let mut rows = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        Ok(rows.any(|row| {
            row.first() == Some(&self.id.as_str())
                && row.get(2).is_some_and(|status| *status != "CREATED")
        }))
    }

    /// Sets the runtime; the default is this project's.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Uses the whole OCI spec in `file` instead of one made of the image and the other options.
    /// Its root is the one in the spec.
    pub fn spec(mut self, file: &Path) -> Self {
        self.spec = Some(file.to_owned());
        self
    }

    /// Sets an environment variable.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env", &format!("{name}={value}"))
    }

    /// Sets an annotation of the spec.
    pub fn annotation(self, name: &str, value: &str) -> Self {
        self.option("--annotation", &format!("{name}={value}"))
    }

    /// Bind-mounts `source` of the machine, writable, at `destination`.
    pub fn mount(self, source: &Path, destination: &str) -> Self {
        self.bind(source, destination, "rw")
    }

    /// Bind-mounts `source` of the machine, read-only, at `destination`.
    pub fn mount_read_only(self, source: &Path, destination: &str) -> Self {
        self.bind(source, destination, "ro")
    }

    /// Sets the working directory.
    pub fn cwd(self, folder: &str) -> Self {
        self.option("--cwd", folder)
    }

    /// Adds any other option of `ctr run`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.options.push(flag.to_owned());
        self
    }

    /// Sets the whole command line, argument 0 first, in place of the image's.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the standard input; empty unless given.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs the container to completion and removes it.
    ///
    /// # Errors
    /// Fails if `ctr` cannot be started or does not end in time. A container that fails is not an
    /// error.
    pub fn run(self) -> Result<Finished> {
        let started = Instant::now();
        let arguments = self.prepare_run()?;
        let ctr = self
            .containerd
            .ctr()
            .args(arguments)
            .input(self.input.clone())
            .deadline(RUN_TIMEOUT);
        let output = ctr.output().map_err(|error| self.explain(error))?;
        let took = started.elapsed();
        if self.form == Form::Artifact {
            self.containerd
                .ctr()
                .args(["containers", "rm", &self.id])
                .deadline(CTR_TIMEOUT)
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

    /// Returns the command that runs it to completion, for output that is shown as it comes.
    ///
    /// # Errors
    /// Fails if the container of an artifact cannot be created.
    pub fn run_command(&self) -> Result<std::process::Command> {
        let mut command = self.containerd.ctr_command();
        command.args(self.prepare_run()?);
        Ok(command)
    }

    /// Returns the arguments of `ctr run`.
    fn prepare_run(&self) -> Result<Vec<String>> {
        match self.form {
            Form::Image => Ok(self.arguments(&["--rm"])),
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

    /// Starts it and leaves it running; its output is discarded.
    ///
    /// # Errors
    /// Fails if it cannot be created or started.
    pub fn start(self) -> Result<Task> {
        self.command(&["--detach", "--null-io"])
            .deadline(CTR_TIMEOUT)
            .done()
            .map_err(|error| self.explain(error))?;
        Ok(Task::new(self.containerd, self.id))
    }

    /// Creates its task without starting it.
    ///
    /// # Errors
    /// Fails if it cannot be created.
    pub fn create(self) -> Result<Task> {
        let mut arguments = vec!["containers", "create", "--runtime", self.runtime.name()];
        arguments.extend(self.options.iter().map(String::as_str));
        let what = self.what();
        arguments.extend(what.iter().map(String::as_str));
        self.containerd
            .ctr()
            .args(arguments)
            .deadline(CTR_TIMEOUT)
            .done()
            .map_err(|error| self.explain(error))?;
        // `ctr` has no command that only creates a task, but stops after that if it cannot write
        // its pid file.
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
        let output = output.deadline(CTR_TIMEOUT).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !stderr.contains(nowhere) {
            return Err(self.explain(anyhow::anyhow!("create the task of {}: {stderr}", self.id)));
        }
        Ok(Task::new(self.containerd, self.id))
    }

    fn command(&self, first: &[&str]) -> command::Run {
        self.containerd.ctr().args(self.arguments(first))
    }

    fn arguments(&self, first: &[&str]) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(first.iter().map(|word| (*word).to_owned()));
        arguments.extend(["--runtime".to_owned(), self.runtime.name().to_owned()]);
        arguments.extend(self.options.iter().cloned());
        arguments.extend(self.what());
        arguments
    }

    /// Returns the last arguments of its command line: what it is made of, and its id.
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
