//! Compilations that reach their limits. Each ends as a failure of the module.

use std::time::Duration;

use anyhow::{Result, ensure};
use guest_compiler::{Failed, FailureKind, Limits, Stop};

use crate::acts;
use crate::host::{LIMITS, NewJob, nothing_is_left};

fn failure(act: &str, limits: Limits) -> Result<Failed> {
    let job = NewJob {
        limits,
        ..NewJob::of(&acts::module(act))?
    };
    let failed = job.acting().failure()?;
    nothing_is_left()?;
    Ok(failed)
}

fn expect(failed: &Failed, kind: FailureKind, part: &str) -> Result<()> {
    ensure!(
        failed.kind == kind && failed.reason.contains(part),
        "{failed:?}"
    );
    Ok(())
}

pub(crate) fn crash() -> Result<()> {
    for (act, part) in [
        ("abort", "it aborted; it printed: a bug in a compiler"),
        ("panic", "it ended with code 101"),
        ("overflow", "has overflowed its stack"),
    ] {
        expect(&failure(act, LIMITS)?, FailureKind::Crash, part)?;
    }
    Ok(())
}

pub(crate) fn cpu_time() -> Result<()> {
    let limits = Limits {
        cpu: Duration::from_secs(1),
        ..LIMITS
    };
    let failed = failure("loop", limits)?;
    expect(
        &failed,
        FailureKind::CpuTime,
        "raise the option compileCpuSeconds",
    )?;
    // The kernel counts ticks.
    ensure!(failed.usage.cpu >= limits.cpu / 2, "{failed:?}");
    Ok(())
}

pub(crate) fn deadline() -> Result<()> {
    let limits = Limits {
        cpu: Duration::from_millis(200),
        ..LIMITS
    };
    let failed = failure("wait", limits)?;
    expect(&failed, FailureKind::WallTime, "was not finished after 1 s")
}

pub(crate) fn memory() -> Result<()> {
    let limits = Limits {
        memory: 64 << 20,
        ..LIMITS
    };
    for act in ["memory", "reserve"] {
        let failed = failure(act, limits)?;
        let part = "more than 64 MiB of memory: raise the option compileMemoryMiB";
        expect(&failed, FailureKind::Memory, part)?;
        ensure!(failed.usage.peak <= 2 * limits.memory, "{failed:?}");
    }
    Ok(())
}

pub(crate) fn size() -> Result<()> {
    let limits = Limits {
        output: 1 << 20,
        ..LIMITS
    };
    let failed = failure("output", limits)?;
    expect(
        &failed,
        FailureKind::Size,
        "larger than 1 MiB: raise the option artifactStoreMaxMiB",
    )
}

pub(crate) fn output() -> Result<()> {
    let (code, _) = NewJob::of(&acts::module("print"))?.acting().code()?;
    ensure!(code == b"code");
    let (mut compiling, _draft) = NewJob::of(&acts::module("wait"))?.acting().start()?;
    compiling.stop(Stop::Cancelled);
    ensure!(compiling.wait().is_err());
    Ok(())
}
