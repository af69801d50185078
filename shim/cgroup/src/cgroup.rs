//! One container's cgroup, and what is done with it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::LinuxResources;

use crate::hierarchies::Tree;
use crate::place::Place;
use crate::{CgroupError, Driver, Hierarchies, Version, files, limits, metrics, place, scope};

use kills::Kills;

mod freezer;
pub(crate) mod join;
mod kills;
pub(crate) mod make;
mod processes;
mod remove;

pub use processes::signal;

#[cfg(test)]
mod tests;

/// The first process, whose own cgroup shows where systemd keeps its units.
const FIRST_PROCESS: &str = "/proc/1/cgroup";

/// The cgroup of one container, in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    place: Place,
    /// Limits that wait for the scope to be there.
    pending: Option<LinuxResources>,
    /// What is known of a scope's kills when systemd has removed it.
    kills: OnceLock<Kills>,
}

/// How a new process comes into a cgroup.
#[derive(Debug)]
pub enum Entrance {
    /// cgroup v1: a file of each hierarchy. The process, while it has a single thread, writes `0`
    /// to each. Joining so costs 0.3 ms; a process number in `cgroup.procs`, written by another
    /// process, costs 11 ms, because the kernel then takes the lock of all thread groups and waits
    /// for a grace period.
    Tasks(Vec<OwnedFd>),
    /// cgroup v2: the folder, for clone3's `CLONE_INTO_CGROUP`. The process is born in it.
    Folder(OwnedFd),
    /// systemd: the process is started anywhere, waits, and is given to [`Cgroup::adopt`]
    /// meanwhile.
    Afterwards,
}

impl Cgroup {
    /// Makes the cgroup that `cgroups_path` (`linux.cgroupsPath`) names and sets its limits, so
    /// that no process is ever in it without them. After an error nothing of it is left. With
    /// systemd both happen in [`Self::adopt`]: there is no scope without a process.
    pub fn create(
        hierarchies: &Hierarchies,
        driver: Driver,
        cgroups_path: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let mut cgroup = Self::open(hierarchies, driver, cgroups_path)?;
        match driver {
            Driver::Cgroupfs => make::folders_with_limits(&cgroup, resources)?,
            Driver::Systemd => cgroup.pending = resources.cloned(),
        }
        Ok(cgroup)
    }

    /// The cgroup that `cgroups_path` names, which somebody else has made or will make.
    pub fn open(
        hierarchies: &Hierarchies,
        driver: Driver,
        cgroups_path: &str,
    ) -> Result<Self, CgroupError> {
        let place = match driver {
            Driver::Cgroupfs => Place::folder(cgroups_path)?,
            Driver::Systemd => {
                let memberships = files::read(Path::new(FIRST_PROCESS))?;
                Place::scope(cgroups_path, &place::control_group(&memberships))?
            }
        };
        Ok(Self {
            hierarchies: hierarchies.clone(),
            place,
            pending: None,
            kills: OnceLock::new(),
        })
    }

    /// How a new process comes in.
    pub fn entrance(&self) -> Result<Entrance, CgroupError> {
        join::entrance(self)
    }

    /// Gives a waiting process to systemd, which puts it into the container's scope; then the
    /// limits are set. Where systemd does not make the cgroups there is nothing to do.
    pub fn adopt(&self, process: u32) -> Result<(), CgroupError> {
        match &self.place.scope {
            Some(unit) => scope::start(self, unit, process, self.pending.as_ref())?,
            None => return Ok(()),
        }
        // A cgroup of v1 stays until its task is deleted: systemd removes what it has made alone,
        // which is not all.
        if self.hierarchies.version() == Version::V2
            && let Some(folder) = self.folder_of("memory")
            && let Some(kills) = Kills::in_file(folder.join(metrics::V2_MEMORY_EVENTS))
        {
            // One that was set before is that of the same scope.
            let _ = self.kills.set(kills);
        }
        Ok(())
    }

    /// Makes the folders of a cgroup that no process will ever be in: that of a pod which a thread
    /// holds, by which cAdvisor knows pods. systemd has no scope without a process and leaves a
    /// folder alone that it has not made. Without systemd they are there already.
    pub fn keep_empty(&self) -> Result<(), CgroupError> {
        match &self.place.scope {
            Some(_) => make::missing_folders(self),
            None => Ok(()),
        }
    }

    /// Puts a process of ours or of anybody's into the cgroup, with all of its threads. It costs
    /// some 10 ms.
    pub fn add(&self, process: u32) -> Result<(), CgroupError> {
        join::add(self, process)
    }

    /// The folders that it is made of, absolute, one for each hierarchy. Whoever finds them after
    /// our death removes what is left with them.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.hierarchies
            .mounts()
            .into_iter()
            .map(|mount| mount.join(&self.place.path))
            .collect()
    }

    /// Changes the limits that `resources` has; the others stay. Access to devices stays too, as
    /// with runc: a list that is set anew would first take everything away from a running
    /// container.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match &self.place.scope {
            Some(unit) => scope::update(self, unit, resources),
            None => limits::apply(self, resources, limits::Occasion::Update),
        }
    }

    /// Stops every process of the cgroup and waits until they have stopped.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freezer::freeze(self)
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        freezer::thaw(self)
    }

    /// The processes in it and in cgroups below it, as the caller's pid namespace numbers them.
    /// None if it is gone.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        processes::all(self)
    }

    /// Sends a signal to every process in it. `SIGKILL` also reaches processes that are forked
    /// meanwhile, and frozen ones.
    pub fn kill(&self, signal: u32) -> Result<(), CgroupError> {
        processes::kill(self, signal)
    }

    /// How many processes of it the kernel has killed for want of memory. 0 where memory has no
    /// controller.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let seen = self.kills.get().map_or(0, Kills::count);
        metrics::oom_kills(self).map(|kills| kills.max(seen))
    }

    /// What it uses, as containerd's Stats wants it: `io.containerd.cgroups.v1.Metrics` or
    /// `io.containerd.cgroups.v2.Metrics`. What a missing controller would have counted is left
    /// out.
    pub fn metrics(&self) -> Result<Any, CgroupError> {
        metrics::all(self)
    }

    /// Removes it and the cgroups below it. One whose last processes are just ending is waited for;
    /// one that is gone is fine. Parents stay, as with runc.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if let Some(unit) = &self.place.scope {
            scope::stop(unit)?;
        }
        remove::folders(self)
    }

    /// Its folder in the hierarchy of `controller`; on v2 the one there is.
    pub(crate) fn folder_of(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies
            .mount_of(controller)
            .map(|mount| mount.join(&self.place.path))
    }

    /// The folder that stands for the cgroup in messages, and that is asked for its processes: any
    /// hierarchy knows them, but those of the container's own limits are the least likely to be
    /// joined by something else.
    pub(crate) fn main_folder(&self) -> PathBuf {
        let preferred = ["pids", "memory", "freezer", "devices"]
            .iter()
            .find_map(|controller| self.folder_of(controller));
        preferred
            .or_else(|| self.folders().into_iter().next())
            .unwrap_or_else(|| self.place.path.clone())
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    pub(crate) fn tree(&self) -> &Tree {
        self.hierarchies.tree()
    }
}
