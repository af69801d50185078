//! A container's task: watched, signalled, joined by further processes, removed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Containerd;
use super::container::{CTR_LIMIT, Finished, RUN_LIMIT};
use crate::command;
use crate::wait;

/// A container that was started.
#[derive(Debug)]
pub struct Task {
    containerd: Containerd,
    id: String,
}

impl Task {
    pub(super) fn new(containerd: Containerd, id: String) -> Self {
        Self { containerd, id }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of its process inside the namespace.
    ///
    /// # Errors
    /// When containerd has no such task.
    pub fn pid(&self) -> Result<i32> {
        self.row()?
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no process of task {}", self.id))
    }

    /// What containerd says of it: `RUNNING`, `STOPPED`.
    ///
    /// # Errors
    /// When containerd has no such task.
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
    /// When containerd refuses.
    pub fn kill(&self, signal: &str) -> Result<()> {
        self.ctr("kill").args(["--signal", signal, &self.id]).done()
    }

    /// Sends a signal to every process in it.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn kill_all(&self, signal: &str) -> Result<()> {
        self.ctr("kill")
            .args(["--all", "--signal", signal, &self.id])
            .done()
    }

    /// Freezes it.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn pause(&self) -> Result<()> {
        self.ctr("pause").arg(&self.id).done()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn resume(&self) -> Result<()> {
        self.ctr("resume").arg(&self.id).done()
    }

    /// A further process in it, with this id and command line.
    pub fn exec(&self, id: &str, words: &[&str]) -> Exec {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Exec {
            containerd: self.containerd.clone(),
            task: self.id.clone(),
            id: id.to_owned(),
            options: Vec::new(),
            words,
            input: Vec::new(),
        }
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&self, limit: Duration) -> Result<()> {
        wait::until(
            format_args!("task {} to stop", self.id),
            limit,
            || Ok((self.status()? == "STOPPED").then_some(())),
            || self.containerd.evidence(),
        )
    }

    /// Removes the stopped task and its container, and returns the exit code.
    ///
    /// # Errors
    /// When containerd refuses.
    pub fn delete(self) -> Result<i32> {
        self.remove(&[])
    }

    /// Kills the task, if it still has a process, removes it and its container, and returns the
    /// exit code.
    ///
    /// # Errors
    /// When containerd refuses.
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
            .deadline(CTR_LIMIT)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It tells the task's exit code in a warning, and warns of cgroups there as well.
        if said.lines().any(|line| line.starts_with("ctr: ")) {
            bail!(
                "remove task {}: {said}\n{}",
                self.id,
                self.containerd.evidence()
            );
        }
        self.containerd
            .ctr()
            .args(["containers", "rm", &self.id])
            .deadline(CTR_LIMIT)
            .done()?;
        let Some((_, code)) = said.split_once("exit with non-zero exit code ") else {
            return Ok(0);
        };
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .with_context(|| format!("read the exit code of task {} in {said:?}", self.id))
    }

    fn ctr(&self, verb: &str) -> command::Run {
        self.containerd
            .ctr()
            .args(["tasks", verb])
            .deadline(CTR_LIMIT)
    }

    fn row(&self) -> Result<String> {
        let list = self
            .containerd
            .ctr()
            .args(["tasks", "ls"])
            .deadline(CTR_LIMIT)
            .text()?;
        let row = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&self.id));
        row.map(str::to_owned)
            .with_context(|| format!("containerd has no task {}:\n{list}", self.id))
    }
}

/// A further process in a task, that is yet to be started.
#[derive(Debug, Clone)]
#[must_use]
pub struct Exec {
    containerd: Containerd,
    task: String,
    id: String,
    options: Vec<String>,
    words: Vec<String>,
    input: Vec<u8>,
}

impl Exec {
    /// Any option of `ctr tasks exec`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.options.push(flag.to_owned());
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
    /// When `ctr` cannot be started or does not end in time; a process that fails, or cannot be
    /// started, is no error.
    pub fn run(self) -> Result<Finished> {
        let started = Instant::now();
        let ctr = self
            .containerd
            .ctr()
            .args(self.arguments())
            .input(self.input.clone())
            .deadline(RUN_LIMIT);
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

    /// Starts it and leaves it running; its output goes nowhere.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<()> {
        let nowhere = self
            .flag("--detach")
            .flag("--log-uri")
            .flag("file:///dev/null");
        nowhere
            .containerd
            .ctr()
            .args(nowhere.arguments())
            .deadline(CTR_LIMIT)
            .done()
    }

    /// A process that runs it to its end, for output that is shown as it comes.
    pub fn command(&self) -> Command {
        let mut command = self.containerd.ctr_command();
        command.args(self.arguments());
        command
    }

    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = ["tasks", "exec", "--exec-id", &self.id]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.options.iter().cloned());
        words.push(self.task.clone());
        words.extend(self.words.iter().cloned());
        words
    }
}
