//! Goes back when the installer did not survive the restart of containerd, and nobody else came.
//!
//! Before the first byte of containerd's configuration is changed, the installer puts a copy of its
//! own program, which needs no library, on the node, and has systemd start it outside of every
//! container:
//!
//! ```text
//! the record has no such attempt pending ───────────────► it ends: nothing to do
//! the lock is held: somebody is at work ────────────────► it waits
//! the lock is free, containerd answers, for FREE ───────► it goes back: nobody came to finish
//! the lock is free, containerd does not answer, for DEAF ► it goes back: nobody can come
//! the way back failed, or it cannot look ───────────────► it tries again after a pause, until its LIFE is over
//! ```
//!
//! It looks at the record and goes back under the lock alone, so it never meets an installer. Where
//! containerd is down, it is the only one that can come: a failure does not end it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use installer_protocol::{Reason, Stage};

use crate::files::{self, Access};
use crate::host::LockError;
use crate::record::{Record, Setback};
use crate::rollback::{self, Teller};
use crate::stage::{Because as _, Failure, Job, Node};

/// Subcommand of this program.
pub const COMMAND: &str = "guard";

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long nobody may be at work while containerd answers: time for the operator to start another
/// installer.
const FREE: Duration = Duration::from_mins(2);
/// How long nobody may be at work while containerd does not answer.
const DEAF: Duration = Duration::from_secs(30);
/// How long one look at containerd may take.
const LOOK: Duration = Duration::from_secs(2);
/// After the first failure; doubled with each further one.
const AGAIN: Duration = Duration::from_secs(30);
/// Between a failure and the next try at most.
const LONGEST: Duration = Duration::from_mins(5);
/// How long a guard watches at most: longer than the longest installer, two hours by
/// `rollout.nodeTimeoutSeconds` and then the time that its pod is given to end, and the waits and
/// some ways back after it.
const LIFE: Duration = Duration::from_mins(150);
/// What a way back may take that begins at the end of that, with all its checks. Then systemd ends
/// the guard.
const LAST: Duration = Duration::from_mins(15);

/// How a guard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The attempt was finished by somebody.
    NothingToDo,
    /// The node is as it was before the attempt.
    WentBack,
    /// Its time is over: somebody was at work all the time, or no way back succeeded.
    TooOld,
}

/// Since when things are as they are, by the machine's clock.
#[derive(Debug, Default)]
struct Since {
    /// Nobody is at work.
    free: Option<Duration>,
    /// And containerd does not answer.
    deaf: Option<Duration>,
}

/// Why it is time to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nobody came to finish.
    Free,
    /// containerd does not answer, so that nobody can come.
    Deaf,
}

impl Since {
    /// Whether it is time to go back.
    fn due(&self, now: Duration) -> Option<Due> {
        let is_over = |since: Option<Duration>, limit| {
            since.is_some_and(|since| now.saturating_sub(since) >= limit)
        };
        let free = || is_over(self.free, FREE).then_some(Due::Free);
        is_over(self.deaf, DEAF).then_some(Due::Deaf).or_else(free)
    }
}

/// Starts a guard for `attempt` on the host.
///
/// # Errors
/// When its program cannot be put there, or systemd does not start it.
pub fn start(job: &Job<'_>, attempt: &str) -> Result<(), Failure> {
    let program = &job.places.guard;
    job.node
        .machine
        .about_to("put the guard's program on the node");
    let put = || {
        let own = fs::read(job.node.machine.own_program()?)?;
        files::write(&job.node.root.locate(program)?, &own, Access::PROGRAM)
    };
    put().because(Reason::HostFiles, || {
        format!("put the guard's program at {program} of the host")
    })?;
    let unit = format!(
        "wasmedge-runtime-guard-{}-{attempt}.service",
        job.request.runtime
    );
    let description = format!(
        "Goes back if the installation of runtime {} is not finished",
        job.request.runtime
    );
    let words = [
        program.as_str(),
        "--host-root",
        "/",
        COMMAND,
        "--attempt",
        attempt,
        "--request",
        &job.request.to_json(),
    ];
    let command: Vec<String> = words.into_iter().map(str::to_owned).collect();
    job.node.machine.about_to("start the guard");
    job.node
        .machine
        .start(&unit, &description, &command, LIFE + LAST)
        .because(Reason::ContainerdRestart, || {
            format!("start the guard {unit} on the host, without which containerd is not restarted")
        })
}

