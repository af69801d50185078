//! What a container leaves behind when its host dies: its processes, its cgroup, libcontainer's state. containerd
//! removes the mounts and the bundle itself.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

/// Where cgroup hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where the host has libcontainer keep its state, one folder for each containerd namespace.
const STATE: &str = "/run/containerd/wasmedge";
/// How long killed processes may take to leave their cgroup: longer than any process that can be killed needs.
const LIMIT: Duration = Duration::from_secs(5);

/// Ends every process of container `id` and removes its cgroup and state. What is gone already is fine.
pub(crate) fn remove(namespace: &str, id: &str) -> Result<()> {
    let state = Path::new(STATE).join(namespace).join(id);
    if let Some(path) = cgroups_path(&state)? {
        let folders = folders(Path::new(CGROUPS), &relative(&path))?;
        let started = Instant::now();
        // A process that ends is out of `cgroup.procs` before it is out of the cgroup: until then removal says EBUSY.
        while let Some(busy) = end(&folders)? {
            if started.elapsed() > LIMIT {
                bail!("processes of container {id} do not end although they were killed; see {}", busy.join("cgroup.procs").display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    gone(fs::remove_dir_all(&state)).with_context(|| format!("remove the state of container {id}"))
}

/// The cgroup that libcontainer made; `None` when it has not come so far, or was removed in the ordinary way.
///
/// Asked of libcontainer's state and not of the bundle: containerd may be removing that at this very moment.
fn cgroups_path(state: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Config {
        cgroup_path: String,
    }
    let file = state.join("youki_config.json");
    let text = match fs::read(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("read {}", file.display()))?,
    };
    let config: Config = serde_json::from_slice(&text).with_context(|| format!("{} is no state of libcontainer", file.display()))?;
    Ok(Some(config.cgroup_path).filter(|path| !path.is_empty()))
}

/// The path below a hierarchy's root. `slice:prefix:name` is how the systemd driver writes it: systemd nests a slice
/// `a-b.slice` in `a.slice`, and the container is a scope in the innermost (systemd.slice(5)).
fn relative(cgroups_path: &str) -> PathBuf {
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return PathBuf::from(cgroups_path.trim_start_matches('/'));
    };
    let mut path = PathBuf::new();
    let words: Vec<&str> = slice.trim_end_matches(".slice").split('-').filter(|word| !word.is_empty()).collect();
    for count in 1..=words.len() {
        path.push(format!("{}.slice", words[..count].join("-")));
    }
    path.join(if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") })
}

/// The container's folder in each hierarchy in which it has one.
fn folders(root: &Path, relative: &Path) -> Result<Vec<PathBuf>> {
    let mut roots = vec![root.to_owned()];
    for entry in fs::read_dir(root).with_context(|| format!("list {}", root.display()))? {
        roots.push(entry.with_context(|| format!("list {}", root.display()))?.path());
    }
    Ok(roots.into_iter().map(|root| root.join(relative)).filter(|folder| folder.join("cgroup.procs").exists()).collect())
}

/// Kills what is in the folders and removes them; returns one that still has processes.
fn end(folders: &[PathBuf]) -> Result<Option<&Path>> {
    for folder in folders {
        let file = folder.join("cgroup.procs");
        let text = match fs::read_to_string(&file) {
            // ENODEV: the cgroup was removed between open and read.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV) => continue,
            result => result.with_context(|| format!("read {}", file.display()))?,
        };
        for pid in text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0) {
            // One that ended meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    for folder in folders {
        match remove_cgroup(folder) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(Some(folder)),
            result => result.with_context(|| format!("remove the cgroup {}", folder.display()))?,
        }
    }
    Ok(None)
}

/// Removes a cgroup, those below it first: a container may have made some.
fn remove_cgroup(folder: &Path) -> io::Result<()> {
    let below = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path())?;
    }
    gone(fs::remove_dir(folder))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_either_driver() {
        for (written, expected) in [
            ("/k8s.io/c1", "k8s.io/c1"),
            ("/kubepods/burstable/pod1/c1", "kubepods/burstable/pod1/c1"),
            ("system.slice:cri-containerd:c1", "system.slice/cri-containerd-c1.scope"),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:c1",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-c1.scope",
            ),
        ] {
            assert_eq!(relative(written), Path::new(expected));
        }
    }

    #[test]
    fn every_hierarchy_that_has_the_container_is_found() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["memory/ns/c1", "pids/ns/c1", "cpu/ns/other"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("cgroup.procs"), "").unwrap();
        }
        let mut found = folders(root.path(), Path::new("ns/c1")).unwrap();
        found.sort();
        assert_eq!(found, [root.path().join("memory/ns/c1"), root.path().join("pids/ns/c1")]);
    }

    #[test]
    fn a_container_that_libcontainer_does_not_know_has_no_cgroup() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(cgroups_path(state.path()).unwrap(), None);
        fs::write(state.path().join("youki_config.json"), r#"{"hooks":null,"cgroup_path":"/a/b"}"#).unwrap();
        assert_eq!(cgroups_path(state.path()).unwrap().as_deref(), Some("/a/b"));
    }
}
