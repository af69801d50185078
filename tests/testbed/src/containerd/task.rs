//! A container's task: status, signals, further processes, removal.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Containerd;
use super::container::{CTR_TIMEOUT, Finished, RUN_TIMEOUT};
use crate::command;
use crate::wait;

/// A started container.
#[derive(Debug)]
pub struct Task {
    containerd: Containerd,
    id: String,
}

impl Task {
    pub(super) fn new(containerd: Containerd, id: String) -> Self {
        Self { containerd, id }
    }

    /// Returns the container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the pid of its process inside the namespace.
    ///
    /// # Errors
    /// Fails if containerd has no such task.
    pub fn pid(&self) -> Result<i32> {
        self.row()?
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no process of task {}", self.id))
    }

    /// Returns its status in containerd: `RUNNING`, `STOPPED`.
    ///
    /// # Errors
    /// Fails if containerd has no such task.
    pub fn status(&self) -> Result<String> {
        self.row()?
            .split_whitespace()
            .nth(2)
            .map(str::to_owned)
            .with_context(|| format!("no status of task {}", self.id))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn kill(&self, signal: &str) -> Result<()> {
        self.ctr("kill").args(["--signal", signal, &self.id]).done()
    }

    /// Sends a signal to every process of the task.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn kill_all(&self, signal: &str) -> Result<()> {
        self.ctr("kill")
            .args(["--all", "--signal", signal, &self.id])
            .done()
    }

    /// Pauses it.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn pause(&self) -> Result<()> {
        self.ctr("pause").arg(&self.id).done()
    }

    /// Resumes it.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn resume(&self) -> Result<()> {
        self.ctr("resume").arg(&self.id).done()
    }

    /// Describes a further process in it, with this id and command line.
    pub fn exec(&self, id: &str, command_line: &[&str]) -> Exec {
        let command_line = command_line.iter().map(|word| (*word).to_owned()).collect();
        Exec {
            containerd: self.containerd.clone(),
            task: self.id.clone(),
            id: id.to_owned(),
            options: Vec::new(),
            command_line,
            input: Vec::new(),
        }
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Fails if it still runs after `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        wait::until(
            format_args!("task {} to stop", self.id),
            timeout,
            || Ok((self.status()? == "STOPPED").then_some(())),
            || self.containerd.evidence(),
        )
    }

    /// Removes the stopped task and its container, and returns the exit code.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn delete(self) -> Result<i32> {
        self.remove(&[])
    }

    /// Kills the task if it still has a process, removes it and its container, and returns the exit
    /// code.
    ///
    /// # Errors
    /// Fails if containerd refuses.
    pub fn delete_by_force(self) -> Result<i32> {
        self.remove(&["--force"])
    }

    fn remove(self, flags: &[&str]) -> Result<i32> {
        let output = self
            .containerd
            .ctr()
            .args(["tasks", "rm"])
            .args(flags)
            .arg(&self.id)
            .deadline(CTR_TIMEOUT)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // It reports the task's exit code in a warning, and warns about cgroups there as well.
        if stderr.lines().any(|line| line.starts_with("ctr: ")) {
            bail!(
                "remove task {}: {stderr}\n{}",
                self.id,
                self.containerd.evidence()
            );
        }
        self.containerd
            .ctr()
            .args(["containers", "rm", &self.id])
            .deadline(CTR_TIMEOUT)
            .done()?;
        let Some((_, code)) = stderr.split_once("exit with non-zero exit code ") else {
            return Ok(0);
        };
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .with_context(|| format!("read the exit code of task {} in {stderr:?}", self.id))
    }

    fn ctr(&self, verb: &str) -> command::Run {
        self.containerd
            .ctr()
            .args(["tasks", verb])
            .deadline(CTR_TIMEOUT)
    }

    fn row(&self) -> Result<String> {
        let list = self
            .containerd
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_TIMEOUT)
            .text()?;
        let row = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&self.id));
        row.map(str::to_owned)
            .with_context(|| format!("containerd has no task {}:\n{list}", self.id))
    }
}

/// The description of a further process in a task.
#[derive(Debug, Clone)]
#[must_use]
pub struct Exec {
    containerd: Containerd,
    task: String,
    id: String,
    options: Vec<String>,
    command_line: Vec<String>,
    input: Vec<u8>,
}

impl Exec {
    /// Adds an option of `ctr tasks exec`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.options.push(flag.to_owned());
        self
    }

    /// Sets the standard input; empty unless given.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs the process to completion and removes it.
    ///
    /// # Errors
    /// Fails if `ctr` cannot be started or does not end in time. A process that fails or cannot be
    /// started is not an error.
    pub fn run(self) -> Result<Finished> {
        let started = Instant::now();
        let ctr = self
            .containerd
            .ctr()
            .args(self.arguments())
            .input(self.input.clone())
            .deadline(RUN_TIMEOUT);
        let output = ctr.output().with_context(|| {
            format!(
                "exec {} in {}\n{}",
                self.id,
                self.task,
                self.containerd.evidence()
            )
        })?;
        let code = output
            .status
            .code()
            .with_context(|| format!("ctr tasks exec {} was killed: {}", self.id, output.status))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Finished {
            code,
            stdout: output.stdout,
            stderr,
            took: started.elapsed(),
        })
    }

    /// Starts the process and leaves it running; its output is discarded.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start(self) -> Result<()> {
        let nowhere = self
            .flag("--detach")
            .flag("--log-uri")
            .flag("file:///dev/null");
        nowhere
            .containerd
            .ctr()
            .args(nowhere.arguments())
            .deadline(CTR_TIMEOUT)
            .done()
    }

    /// Returns the command that runs it to completion, for output that is shown as it comes.
    pub fn command(&self) -> Command {
        let mut command = self.containerd.ctr_command();
        command.args(self.arguments());
        command
    }

    fn arguments(&self) -> Vec<String> {
        let mut command_line: Vec<String> = ["tasks", "exec", "--exec-id", &self.id]
            .map(str::to_owned)
            .to_vec();
        command_line.extend(self.options.iter().cloned());
        command_line.push(self.task.clone());
        command_line.extend(self.command_line.iter().cloned());
        command_line
    }
}
