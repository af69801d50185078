//! The guest's output as it comes, set apart from the demo's own lines.

use std::io::{Read, Write as _};
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use testbed::containerd::Container;
use testbed::{progress, wait};

/// How long a container may take from `ctr`'s start to its own.
const START_LIMIT: Duration = Duration::from_mins(1);

/// What the guest reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// What we read: a terminal, or a pipe.
    Ours,
    /// Nothing.
    Nothing,
}

/// Runs the container and shows its output; returns its exit code.
///
/// # Errors
/// When the container could not be created.
pub(super) fn show(container: &Container, input: Input) -> Result<u8> {
    let started = Instant::now();
    let mut command = container.run_command()?;
    command.stdin(if input == Input::Ours {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    progress::say("──────── the guest's output ────────");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ctr")?;
    if let Some(pipe) = child.stdin.take() {
        let container = container.clone();
        // Not waited for: it may sit in a read of our terminal when the guest has long ended.
        std::thread::spawn(move || feed(pipe, &container));
    }
    let errors = child
        .stderr
        .take()
        .map(|pipe| std::thread::spawn(move || copy(pipe)));
    let printed = child.stdout.take().map(copy).unwrap_or_default();
    let said = errors
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    let status = child.wait().context("wait for ctr")?;
    if !printed.ends_with(b"\n") && !said.ends_with(b"\n") {
        progress::say("");
    }
    progress::say("────────────────────────────────────");
    if String::from_utf8_lossy(&said)
        .lines()
        .any(|line| line.starts_with("ctr: "))
    {
        bail!("the container was not run: containerd's message stands above");
    }
    progress::say(format_args!(
        "✓ ran the guest {}",
        progress::seconds(started.elapsed())
    ));
    let code = status
        .code()
        .with_context(|| format!("ctr was killed: {status}"))?;
    u8::try_from(code).with_context(|| format!("{code} is no exit code"))
}

/// Hands on what we read. `ctr` tells the shim of the end of its input only if that comes after it
/// has made the task, so the end is kept back until then: without that, a guest would wait for ever
/// for the end of a short input.
fn feed(mut pipe: ChildStdin, container: &Container) {
    // An error is a guest that reads no more; its end is seen elsewhere.
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut pipe);
    let _ = wait::until(
        "the guest to run",
        START_LIMIT,
        || Ok(container.has_started()?.then_some(())),
        String::new,
    );
}

/// Copies to our standard output what comes, when it comes; returns the last of it.
fn copy(mut pipe: impl Read) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let mut last = Vec::new();
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        let mut out = std::io::stdout().lock();
        // Whoever reads us may have gone; the guest still runs to its end.
        let _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
        last.extend_from_slice(&buffer[..count]);
        // Enough for containerd's message; a guest may print gigabytes.
        let surplus = last.len().saturating_sub(8 * buffer.len());
        last.drain(..surplus);
    }
    last
}
