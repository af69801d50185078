//! The interpretation of a helper's end.

use std::time::Duration;

use crate::compiling::Stop;
use crate::kernel::End;
use crate::protocol::{EXIT_ABORTED, EXIT_CPU_TIME, EXIT_SIZE, Reply};
use crate::{Backend, CompileError, Limits};

/// The most bytes of a text of the helper's in a reason: hostile bytes may have made it.
const MAX_TEXT: usize = 600;
/// What the allocators print before they abort.
const NO_MEMORY: &[&str] = &[
    "out of memory",
    "memory allocation of",
    "bad_alloc",
    "bad alloc",
];
/// What the C library prints for `ENOSPC`.
const NO_SPACE: &str = "No space left on device";

/// The result of a compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The draft has the compiled code.
    Compiled(Usage),
    /// The module cannot be compiled within the limits. Another attempt would end in the same way.
    Failed(Failed),
}

/// What a compilation used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// The most memory at a time, in bytes.
    pub peak: u64,
}

/// A failure of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The kind.
    pub kind: FailureKind,
    /// The reason in plain words, with the next step.
    pub reason: String,
    /// What it used until then.
    pub usage: Usage,
}

/// Kinds of failures of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The compiler does not accept the module.
    Refused,
    /// The compiler crashed.
    Crash,
    /// It needs more processor time than allowed.
    CpuTime,
    /// It was not finished at its deadline.
    WallTime,
    /// It needs more memory than allowed.
    Memory,
    /// Its compiled code is larger than allowed.
    Size,
}

/// What is known of a helper that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) end: End,
    pub(crate) replies: Vec<Reply>,
    pub(crate) stopped: Option<Stop>,
    /// Whether the kernel killed it because there was no memory: in its cgroup, or on the node.
    pub(crate) oom_killed: bool,
    pub(crate) cpu: Duration,
    pub(crate) peak: u64,
    /// What it printed.
    pub(crate) output: String,
}

/// Returns the outcome of a compilation of `origin`.
pub(crate) fn interpret(
    origin: &str,
    backend: Backend,
    limits: Limits,
    evidence: Evidence,
) -> Result<Outcome, CompileError> {
    let Evidence {
        end,
        mut replies,
        stopped,
        oom_killed,
        cpu,
        peak,
        output,
    } = evidence;
    let usage = Usage { cpu, peak };
    let origin = || origin.to_owned();
    let failed = |kind, reason: String| {
        let reason = format!("{backend} cannot compile {}: {reason}", origin());
        Ok(Outcome::Failed(Failed {
            kind,
            reason,
            usage,
        }))
    };
    let printed = || match excerpt(&output) {
        text if text.is_empty() => String::new(),
        text => format!("; it printed: {text}"),
    };
    match replies.pop() {
        Some(Reply::Compiled) if end == End::Exited(0) => return Ok(Outcome::Compiled(usage)),
        Some(Reply::Changed) => return Err(CompileError::Changed { origin: origin() }),
        Some(Reply::Failed(failure)) => {
            return Err(CompileError::Step {
                origin: origin(),
                failure,
            });
        }
        Some(Reply::Refused(_) | Reply::Confined) if output.contains(NO_SPACE) => {
            return Err(CompileError::NoSpace { origin: origin() });
        }
        Some(Reply::Refused(text)) => {
            let reason = format!("{}{}", excerpt(&text), printed());
            return failed(FailureKind::Refused, reason);
        }
        Some(Reply::Confined | Reply::Compiled) => {}
        None if stopped.is_some() || end == End::Signalled(libc::SIGKILL) => {
            return Err(CompileError::Killed { origin: origin() });
        }
        None => {
            let how = format!("{}{}", how(end), printed());
            return Err(CompileError::NotStarted { how });
        }
    }
    let exited = |code: u8| end == End::Exited(code.into());
    let was_killed = end == End::Signalled(libc::SIGKILL);
    let memory = || {
        let reason = format!(
            "it needs more than {} of memory: raise the option compileMemoryMiB",
            mebibytes(limits.memory)
        );
        failed(FailureKind::Memory, reason)
    };
    if exited(EXIT_CPU_TIME) || was_killed && cpu >= limits.cpu {
        let reason = format!(
            "it needs more than {} s of processor time: raise the option compileCpuSeconds",
            limits.cpu.as_secs()
        );
        return failed(FailureKind::CpuTime, reason);
    }
    if exited(EXIT_SIZE) {
        let reason = format!(
            "its compiled code is larger than {}: raise the option artifactStoreMaxMiB",
            mebibytes(limits.output)
        );
        return failed(FailureKind::Size, reason);
    }
    if was_killed && oom_killed {
        // The kernel counts a kill for the node's memory in the same place.
        return if peak >= limits.memory / 2 {
            memory()
        } else {
            Err(CompileError::NodeOutOfMemory { origin: origin() })
        };
    }
    if was_killed && stopped == Some(Stop::Deadline) {
        let reason = format!(
            "it was not finished after {} s, in which it had {} s of processor time: is the node \
             overloaded? Or raise the option compileCpuSeconds, by which this limit grows",
            limits.wall().as_secs(),
            cpu.as_secs()
        );
        return failed(FailureKind::WallTime, reason);
    }
    if was_killed {
        return Err(CompileError::Killed { origin: origin() });
    }
    if NO_MEMORY.iter().any(|text| output.contains(text)) {
        return memory();
    }
    let reason = format!("the compiler crashed: {}{}", how(end), printed());
    failed(FailureKind::Crash, reason)
}

fn how(end: End) -> String {
    match end {
        End::Exited(code) if code == i32::from(EXIT_ABORTED) => "it aborted".to_owned(),
        End::Exited(code) => format!("it ended with code {code}"),
        End::Signalled(signal) => format!("it was ended by signal {signal}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Returns the end of a text of the helper's, on one line.
fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ");
    let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_TEXT));
    match &text[from..] {
        end if from > 0 => format!("… {end}"),
        all => all.to_owned(),
    }
}

#[cfg(test)]
mod tests;
