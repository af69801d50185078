//! Which processes a container has, read from its cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Hierarchies of cgroup v1 that containers are put into, the surest first.
const V1: &[&str] = &["pids", "memory", "devices", "cpu"];

/// The processes in the cgroup of process `pid`, as this process numbers them.
///
/// # Errors
/// When the process is gone, or its cgroup cannot be read.
pub fn processes(pid: u32) -> io::Result<Vec<u32>> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let unified = Path::new(ROOT).join("cgroup.controllers").exists();
    let folder = folder(&memberships, unified)
        .ok_or_else(|| io::Error::other(format!("process {pid} is in no cgroup that containers are put into")))?;
    let listed = fs::read_to_string(folder.join("cgroup.procs"))?;
    Ok(listed.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The cgroup's folder, from the lines of `/proc/<pid>/cgroup` (cgroups(7)): `number:controllers:path`.
fn folder(memberships: &str, unified: bool) -> Option<PathBuf> {
    let lines = || memberships.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let below = |mount: &Path, path: &str| mount.join(path.trim_start_matches('/'));
    if unified {
        return lines().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| below(Path::new(ROOT), path));
    }
    let of = |wanted: &str| lines().find(|(controllers, _)| controllers.split(',').any(|controller| controller == wanted));
    V1.iter().find_map(|controller| of(controller).map(|(_, path)| below(&Path::new(ROOT).join(controller), path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_on_both_versions() {
        let v1 = "9:name=systemd:/s\n4:memory:/k8s/c1\n3:cpu,cpuacct:/k8s/c1\n0::/\n";
        assert_eq!(folder(v1, false), Some(PathBuf::from("/sys/fs/cgroup/memory/k8s/c1")));
        assert_eq!(folder("0::/kubepods.slice/c1.scope\n", true), Some(PathBuf::from("/sys/fs/cgroup/kubepods.slice/c1.scope")));
        assert_eq!(folder("9:name=systemd:/s\n", false), None);
    }

    #[test]
    fn this_process_is_in_its_own_cgroup() {
        let own = std::process::id();
        assert!(processes(own).unwrap().contains(&own));
    }
}
