//! The guest's output as it arrives, set apart from the demo's own lines.

use std::io::{Read, Write as _};
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use testbed::containerd::Container;
use testbed::{progress, wait};

/// How long a container may take from the start of `ctr` to its own.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The guest's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// This command's input: a terminal, or a pipe.
    Ours,
    /// Empty input.
    Nothing,
}

/// Runs the container and shows its output; returns its exit code.
///
/// # Errors
/// If the container could not be created.
pub(super) fn show(container: &Container, input: Input) -> Result<u8> {
    let started = Instant::now();
    let mut command = container.run_command()?;
    command.stdin(if input == Input::Ours {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    progress::print_line("──────── the guest's output ────────");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ctr")?;
    if let Some(pipe) = child.stdin.take() {
        let container = container.clone();
        // Not joined: it may be blocked reading the terminal long after the guest's exit.
        std::thread::spawn(move || feed(pipe, &container));
    }
    let errors = child
        .stderr
        .take()
        .map(|pipe| std::thread::spawn(move || copy(pipe)));
    let printed = child.stdout.take().map(copy).unwrap_or_default();
    let stderr = errors
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    let status = child.wait().context("wait for ctr")?;
    if !printed.ends_with(b"\n") && !stderr.ends_with(b"\n") {
        progress::print_line("");
    }
    progress::print_line("────────────────────────────────────");
    if String::from_utf8_lossy(&stderr)
        .lines()
        .any(|line| line.starts_with("ctr: "))
    {
        bail!("the container was not run: containerd's message stands above");
    }
    progress::print_line(format_args!(
        "✓ ran the guest {}",
        progress::seconds(started.elapsed())
    ));
    let code = status
        .code()
        .with_context(|| format!("ctr was killed: {status}"))?;
    u8::try_from(code).with_context(|| format!("{code} is not an exit code"))
}

/// Copies this command's input. `ctr` passes the end of its input to the shim only if that comes
/// after it has created the task, so the end is delayed until then: otherwise a guest would wait
/// forever for the end of a short input.
fn feed(mut pipe: ChildStdin, container: &Container) {
    // An error means that the guest reads no more; its exit is seen elsewhere.
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut pipe);
    let _ = wait::until(
        "the guest to run",
        START_TIMEOUT,
        || Ok(container.has_started()?.then_some(())),
        String::new,
    );
}

/// Copies to standard output as data arrives; returns the last part.
fn copy(mut pipe: impl Read) -> Vec<u8> {
    let mut buffer = [0; 8192];
    let mut last = Vec::new();
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        let mut out = std::io::stdout().lock();
        // The reader of this command's output may be gone; the guest still runs to its end.
        let _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
        last.extend_from_slice(&buffer[..count]);
        // Enough for containerd's message; a guest may print gigabytes.
        let surplus = last.len().saturating_sub(8 * buffer.len());
        last.drain(..surplus);
    }
    last
}
