//! Runs of other programs: captured output, explained failures, and progress lines for long runs.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::progress::Heartbeat;

/// Number of a failed program's last lines in its error.
const MAX_ERROR_LINES: usize = 30;

/// A program and its arguments, run to completion. Standard input is empty unless given.
#[derive(Debug)]
#[must_use = "the program runs only when its output is requested"]
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
    deadline: Option<Duration>,
}

impl Run {
    /// Creates a run of `program`, found on `PATH` or given as a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self {
            command,
            input: None,
            deadline: None,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets one variable of the program's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes one variable from the program's environment.
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives the program `bytes` on its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Kills the program and fails after `timeout`.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.deadline = Some(timeout);
        self
    }

    /// Runs to completion and returns output and status, also if it failed.
    ///
    /// # Errors
    /// Fails if the program cannot be started, or its deadline passes.
    pub fn output(mut self) -> Result<Output> {
        let line = self.line();
        let mut heartbeat = Heartbeat::new(self.short_name());
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let started = Instant::now();
        let mut child = self
            .command
            .spawn()
            .with_context(|| format!("start {line}"))?;
        let stdout = Drain::of(child.stdout.take());
        let stderr = Drain::of(child.stderr.take());
        if let (Some(bytes), Some(mut pipe)) = (self.input.take(), child.stdin.take()) {
            // On a separate thread: a program that prints before it reads would block both sides.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        // Short intervals at first, so that a quick program is not delayed.
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("wait for {line}"))?
            {
                break status;
            }
            if self
                .deadline
                .is_some_and(|timeout| started.elapsed() > timeout)
            {
                child.kill().with_context(|| format!("kill {line}"))?;
                child.wait().with_context(|| format!("wait for {line}"))?;
                bail!(
                    "{line}: still running after {:?}, killed\n{}{}",
                    started.elapsed(),
                    stdout.tail(),
                    stderr.tail()
                );
            }
            heartbeat.beat(&[stderr.last_line(), stdout.last_line()].concat());
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        Ok(Output {
            status,
            stdout: stdout.finish(),
            stderr: stderr.finish(),
        })
    }

    /// Runs to completion, fails unless the status is 0, and returns standard output without its
    /// last newline.
    ///
    /// # Errors
    /// Fails as [`Run::output`] does, and if the status is not 0: then the error carries the last
    /// lines of output.
    pub fn text(self) -> Result<String> {
        let line = self.line();
        let output = self.output()?;
        let text = String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned();
        if !output.status.success() {
            let printed = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
            bail!(
                "{line}: {}\n{}",
                output.status,
                last_lines(&printed, MAX_ERROR_LINES)
            );
        }
        Ok(text)
    }

    /// Runs to completion and fails unless the status is 0.
    ///
    /// # Errors
    /// Fails as [`Run::text`] does.
    pub fn done(self) -> Result<()> {
        self.text().map(drop)
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn short_name(&self) -> String {
        Path::new(self.command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// A thread that reads a pipe to its end, so that a program with much output never blocks.
struct Drain {
    seen: Arc<Mutex<Vec<u8>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drain {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let thread = pipe.map(|mut pipe| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&buffer[..count]);
                }
            })
        });
        Self { seen, thread }
    }

    fn last_line(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = &seen[seen.len().saturating_sub(400)..];
        String::from_utf8_lossy(tail)
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_owned()
    }

    fn tail(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        last_lines(&String::from_utf8_lossy(&seen), MAX_ERROR_LINES)
    }

    fn finish(mut self) -> Vec<u8> {
        if let Some(thread) = self.thread.take() {
            // The reader thread can panic only when memory is exhausted; what it has read is still
            // used then.
            let _ = thread.join();
        }
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_failed_program_has_its_status_and_output() {
        let error = Run::new("sh")
            .args(["-c", "echo out; echo reason >&2; exit 3"])
            .text()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("reason"),
            "{error}"
        );
    }

    #[test]
    fn program_past_its_deadline_is_killed() {
        let error = Run::new("sleep")
            .arg("60")
            .deadline(Duration::from_millis(50))
            .output()
            .unwrap_err()
            .to_string();
        assert!(error.contains("still running"), "{error}");
    }

    #[test]
    fn program_reads_the_given_input() {
        assert_eq!(Run::new("cat").input("hello\n").text().unwrap(), "hello");
    }
}
