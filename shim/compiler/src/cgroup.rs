//! The cgroup of a helper.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use container_cgroup::{Cgroup, CgroupError, Hierarchies, JoinMethod, Version};
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder,
};
use runtime_options::CgroupDriver;

/// Processor time in relation to the 1024 of other cgroups.
const CPU_SHARES: u64 = 64;
/// The lowest weight for the disk.
const DISK_WEIGHT: u16 = 10;
/// The most threads: a linker starts some.
const MAX_THREADS: i64 = 64;
/// The folder of all helpers' cgroups, with the cgroupfs driver.
const FOLDER: &str = "wasmedge-runtime";
/// The slice of all helpers' scopes, with the systemd driver.
const SLICE: &str = "system.slice";

/// The age from which an empty cgroup of a host in another pid namespace is taken to be left.
const FOREIGN_AGE: Duration = Duration::from_hours(1);

/// Numbers the helpers of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The cgroup of one helper. It is removed when this is dropped: the helper must have ended.
#[derive(Debug)]
pub(crate) struct HelperCgroup(Cgroup);

impl HelperCgroup {
    /// Makes a cgroup with this much memory. With systemd it exists from [`Self::joined`] on.
    pub(crate) fn make(
        hierarchies: &Hierarchies,
        driver: CgroupDriver,
        memory: u64,
    ) -> Result<Self, CgroupError> {
        sweep(hierarchies, driver);
        let name = Name {
            namespace: own_namespace(),
            host: std::process::id(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        let resources = memory_limit(hierarchies.version(), memory);
        Cgroup::create(hierarchies, driver, &name.path(driver), Some(&resources)).map(Self)
    }

    pub(crate) fn join_method(&self) -> Result<JoinMethod, CgroupError> {
        self.0.join_method()
    }

    /// Completes the cgroup when the helper's process is there. A weight is not needed: a node may
    /// lack its controller.
    pub(crate) fn joined(&self, process: u32) -> Result<(), CgroupError> {
        self.0.join_scope(process)?;
        for (what, resources) in weights() {
            if let Err(error) = self.0.update(&resources) {
                let cause = failures::chain(&error);
                tracing::debug!(
                    what,
                    cause,
                    "the compile helper's cgroup is without a weight"
                );
            }
        }
        Ok(())
    }

    /// Returns whether the kernel killed the helper for memory; a reason that cannot be read is
    /// none.
    pub(crate) fn has_oom_kills(&self) -> bool {
        self.0.oom_kills().is_ok_and(|kills| kills > 0)
    }

    /// Returns the most memory that it used at a time, in bytes; 0 if that is not known.
    pub(crate) fn peak(&self) -> u64 {
        self.0.memory_peak().ok().flatten().unwrap_or_default()
    }
}

impl Drop for HelperCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            let cause = failures::chain(&error);
            tracing::warn!(cause, "cannot remove the cgroup of a compile helper");
        }
    }
}

fn memory_limit(version: Version, bytes: u64) -> LinuxResources {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = LinuxMemoryBuilder::default().limit(bytes);
    let memory = match version {
        // Memory and swap together: so there is none.
        Version::V2 => memory.swap(bytes),
        // Its file is missing on most nodes; the limit of data bounds what could be swapped.
        Version::V1 => memory,
    };
    LinuxResourcesBuilder::default()
        .memory(memory.build().expect("no field is required"))
        .build()
        .expect("no field is required")
}

fn weights() -> [(&'static str, LinuxResources); 3] {
    const COMPLETE: &str = "no other field is required";
    let resources = LinuxResourcesBuilder::default;
    let cpu = LinuxCpuBuilder::default().shares(CPU_SHARES).build();
    let disk = LinuxBlockIoBuilder::default().weight(DISK_WEIGHT).build();
    let pids = LinuxPidsBuilder::default().limit(MAX_THREADS).build();
    [
        (
            "cpu",
            resources()
                .cpu(cpu.expect(COMPLETE))
                .build()
                .expect(COMPLETE),
        ),
        (
            "disk",
            resources()
                .block_io(disk.expect(COMPLETE))
                .build()
                .expect(COMPLETE),
        ),
        (
            "threads",
            resources()
                .pids(pids.expect(COMPLETE))
                .build()
                .expect(COMPLETE),
        ),
    ]
}

/// Returns the number of this process's pid namespace; 0 if it is not known.
fn own_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |facts| facts.ino())
}