/// Watches `attempt` until it is finished, or the guard's time is over.
pub fn watch(job: &Job<'_>, attempt: &str) -> Ended {
    let machine = job.node.machine;
    let (began, mut since, mut again) = (machine.elapsed(), Since::default(), AGAIN);
    while machine.elapsed().saturating_sub(began) < LIFE {
        match look(job, attempt, &mut since) {
            Ok(Some(ended)) => return ended,
            Ok(None) => machine.pause(PAUSE),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    again_after_s = again.as_secs(),
                    "the node is not as it was before yet"
                );
                machine.pause(again);
                again = (again * 2).min(LONGEST);
            }
        }
    }
    Ended::TooOld
}

/// Looks once, and goes back if it is time to. How that ended the guard; none where it has to look
/// again.
fn look(job: &Job<'_>, attempt: &str, since: &mut Since) -> Result<Option<Ended>> {
    let Node { root, machine, .. } = job.node;
    if pending(job, attempt)?.is_none() {
        return Ok(Some(Ended::NothingToDo));
    }
    match root.lock(&job.places.config_folder, Duration::ZERO) {
        Ok(lock) => drop(lock),
        Err(LockError::Held { .. }) => {
            *since = Since::default();
            return Ok(None);
        }
        Err(error) => return Err(error).context("see whether an installer is at work"),
    }
    // From before the look: a containerd that is deaf takes all of its time.
    let now = machine.elapsed();
    since.free.get_or_insert(now);
    if machine.served(&job.places.socket, LOOK).is_ok() {
        since.deaf = None;
    } else {
        since.deaf.get_or_insert(now);
    }
    let Some(due) = since.due(machine.elapsed()) else {
        return Ok(None);
    };
    go_back(job, attempt, due)
}

/// Goes back, if nobody has come in this moment.
fn go_back(job: &Job<'_>, attempt: &str, due: Due) -> Result<Option<Ended>> {
    let Ok(_lock) = job
        .node
        .root
        .lock(&job.places.config_folder, Duration::ZERO)
    else {
        return Ok(None);
    };
    let Some(mut record) = pending(job, attempt)? else {
        return Ok(Some(Ended::NothingToDo));
    };
    let met = record
        .pending
        .as_ref()
        .and_then(|pending| pending.setback.clone())
        .unwrap_or_else(|| setback(due));
    tracing::warn!(text = met.message, "going back");
    match rollback::run(job, &mut record, &met, Teller::Guard) {
        Ok(_) => Ok(Some(Ended::WentBack)),
        Err(failure) => Err(failure.error.context("go back")),
    }
}

/// The record, if `attempt` is what is pending in it.
fn pending(job: &Job<'_>, attempt: &str) -> Result<Option<Record>> {
    let record = Record::load(job.node.root, &job.places.record)?;
    Ok(record.filter(|record| {
        record
            .pending
            .as_ref()
            .is_some_and(|pending| pending.attempt == attempt)
    }))
}

/// What the next installer reports.
fn setback(due: Due) -> Setback {
    let (reason, message, limit) = match due {
        Due::Free => {
            let message = "the installer ended before a guest had proven the change, and no other \
                           one came to finish within";
            (Reason::Interrupted, message, FREE)
        }
        Due::Deaf => {
            let message = "containerd did not answer after its configuration was changed, and the \
                           installer was gone, for";
            (Reason::ContainerdRestart, message, DEAF)
        }
    };
    Setback {
        stage: Stage::Restart,
        reason,
        message: format!(
            "{message} {} s: the guard on the node took the change back",
            limit.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_to_go_back_when_a_wait_is_over_and_a_deaf_containerd_counts_first() {
        let seconds = |text: Option<u64>| text.map(Duration::from_secs);
        for (free, deaf, now, due) in [
            (None, None, 1000, None),
            (Some(100), None, 219, None),
            (Some(100), None, 220, Some(Due::Free)),
            (Some(100), Some(100), 129, None),
            (Some(100), Some(100), 130, Some(Due::Deaf)),
            (Some(100), Some(210), 220, Some(Due::Free)),
            (Some(100), Some(100), 220, Some(Due::Deaf)),
        ] {
            let since = Since {
                free: seconds(free),
                deaf: seconds(deaf),
            };
            assert_eq!(
                since.due(Duration::from_secs(now)),
                due,
                "{since:?} at {now}"
            );
        }
    }

    /// The operator's bound of `rollout.nodeTimeoutSeconds`, as it stands in the CRD that is made
    /// of it.
    #[test]
    fn a_guard_lives_longer_than_the_longest_installer() {
        let crd = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/wasmedge-operator/crds/wasmruntimes.yaml"
        );
        let crd = fs::read_to_string(crd).unwrap();
        let field = crd.split_once("nodeTimeoutSeconds:").unwrap().1;
        let maximum = field
            .lines()
            .find_map(|line| line.trim().strip_prefix("maximum: "))
            .unwrap();
        let longest = Duration::from_secs_f64(maximum.parse().unwrap());
        assert!(LIFE > longest + FREE + DEAF, "{longest:?}");
    }
}
