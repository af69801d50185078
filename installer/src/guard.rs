//! Goes back when the installer did not survive the restart of containerd, and nobody else came.
//!
//! Before the first byte of containerd's configuration is changed, the installer puts a copy of its own program, which
//! needs no library, on the node, and has systemd start it outside of every container:
//!
//! ```text
//! the record has no such attempt pending ───────────────► it ends: nothing to do
//! the lock is held: somebody is at work ────────────────► it waits
//! the lock is free, containerd answers, for FREE ───────► it goes back: nobody came to finish
//! the lock is free, containerd does not answer, for DEAF ► it goes back: nobody can come
//! ```
//!
//! It looks at the record and goes back under the lock alone, so it never meets an installer.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use installer_protocol::{Reason, Stage};

use crate::files::{self, Access};
use crate::host::LockError;
use crate::record::{Record, Setback};
use crate::rollback::{self, Teller};
use crate::stage::{Because as _, Failure, Job};

/// Subcommand of this program.
pub const COMMAND: &str = "guard";

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long nobody may be at work while containerd answers: time for the operator to start another installer.
const FREE: Duration = Duration::from_mins(2);
/// How long nobody may be at work while containerd does not answer.
const DEAF: Duration = Duration::from_secs(30);
/// How long one look at containerd may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long a guard lives at most: longer than any installer.
const LIFE: Duration = Duration::from_mins(30);

/// How a guard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The attempt was finished by somebody.
    NothingToDo,
    /// The node is as it was before the attempt.
    WentBack,
    /// Somebody was at work all the time.
    TooOld,
}

/// Starts a guard for `attempt` on the host.
///
/// # Errors
/// When its program cannot be put there, or systemd does not start it.
pub fn start(job: &Job<'_>, attempt: &str) -> Result<(), Failure> {
    let program = &job.places.guard;
    job.node.machine.about_to("put the guard's program on the node");
    let put = || {
        let own = fs::read(job.node.machine.own_program()?)?;
        files::write(&job.node.root.locate(program)?, &own, Access::PROGRAM)
    };
    put().because(Reason::HostFiles, || format!("put the guard's program at {program} of the host"))?;
    let unit = format!("wasmedge-runtime-guard-{}-{attempt}.service", job.request.runtime);
    let description = format!("Goes back if the installation of runtime {} is not finished", job.request.runtime);
    let words = [program.as_str(), "--host-root", "/", COMMAND, "--attempt", attempt, "--request", &job.request.to_json()];
    let command: Vec<String> = words.into_iter().map(str::to_owned).collect();
    job.node.machine.about_to("start the guard");
    job.node
        .machine
        .start(&unit, &description, &command, LIFE)
        .because(Reason::ContainerdRestart, || format!("start the guard {unit} on the host, without which containerd is not restarted"))
}

/// Watches `attempt` until it is finished.
///
/// # Errors
/// When the record or the lock cannot be used, or going back failed.
pub fn watch(job: &Job<'_>, attempt: &str) -> Result<Ended> {
    let (mut life, mut free, mut deaf) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    while life < LIFE {
        if pending(job, attempt)?.is_none() {
            return Ok(Ended::NothingToDo);
        }
        match job.node.root.lock(&job.places.config_folder, Duration::ZERO) {
            Ok(lock) => drop(lock),
            Err(LockError::Held { .. }) => {
                (free, deaf) = (Duration::ZERO, Duration::ZERO);
                job.node.machine.pause(PAUSE);
                life += PAUSE;
                continue;
            }
            Err(error) => return Err(error).context("see whether an installer is at work"),
        }
        let answers = job.node.machine.served(&job.places.socket, LOOK).is_ok();
        deaf = if answers { Duration::ZERO } else { deaf + PAUSE };
        if (free >= FREE || deaf >= DEAF) && go_back(job, attempt, answers)? == Ended::WentBack {
            return Ok(Ended::WentBack);
        }
        job.node.machine.pause(PAUSE);
        free += PAUSE;
        life += PAUSE;
    }
    Ok(Ended::TooOld)
}

/// Goes back, if nobody has come in this moment.
fn go_back(job: &Job<'_>, attempt: &str, answers: bool) -> Result<Ended> {
    let Ok(_lock) = job.node.root.lock(&job.places.config_folder, Duration::ZERO) else { return Ok(Ended::NothingToDo) };
    let Some(mut record) = pending(job, attempt)? else { return Ok(Ended::NothingToDo) };
    let met = record.pending.as_ref().and_then(|pending| pending.setback.clone()).unwrap_or_else(|| setback(answers));
    tracing::warn!(text = met.message, "going back");
    match rollback::run(job, &mut record, &met, Teller::Guard) {
        Ok(_) => Ok(Ended::WentBack),
        Err(failure) => Err(failure.error.context("go back")),
    }
}

/// The record, if `attempt` is what is pending in it.
fn pending(job: &Job<'_>, attempt: &str) -> Result<Option<Record>> {
    let record = Record::load(job.node.root, &job.places.record)?;
    Ok(record.filter(|record| record.pending.as_ref().is_some_and(|pending| pending.attempt == attempt)))
}

/// What the next installer reports.
fn setback(answers: bool) -> Setback {
    let (reason, message) = if answers {
        (Reason::Interrupted, "the installer ended before a guest had proven the change, and no other one came to finish within")
    } else {
        (Reason::ContainerdRestart, "containerd did not answer after its configuration was changed, and the installer was gone, for")
    };
    let limit = if answers { FREE } else { DEAF };
    Setback {
        stage: Stage::Restart,
        reason,
        message: format!("{message} {} s: the guard on the node took the change back", limit.as_secs()),
    }
}
