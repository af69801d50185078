//! Tests on real cgroups of either version, in folders of their own. They need root, as a launcher
//! does: `cargo xtask test` runs them if it is root.

use std::process::{Child, Command};

use super::*;

/// Returns the mount point of a hierarchy of this kind.
fn hierarchy(fits: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    mounts
        .find(|mount| fits(mount[2], mount[3]))
        .map(|mount| PathBuf::from(mount[1]))
}

fn version_2() -> Option<PathBuf> {
    hierarchy(|kind, _| kind == "cgroup2")
}

fn version_1(controller: &str) -> Option<PathBuf> {
    hierarchy(|kind, options| {
        kind == "cgroup" && options.split(',').any(|option| option == controller)
    })
}

/// A cgroup that is removed after the test with its processes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(hierarchy: &Path, test: &str) -> Self {
        let folder = hierarchy.join(format!("launcher-test-{}-{test}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn sleeper(&self) -> Child {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(self.0.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = remove(std::slice::from_ref(&self.0));
    }
}

/// Fails unless `child` was killed.
fn was_killed(mut child: Child) {
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
#[ignore = "needs root"]
fn processes_are_killed_and_cgroups_removed_on_either_version() {
    for hierarchy in [version_1("pids"), version_2()].into_iter().flatten() {
        let cgroup = Cgroup::make(&hierarchy, "kill");
        let inner = cgroup.0.join("made-by-the-container");
        fs::create_dir(&inner).unwrap();
        let outer = cgroup.sleeper();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
        remove(std::slice::from_ref(&cgroup.0)).unwrap();
        assert!(!cgroup.0.exists(), "{}", hierarchy.display());
        was_killed(outer);
        was_killed(child);
        remove(std::slice::from_ref(&cgroup.0)).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn cgroups_of_several_hierarchies_are_removed() {
    let hierarchies: Vec<PathBuf> = ["pids", "memory", "cpu"]
        .into_iter()
        .filter_map(version_1)
        .collect();
    let cgroups: Vec<Cgroup> = hierarchies
        .iter()
        .map(|hierarchy| Cgroup::make(hierarchy, "several"))
        .collect();
    let Some(_) = cgroups.first() else { return };
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    for Cgroup(folder) in &cgroups {
        fs::write(folder.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    let folders: Vec<PathBuf> = cgroups.iter().map(|cgroup| cgroup.0.clone()).collect();
    remove(&folders).unwrap();
    assert!(folders.iter().all(|folder| !folder.exists()));
    was_killed(child);
}

#[test]
#[ignore = "needs root"]
fn frozen_container_is_killed() {
    let stopped = [
        (version_1("freezer"), "freezer.state", "FROZEN"),
        (version_2(), "cgroup.freeze", "1"),
    ];
    for (hierarchy, file, word) in stopped {
        let Some(hierarchy) = hierarchy else { continue };
        let cgroup = Cgroup::make(&hierarchy, "stopped");
        let child = cgroup.sleeper();
        fs::write(cgroup.0.join(file), word).unwrap();
        remove(std::slice::from_ref(&cgroup.0)).unwrap();
        was_killed(child);
    }
}

#[test]
#[ignore = "needs root"]
fn concurrent_removals_succeed() {
    let Some(hierarchy) = version_1("pids").or_else(version_2) else {
        panic!("no cgroups are mounted")
    };
    for round in 0..20 {
        let cgroup = Cgroup::make(&hierarchy, &format!("twice-{round}"));
        let children: Vec<Child> = (0..5).map(|_| cgroup.sleeper()).collect();
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| remove(std::slice::from_ref(&cgroup.0))));
            for thread in both {
                thread.join().unwrap().unwrap();
            }
        });
        assert!(!cgroup.0.exists());
        children.into_iter().for_each(was_killed);
    }
}

#[test]
#[ignore = "needs root"]
fn root_of_a_hierarchy_is_never_removed() {
    for hierarchy in [version_1("pids"), version_2()].into_iter().flatten() {
        let error = remove(&[hierarchy]).unwrap_err().to_string();
        assert!(error.contains("root of a hierarchy"), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn folder_that_is_not_a_cgroup_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    remove(&[folder.path().to_owned(), PathBuf::from("/nowhere")]).unwrap();
    assert!(folder.path().exists());
}
