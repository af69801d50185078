//! One container's cgroup and its operations.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::LinuxResources;
use runtime_options::CgroupDriver;

use crate::hierarchies::Tree;
use crate::location::Location;
use crate::{CgroupError, Hierarchies, Version, files, limits, location, metrics, scope};

use oom_counter::OomCounter;

mod freezer;
pub(crate) mod join;
pub(crate) mod make;
mod oom_counter;
mod processes;
mod remove;

pub use processes::signal;

#[cfg(test)]
mod tests;

/// The cgroups of PID 1, which show where systemd keeps its units.
const FIRST_PROCESS: &str = "/proc/1/cgroup";

/// The cgroup of one container, in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    location: Location,
    /// Limits to set when the scope exists.
    pending: Option<LinuxResources>,
    /// Counts OOM kills in the scope, so that the count survives the scope's removal by systemd.
    oom_counter: OnceLock<OomCounter>,
}

/// The way a new process joins a cgroup.
#[derive(Debug)]
pub enum JoinMethod {
    /// cgroup v1: a `tasks` file of each hierarchy. The process, while it has a single thread,
    /// writes `0` to each. This takes 0.3 ms; another process that writes a process id to
    /// `cgroup.procs` needs 11 ms, because the kernel then takes the lock of all thread groups and
    /// waits for a grace period.
    Tasks(Vec<OwnedFd>),
    /// cgroup v2: the folder, for clone3's `CLONE_INTO_CGROUP`. The process is created in it.
    Folder(OwnedFd),
    /// systemd: the process is started anywhere and waits while [`Cgroup::join_scope`] moves it.
    Scope,
}

impl Cgroup {
    /// Creates the cgroup that `cgroups_path` (`linux.cgroupsPath`) names and sets its limits, so
    /// that no process is ever in it without them. After an error nothing of it is left. With
    /// systemd both happen in [`Self::join_scope`]: a scope needs a process.
    pub fn create(
        hierarchies: &Hierarchies,
        driver: CgroupDriver,
        cgroups_path: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let mut cgroup = Self::open(hierarchies, driver, cgroups_path)?;
        match driver {
            CgroupDriver::Cgroupfs => make::folders_with_limits(&cgroup, resources)?,
            CgroupDriver::Systemd => cgroup.pending = resources.cloned(),
        }
        Ok(cgroup)
    }

    /// Returns the cgroup that `cgroups_path` names, without creating it.
    pub fn open(
        hierarchies: &Hierarchies,
        driver: CgroupDriver,
        cgroups_path: &str,
    ) -> Result<Self, CgroupError> {
        let location = match driver {
            CgroupDriver::Cgroupfs => Location::folder(cgroups_path)?,
            CgroupDriver::Systemd => {
                let memberships = files::read(Path::new(FIRST_PROCESS))?;
                Location::scope(cgroups_path, &location::control_group(&memberships))?
            }
        };
        Ok(Self {
            hierarchies: hierarchies.clone(),
            location,
            pending: None,
            oom_counter: OnceLock::new(),
        })
    }

    /// Returns how a new process joins the cgroup.
    pub fn join_method(&self) -> Result<JoinMethod, CgroupError> {
        join::join_method(self)
    }

    /// Has systemd put a waiting process into the container's scope, then sets the limits. Does
    /// nothing with the cgroupfs driver.
    pub fn join_scope(&self, process: u32) -> Result<(), CgroupError> {
        match &self.location.scope {
            Some(unit) => scope::start(self, unit, process, self.pending.as_ref())?,
            None => return Ok(()),
        }
        // A cgroup of v1 exists until its task is deleted: systemd removes only what it created
        // itself, which is not everything.
        if self.hierarchies.version() == Version::V2
            && let Some(folder) = self.folder_of("memory")
            && let Some(counter) = OomCounter::watch(folder.join(metrics::V2_MEMORY_EVENTS))
        {
            // A counter that is already set is of the same scope.
            let _ = self.oom_counter.set(counter);
        }
        Ok(())
    }

