//! Running one `cargo test` command: its output is shown as it arrives and parsed, and it is ended
//! with this program.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use testbed::prepared;
use testbed::progress::{self, Heartbeat};
use testbed::teardown::{Process, Run};

use super::class;
use super::counts::{Reader, TestCounts};
use crate::setup;

/// How long tests may take to clean up after they were signalled to end.
const CLEANUP_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs `cargo` with `words`.
pub(super) fn cargo(run: &Run, words: &[String], prepared: Option<&Path>) -> Result<TestCounts> {
    let mut command = Command::new(class::cargo());
    command
        .args(words)
        .current_dir(setup::repository())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for name in setup::variables_about_us() {
        command.env_remove(name);
    }
    if let Some(file) = prepared {
        command.env(prepared::VARIABLE, file);
    }
    // In its own process group, because on any signal this program itself ends the tests, and waits
    // until they have cleaned up.
    let mut child = command.process_group(0).spawn().context("start cargo")?;
    let leader = i32::try_from(child.id())
        .ok()
        .and_then(|pid| Process::of(pid).ok());
    let running = Arc::new(Mutex::new(leader));
    let to_end = Arc::clone(&running);
    run.on_end("end the tests", move || {
        let leader = to_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        leader.map_or(Ok(()), |leader| leader.end_group(CLEANUP_TIMEOUT))
    });
    let mut reader = Reader::default();
    if let Some(pipe) = child.stdout.take() {
        show(pipe, &words.join(" "), |line| reader.line(line));
    }
    let status = child.wait().context("wait for cargo")?;
    running
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    Ok(reader.finish(
        status.success(),
        &format!("cargo {}: {status}", words.join(" ")),
    ))
}

/// Prints and passes on each line as it arrives; after a long silence prints that the tests still
/// run.
fn show(pipe: impl Read + Send + 'static, what: &str, mut line: impl FnMut(&str)) {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if send
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let mut heartbeat = Heartbeat::new(what);
    let mut last = String::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(text) => {
                progress::print_line(&text);
                line(&text);
                last = text;
                heartbeat = Heartbeat::new(what);
            }
            Err(RecvTimeoutError::Timeout) => heartbeat.beat(&last),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
