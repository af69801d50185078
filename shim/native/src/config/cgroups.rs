//! `/sys/fs/cgroup` of a native container on cgroup v1: its own cgroup of each hierarchy, and
//! nothing above it.
//!
//! libcontainer (0.7) looks up a process number of the container's pid namespace in the node's
//! `/proc`. In a namespace that another container made there need not be such a process, and the
//! mount fails. If the container has no cgroup in a hierarchy, libcontainer binds that hierarchy's
//! root. It also ignores that the mount is to be read-only.

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, MountBuilder, Spec};

/// The folder in which hierarchies are mounted; libcontainer uses no others.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The controllers that libcontainer (0.7) handles.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "pids",
    "perf_event",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];
/// The options of each mount that replaces the one.
const OPTIONS: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// The mount points of the hierarchies of cgroup v1 in which libcontainer makes a container's
/// cgroup, from the lines of mountinfo (proc_pid_mountinfo(5)). None on cgroup v2.
pub(super) fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = before.split(' ').nth(4).map(Path::new) else {
            continue;
        };
        let is_new = !found.iter().any(|known| known == point);
        if after.starts_with("cgroup ")
            && point.parent() == Some(Path::new(CGROUP_ROOT))
            && is_new
            && is_controlled(point)
        {
            found.push(point.to_owned());
        }
    }
    found
}

/// Returns whether a hierarchy has a controller that libcontainer handles.
fn is_controlled(point: &Path) -> bool {
    parts(point).iter().any(|part| CONTROLLERS.contains(part))
}

/// Returns the controllers of a hierarchy: `cpu` and `cpuacct` for `cpu,cpuacct`.
fn parts(point: &Path) -> Vec<&str> {
    point
        .file_name()
        .and_then(|name| name.to_str())
        .map(|name| name.split(',').collect())
        .unwrap_or_default()
}

/// Replaces each mount of type `cgroup` with mounts of the container's own cgroup `cgroup` in each
/// of `hierarchies`.
pub(super) fn replace(
    spec: &mut Spec,
    cgroup: &Path,
    hierarchies: &[PathBuf],
) -> Result<(), OciSpecError> {
    let Some(mounts) = spec.mounts().clone() else {
        return Ok(());
    };
    let is_cgroup = |mount: &Mount| mount.typ().as_deref() == Some("cgroup");
    if hierarchies.is_empty() || !mounts.iter().any(is_cgroup) {
        return Ok(());
    }
    let mut replaced = Vec::with_capacity(mounts.len() + hierarchies.len());
    let mut closed = Vec::new();
    for mount in mounts {
        if !is_cgroup(&mount) {
            replaced.push(mount);
            continue;
        }
        let is_read_only = mount
            .options()
            .iter()
            .flatten()
            .any(|option| option == "ro");
        if is_read_only {
            closed.push(mount.destination().display().to_string());
        }
        replaced.extend(own(mount.destination(), cgroup, hierarchies, is_read_only)?);
    }
    spec.set_mounts(Some(replaced));
    // The folder that holds the hierarchies; it takes its own mounts before it becomes read-only.
    if let Some(linux) = spec.linux_mut()
        && !closed.is_empty()
    {
        let paths = linux.readonly_paths().clone().unwrap_or_default();
        linux.set_readonly_paths(Some(paths.into_iter().chain(closed).collect()));
    }
    Ok(())
}

fn own(
    place: &Path,
    cgroup: &Path,
    hierarchies: &[PathBuf],
    is_read_only: bool,
) -> Result<Vec<Mount>, OciSpecError> {
    let options = |more: &[&str]| {
        OPTIONS
            .iter()
            .chain(more)
            .map(|&option| option.to_owned())
            .collect::<Vec<_>>()
    };
    let holder = MountBuilder::default()
        .destination(place)
        .typ("tmpfs")
        .source("tmpfs")
        .options(options(&["mode=755"]));
    let mut mounts = vec![holder.build()?];
    let access = if is_read_only { "ro" } else { "rw" };
    for point in hierarchies {
        // A link would do for `cpu` beside `cpu,cpuacct`; a mount looks the same to programs.
        let whole = point.file_name().and_then(|name| name.to_str());
        let names = parts(point)
            .into_iter()
            .chain(whole.filter(|name| name.contains(',')));
        for name in names {
            let source = point.join(cgroup.strip_prefix("/").unwrap_or(cgroup));
            let bind = MountBuilder::default()
                .destination(place.join(name))
                .typ("bind")
                .source(source);
            mounts.push(bind.options(options(&["bind", access])).build()?);
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        34 30 0:30 / /sys/fs/cgroup/misc rw - cgroup cgroup rw,misc\n\
        35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        36 24 0:28 / /elsewhere/memory rw - cgroup cgroup rw,memory\n";
    const SPEC: &str = r#"{"ociVersion": "1.1.0", "linux": {"readonlyPaths": ["/proc/sys"]}, "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"]},
        {"destination": "/data", "type": "bind", "source": "/data"}]}"#;

    fn replaced(text: &str, hierarchies: &[PathBuf]) -> Spec {
        let mut spec: Spec = serde_json::from_str(text).unwrap();
        replace(&mut spec, Path::new("/pods/7"), hierarchies).unwrap();
        spec
    }

    fn places(spec: &Spec) -> Vec<String> {
        let mounts = spec.mounts().iter().flatten();
        mounts
            .map(|mount| mount.destination().display().to_string())
            .collect()
    }

    #[test]
    fn hierarchies_are_those_in_which_libcontainer_makes_a_cgroup() {
        assert_eq!(
            hierarchies(HYBRID),
            ["cpu,cpuacct", "memory"].map(|name| Path::new(CGROUP_ROOT).join(name))
        );
        assert_eq!(
            hierarchies("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn cgroup_mount_of_v1_becomes_the_containers_own_cgroups_in_its_place() {
        let spec = replaced(SPEC, &hierarchies(HYBRID));
        let below = ["", "/cpu", "/cpuacct", "/cpu,cpuacct", "/memory"]
            .map(|name| format!("/sys/fs/cgroup{name}"));
        assert_eq!(
            places(&spec),
            [&["/proc".to_owned()][..], &below, &["/data".to_owned()]].concat()
        );
        let memory = &spec.mounts().as_ref().unwrap()[5];
        assert_eq!(
            memory.source().as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory/pods/7"))
        );
        assert_eq!(
            memory.options().as_deref(),
            Some(&["nosuid", "noexec", "nodev", "bind", "ro"].map(str::to_owned)[..])
        );
        let read_only = spec
            .linux()
            .as_ref()
            .unwrap()
            .readonly_paths()
            .clone()
            .unwrap();
        assert_eq!(read_only, ["/proc/sys", "/sys/fs/cgroup"]);
    }

    #[test]
    fn cgroup_mount_that_may_be_written_to_stays_writable() {
        let spec = replaced(
            &SPEC.replace(r#", "ro""#, r#", "rw""#),
            &hierarchies(HYBRID),
        );
        assert_eq!(
            spec.linux()
                .as_ref()
                .unwrap()
                .readonly_paths()
                .clone()
                .unwrap(),
            ["/proc/sys"]
        );
        assert!(
            spec.mounts().as_ref().unwrap()[5]
                .options()
                .as_ref()
                .unwrap()
                .contains(&"rw".to_owned())
        );
    }

    #[test]
    fn cgroup_mount_of_v2_is_libcontainers() {
        assert_eq!(
            places(&replaced(SPEC, &[])),
            ["/proc", "/sys/fs/cgroup", "/data"]
        );
    }
}