    /// Creates the folders of a cgroup that no process joins: that of a pod which a thread holds.
    /// cAdvisor knows pods by it. systemd has no scope without a process and leaves folders alone
    /// that it did not create. With the cgroupfs driver the folders exist already.
    pub fn create_empty(&self) -> Result<(), CgroupError> {
        match &self.location.scope {
            Some(_) => make::missing_folders(self),
            None => Ok(()),
        }
    }

    /// Moves any process into the cgroup, with all of its threads. This takes some 10 ms.
    pub fn add(&self, process: u32) -> Result<(), CgroupError> {
        join::add(self, process)
    }

    /// Returns the absolute paths of its folders, one for each hierarchy. A later clean-up finds
    /// what is left of the cgroup by them.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.hierarchies
            .mounts()
            .into_iter()
            .map(|mount| mount.join(&self.location.path))
            .collect()
    }

    /// Changes the limits that `resources` has; others stay. Device access stays too, as with runc:
    /// setting a new list would first revoke all access of a running container.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match &self.location.scope {
            Some(unit) => scope::update(self, unit, resources),
            None => limits::apply(self, resources, limits::Occasion::Update),
        }
    }

    /// Freezes all processes of the cgroup and waits until they are frozen.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freezer::freeze(self)
    }

    /// Thaws all processes.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        freezer::thaw(self)
    }

    /// Lists the processes in it and in cgroups below it, as numbered in the caller's pid
    /// namespace. A cgroup that does not exist has none.
    pub fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        processes::all(self)
    }

    /// Sends a signal to every process in it. `SIGKILL` also reaches frozen processes, and those
    /// forked meanwhile.
    pub fn kill(&self, signal: u32) -> Result<(), CgroupError> {
        processes::kill(self, signal)
    }

    /// Counts the processes of the cgroup that the kernel's OOM killer killed. 0 without a memory
    /// controller.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let counted = self.oom_counter.get().map_or(0, OomCounter::count);
        metrics::oom_kills(self).map(|kills| kills.max(counted))
    }

    /// Counts the OOM kills in the slice of the container's scope, on cgroup v2. None without a
    /// scope, and on v1. The slice outlives the scope, which systemd may remove before
    /// [`Self::oom_kills`] has seen a kill.
    pub fn slice_oom_kills(&self) -> Result<Option<u64>, CgroupError> {
        match (&self.location.scope, self.hierarchies.version()) {
            (Some(_), Version::V2) => metrics::slice_oom_kills(self),
            _ => Ok(None),
        }
    }

    /// Returns the most memory that it used at a time, in bytes. None if the kernel does not count
    /// it, or the cgroup is gone.
    pub fn memory_peak(&self) -> Result<Option<u64>, CgroupError> {
        metrics::memory_peak(self)
    }

    /// Returns its resource usage as the message of containerd's Stats:
    /// `io.containerd.cgroups.v1.Metrics` or `io.containerd.cgroups.v2.Metrics`. Values of missing
    /// controllers are left out.
    pub fn metrics(&self) -> Result<Any, CgroupError> {
        metrics::all(self)
    }

    /// Removes it and the cgroups below it, and waits until processes that are exiting are gone. A
    /// missing cgroup is not an error. Parents stay, as with runc.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if let Some(unit) = &self.location.scope {
            scope::stop(unit)?;
        }
        remove::folders(self)
    }

    /// Returns its folder in the hierarchy of `controller`; v2 has one folder for all.
    pub(crate) fn folder_of(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies
            .mount_of(controller)
            .map(|mount| mount.join(&self.location.path))
    }

    /// Returns the folder that is named in messages and read for processes. Every hierarchy lists
    /// them, but other programs are least likely to join those with the container's own limits.
    pub(crate) fn main_folder(&self) -> PathBuf {
        let preferred = ["pids", "memory", "freezer", "devices"]
            .iter()
            .find_map(|controller| self.folder_of(controller));
        preferred
            .or_else(|| self.folders().into_iter().next())
            .unwrap_or_else(|| self.location.path.clone())
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    pub(crate) fn tree(&self) -> &Tree {
        self.hierarchies.tree()
    }
}
