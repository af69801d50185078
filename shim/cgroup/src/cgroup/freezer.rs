//! Stopping and continuing a whole cgroup.

use std::path::PathBuf;
use std::time::Duration;

use super::{Cgroup, processes};
use crate::hierarchies::Tree;
use crate::wait::{self, Look};
use crate::{CgroupError, files};

/// How long processes have to come to a stop. One that the kernel keeps in an uninterruptible wait
/// never does.
const LIMIT: Duration = Duration::from_secs(10);
const FIELD: &str = "the container's pause";
const V1: &str = "freezer.state";
const V2: &str = "cgroup.freeze";
const V2_EVENTS: &str = "cgroup.events";

/// The file that freezes, and how it says what the cgroup is.
struct Freezer {
    folder: PathBuf,
    file: PathBuf,
    values: Values,
}

enum Values {
    V1,
    V2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Frozen,
    Thawed,
}

pub(super) fn freeze(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let freezer = Freezer::of(cgroup)?;
    let frozen = freezer.set(State::Frozen, LIMIT);
    if let Err(error @ CgroupError::TimedOut { .. }) = frozen {
        // Half of a container stopped is worse than none of it.
        freezer.set(State::Thawed, LIMIT)?;
        return Err(error);
    }
    frozen
}

pub(super) fn thaw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    Freezer::of(cgroup)?.set(State::Thawed, LIMIT)
}

/// Thaws what is frozen, where there is a freezer at all.
pub(super) fn thaw_if_frozen(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let Ok(freezer) = Freezer::of(cgroup) else {
        return Ok(());
    };
    match files::read_if_there(&freezer.file)? {
        Some(state) if ["THAWED", "0"].contains(&state.trim()) => Ok(()),
        Some(_) => freezer.set(State::Thawed, LIMIT),
        None => Ok(()),
    }
}

impl Freezer {
    fn of(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        let missing = || CgroupError::MissingController {
            field: FIELD.to_owned(),
            controller: "freezer".to_owned(),
        };
        let folder = cgroup.folder_of("freezer").ok_or_else(missing)?;
        Ok(match cgroup.tree() {
            Tree::V1(_) => Self {
                file: folder.join(V1),
                folder,
                values: Values::V1,
            },
            Tree::V2(_) => Self {
                file: folder.join(V2),
                folder,
                values: Values::V2,
            },
        })
    }

    /// Asks for a state and waits for it.
    fn set(&self, state: State, limit: Duration) -> Result<(), CgroupError> {
        let (asked, awaited, name) = match (&self.values, state) {
            (Values::V1, State::Frozen) => ("FROZEN", "FROZEN", "frozen"),
            (Values::V1, State::Thawed) => ("THAWED", "THAWED", "thawed"),
            (Values::V2, State::Frozen) => ("1", "frozen 1", "frozen"),
            (Values::V2, State::Thawed) => ("0", "frozen 0", "thawed"),
        };
        files::write(&self.file, asked, FIELD)?;
        wait::until(limit, &self.folder, name, || {
            let now = files::read(&self.state())?;
            if now.lines().any(|line| line == awaited) {
                return Ok(Look::Done(()));
            }
            if let Values::V1 = self.values {
                // The kernel of v1 does not stop by itself what is forked while it stops the
                // others.
                files::write(&self.file, asked, FIELD)?;
            }
            let processes = processes::described(&processes::below(&self.folder)?);
            Ok(Look::NotYet(format!(
                "it is {:?}, with {processes}",
                now.trim()
            )))
        })
    }

    /// Where the state can be seen.
    fn state(&self) -> PathBuf {
        match self.values {
            Values::V1 => self.file.clone(),
            Values::V2 => self.folder.join(V2_EVENTS),
        }
    }
}