/// The name of a helper's cgroup.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// The pid namespace of the process that made it: hosts of nodes in containers share a cgroup
    /// file system.
    namespace: u64,
    /// The process that made it.
    host: u32,
    number: u64,
}

impl Name {
    /// Returns the path for the driver.
    fn path(&self, driver: CgroupDriver) -> String {
        let Self {
            namespace,
            host,
            number,
        } = self;
        match driver {
            CgroupDriver::Cgroupfs => format!("/{FOLDER}/compile-{namespace}-{host}-{number}"),
            CgroupDriver::Systemd => {
                format!("{SLICE}:wasmedge-compile:{namespace}-{host}-{number}")
            }
        }
    }

    /// Parses the name of a folder.
    fn parse(folder: &str) -> Option<Self> {
        let rest = folder.strip_prefix("wasmedge-").unwrap_or(folder);
        let rest = rest.strip_suffix(".scope").unwrap_or(rest);
        let (namespace, rest) = rest.strip_prefix("compile-")?.split_once('-')?;
        let (host, number) = rest.split_once('-')?;
        Some(Self {
            namespace: namespace.parse().ok()?,
            host: host.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// Removes, once in this process, the cgroups that killed hosts have left: their helpers died with
/// them.
fn sweep(hierarchies: &Hierarchies, driver: CgroupDriver) {
    static CGROUPFS: Once = Once::new();
    static SYSTEMD: Once = Once::new();
    let once = match driver {
        CgroupDriver::Cgroupfs => &CGROUPFS,
        CgroupDriver::Systemd => &SYSTEMD,
    };
    once.call_once(|| {
        let own = Name {
            namespace: 0,
            host: 0,
            number: 0,
        };
        let Ok(cgroup) = Cgroup::open(hierarchies, driver, &own.path(driver)) else {
            return;
        };
        for folder in cgroup.folders() {
            if let Some(parent) = folder.parent() {
                sweep_below(parent);
            }
        }
    });
}

fn sweep_below(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_str().and_then(Name::parse);
        let is_left = name.is_some_and(|name| {
            if name.namespace == own_namespace() {
                !Path::new("/proc").join(name.host.to_string()).exists()
            } else {
                // That host cannot be seen from here. Its cgroups are empty for a moment only.
                let age = entry.metadata().and_then(|facts| facts.modified()).ok();
                age.and_then(|time| time.elapsed().ok())
                    .is_some_and(|age| age > FOREIGN_AGE)
            }
        });
        if is_left {
            // One that is not empty is another's after all, and stays.
            let removed = fs::remove_dir(entry.path());
            tracing::debug!(cgroup = %entry.path().display(), ?removed, "found a left cgroup");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_cgroup_is_known_by_the_host_in_its_name() {
        let name = |namespace, host, number| {
            Some(Name {
                namespace,
                host,
                number,
            })
        };
        for (folder, expected) in [
            ("compile-7-12-3", name(7, 12, 3)),
            ("wasmedge-compile-7-12-3.scope", name(7, 12, 3)),
            ("compile-12-3", None),
            ("compile-7-x-3", None),
            ("cron.service", None),
        ] {
            assert_eq!(Name::parse(folder), expected, "{folder}");
        }
    }

    #[test]
    fn cgroup_of_a_killed_host_is_removed_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let namespace = own_namespace();
        let own = format!("compile-{namespace}-{}-0", std::process::id());
        // The kernel's numbers are below 2^22.
        let left = format!("compile-{namespace}-4194305-0");
        for name in [&left, &own, "compile-1-4194305-0", "kubepods"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        sweep_below(folder.path());
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["compile-1-4194305-0", own.as_str(), "kubepods"]);
    }
}
