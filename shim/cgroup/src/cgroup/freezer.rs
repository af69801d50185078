//! Freezing and thawing a whole cgroup.

use std::path::PathBuf;
use std::time::Duration;

use super::{Cgroup, processes};
use crate::hierarchies::Tree;
use crate::wait::{self, Probe};
use crate::{CgroupError, files};

/// How long freezing or thawing may take. A process in an uninterruptible wait of the kernel never
/// freezes.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
const FIELD: &str = "the container's pause";
const V1: &str = "freezer.state";
const V2: &str = "cgroup.freeze";
const V2_EVENTS: &str = "cgroup.events";

/// The file that freezes a cgroup, and the values of its cgroup version.
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
    let frozen = freezer.set(State::Frozen, FREEZE_TIMEOUT);
    if let Err(error @ CgroupError::TimedOut { .. }) = frozen {
        // A partly frozen container is worse than a running one.
        freezer.set(State::Thawed, FREEZE_TIMEOUT)?;
        return Err(error);
    }
    frozen
}

pub(super) fn thaw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    Freezer::of(cgroup)?.set(State::Thawed, FREEZE_TIMEOUT)
}

/// Thaws a frozen cgroup, if the freezer controller is available.
pub(super) fn thaw_if_frozen(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let Ok(freezer) = Freezer::of(cgroup) else {
        return Ok(());
    };
    match files::read_if_there(&freezer.file)? {
        Some(state) if ["THAWED", "0"].contains(&state.trim()) => Ok(()),
        Some(_) => freezer.set(State::Thawed, FREEZE_TIMEOUT),
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

    /// Requests a state and waits for it.
    fn set(&self, state: State, timeout: Duration) -> Result<(), CgroupError> {
        let (asked, awaited, name) = match (&self.values, state) {
            (Values::V1, State::Frozen) => ("FROZEN", "FROZEN", "frozen"),
            (Values::V1, State::Thawed) => ("THAWED", "THAWED", "thawed"),
            (Values::V2, State::Frozen) => ("1", "frozen 1", "frozen"),
            (Values::V2, State::Thawed) => ("0", "frozen 0", "thawed"),
        };
        files::write(&self.file, asked, FIELD)?;
        wait::until(timeout, &self.folder, name, || {
            let now = files::read(&self.state())?;
            if now.lines().any(|line| line == awaited) {
                return Ok(Probe::Done(()));
            }
            if let Values::V1 = self.values {
                // The v1 kernel does not freeze processes that are forked while it freezes the
                // others.
                files::write(&self.file, asked, FIELD)?;
            }
            let processes = processes::described(&processes::below(&self.folder)?);
            Ok(Probe::NotYet(format!(
                "it is {:?}, with {processes}",
                now.trim()
            )))
        })
    }

    /// Returns the file that shows the state.
    fn state(&self) -> PathBuf {
        match self.values {
            Values::V1 => self.file.clone(),
            Values::V2 => self.folder.join(V2_EVENTS),
        }
    }
}
