//! One `cargo test` command: its output shown as it comes and read for what it says, itself ended
//! when we are.

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
use super::tally::{Reader, Tally};
use crate::setup;

/// How long tests that were told to end may take to clean up after themselves.
const GRACE: Duration = Duration::from_mins(1);

/// Runs `cargo` with `words`.
pub(super) fn cargo(run: &Run, words: &[String], prepared: Option<&Path>) -> Result<Tally> {
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
    // A group of its own: whatever signal ends us, it is we who end the tests, and wait until they
    // have cleaned up.
    let mut child = command.process_group(0).spawn().context("start cargo")?;
    let leader = i32::try_from(child.id())
        .ok()
        .and_then(|pid| Process::of(pid).ok());
    let running = Arc::new(Mutex::new(leader));
    let to_end = Arc::clone(&running);
    run.on_end("end the tests", move || {
        let leader = to_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        leader.map_or(Ok(()), |leader| leader.end_group(GRACE))
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

/// Prints each line as it comes and hands it on; when none comes for long, says that the tests are
/// still at it.
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
                progress::say(&text);
                line(&text);
                last = text;
                heartbeat = Heartbeat::new(what);
            }
            Err(RecvTimeoutError::Timeout) => heartbeat.beat(&last),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
