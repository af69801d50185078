//! The cgroup driver of a node's pods, by the names of the cgroups that the kubelet made. The
//! runtime has to use the same driver, otherwise the metrics of its pods are zero.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// The component that sets up the cgroups of a node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodCgroupDriver {
    /// systemd.
    Systemd,
    /// The runtime itself.
    Cgroupfs,
}

/// The cgroup driver of a node cannot be detected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot detect whether the kubelet's cgroup driver is systemd or cgroupfs: below \
     /sys/fs/cgroup of the node there are {found} folders of pods; set containerd.systemdCgroup to \
     the value in the kubelet's configuration (cgroupDriver)"
)]
pub struct Unclear {
    found: &'static str,
}

/// Levels to search in each controller's folder: the kubelet's cgroup root may be one of its own.
const MAX_DEPTH: usize = 2;

/// Decides by the names of cgroups.
///
/// # Errors
/// If there are no cgroups of pods, or those of both drivers.
pub fn driver(folders: &BTreeSet<String>) -> Result<PodCgroupDriver, Unclear> {
    let systemd = folders
        .iter()
        .any(|name| name == "kubepods.slice" || name.ends_with("-kubepods.slice"));
    let cgroupfs = folders.contains("kubepods");
    match (systemd, cgroupfs) {
        (true, false) => Ok(PodCgroupDriver::Systemd),
        (false, true) => Ok(PodCgroupDriver::Cgroupfs),
        (true, true) => Err(Unclear {
            found: "both drivers'",
        }),
        (false, false) => Err(Unclear { found: "no" }),
    }
}

/// Lists the names of the folders that pods may be in: on cgroup v2 below the root, on v1 below
/// each controller's folder.
pub(super) fn folders(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let below = if root.join("cgroup.controllers").exists() {
        vec![root.to_owned()]
    } else {
        children(root)?
    };
    for folder in below {
        collect(&folder, MAX_DEPTH, &mut names)?;
    }
    Ok(names)
}

fn collect(folder: &Path, depth: usize, names: &mut BTreeSet<String>) -> io::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    for child in children(folder)? {
        names.insert(
            child
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        );
        collect(&child, depth - 1, names)?;
    }
    Ok(())
}

/// Lists the folders in a folder; none if it is gone, since cgroups come and go with processes.
/// Links are skipped: on v1 they are second names of a controller.
fn children(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(paths: &[&str]) -> Result<PodCgroupDriver, Unclear> {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.ends_with("cgroup.controllers") {
                fs::write(path, "").unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
        driver(&folders(root.path()).unwrap())
    }

    #[test]
    fn cgroups_of_pods_show_the_driver() {
        assert_eq!(
            on(&[
                "cgroup.controllers",
                "kubepods.slice/kubepods-burstable.slice"
            ]),
            Ok(PodCgroupDriver::Systemd)
        );
        assert_eq!(
            on(&["cgroup.controllers", "kubelet.slice/kubelet-kubepods.slice"]),
            Ok(PodCgroupDriver::Systemd)
        );
        assert_eq!(
            on(&["cgroup.controllers", "kubelet/kubepods"]),
            Ok(PodCgroupDriver::Cgroupfs)
        );
        assert_eq!(
            on(&["memory/kubepods/besteffort", "cpu,cpuacct/kubepods"]),
            Ok(PodCgroupDriver::Cgroupfs)
        );
        assert_eq!(
            on(&["systemd/kubelet/kubepods"]),
            Ok(PodCgroupDriver::Cgroupfs)
        );
    }

    #[test]
    fn no_pods_or_both_drivers_is_an_error_with_the_next_step() {
        for unclear in [
            on(&["memory/system.slice"]),
            on(&["memory/kubepods", "pids/kubepods.slice"]),
        ] {
            assert!(
                unclear
                    .unwrap_err()
                    .to_string()
                    .contains("set containerd.systemdCgroup")
            );
        }
    }
}
