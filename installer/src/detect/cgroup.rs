//! Who sets up the cgroups of a node's pods, by the names of the folders that the kubelet made: the
//! runtime has to do it the same way, or metrics of its pods are zero.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Who sets up the cgroups of a node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// systemd.
    Systemd,
    /// The runtime itself.
    Cgroupfs,
}

/// It cannot be said who sets up a node's cgroups.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell whether the kubelet's cgroup driver is systemd or cgroupfs: below /sys/fs/cgroup \
     of the host there are {found} folders \
     of pods; set containerd.systemdCgroup to what the kubelet's configuration says (cgroupDriver)"
)]
pub struct Unclear {
    found: &'static str,
}

/// Levels below which the kubelet may keep pods, in each controller's folder: its root may be one
/// of its own.
const DEPTH: usize = 2;

/// Judges by the names of folders.
///
/// # Errors
/// When there are no folders of pods, or those of both drivers.
pub fn driver(folders: &BTreeSet<String>) -> Result<Driver, Unclear> {
    let systemd = folders
        .iter()
        .any(|name| name == "kubepods.slice" || name.ends_with("-kubepods.slice"));
    let cgroupfs = folders.contains("kubepods");
    match (systemd, cgroupfs) {
        (true, false) => Ok(Driver::Systemd),
        (false, true) => Ok(Driver::Cgroupfs),
        (true, true) => Err(Unclear {
            found: "both drivers'",
        }),
        (false, false) => Err(Unclear { found: "no" }),
    }
}

/// The names of the folders that pods may lie in: of cgroup v2 below the root, of v1 below each
/// controller's folder.
pub(super) fn folders(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let below = if root.join("cgroup.controllers").exists() {
        vec![root.to_owned()]
    } else {
        children(root)?
    };
    for folder in below {
        collect(&folder, DEPTH, &mut names)?;
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

/// The folders in a folder, which comes and goes as processes do. A link is one of v1's names for a
/// controller.
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

    fn on(paths: &[&str]) -> Result<Driver, Unclear> {
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
    fn the_folders_of_pods_name_the_driver() {
        assert_eq!(
            on(&[
                "cgroup.controllers",
                "kubepods.slice/kubepods-burstable.slice"
            ]),
            Ok(Driver::Systemd)
        );
        assert_eq!(
            on(&["cgroup.controllers", "kubelet.slice/kubelet-kubepods.slice"]),
            Ok(Driver::Systemd)
        );
        assert_eq!(
            on(&["cgroup.controllers", "kubelet/kubepods"]),
            Ok(Driver::Cgroupfs)
        );
        assert_eq!(
            on(&["memory/kubepods/besteffort", "cpu,cpuacct/kubepods"]),
            Ok(Driver::Cgroupfs)
        );
        assert_eq!(on(&["systemd/kubelet/kubepods"]), Ok(Driver::Cgroupfs));
    }

    #[test]
    fn no_pods_and_both_drivers_are_told_with_the_way_out() {
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
