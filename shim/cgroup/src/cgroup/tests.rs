//! Cgroups in folders that stand for mounted hierarchies. Behaviour of the kernel itself is tested
//! in the node class.

use std::fs;

use serde_json::json;

use super::*;

/// Hierarchies in a temporary folder.
struct Machine {
    root: tempfile::TempDir,
    hierarchies: Hierarchies,
}

impl Machine {
    fn v1() -> Self {
        let root = tempfile::tempdir().unwrap();
        for hierarchy in ["memory", "pids", "systemd"] {
            fs::create_dir(root.path().join(hierarchy)).unwrap();
        }
        Self::of(root)
    }

    fn v2() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "memory pids\n").unwrap();
        Self::of(root)
    }

    fn of(root: tempfile::TempDir) -> Self {
        Self {
            hierarchies: Hierarchies::at(root.path()).unwrap(),
            root,
        }
    }

    fn create(
        &self,
        path: &str,
        resources: Option<serde_json::Value>,
    ) -> Result<Cgroup, CgroupError> {
        let resources: Option<LinuxResources> =
            resources.map(|value| serde_json::from_value(value).unwrap());
        Cgroup::create(
            &self.hierarchies,
            CgroupDriver::Cgroupfs,
            path,
            resources.as_ref(),
        )
    }

    /// Lists the existing folders below the hierarchies.
    fn folders(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut ahead: Vec<PathBuf> = self
            .hierarchies
            .mounts()
            .into_iter()
            .map(Path::to_owned)
            .collect();
        while let Some(folder) = ahead.pop() {
            for below in files::folders(&folder).unwrap() {
                found.push(
                    below
                        .strip_prefix(self.root.path())
                        .unwrap()
                        .display()
                        .to_string(),
                );
                ahead.push(below);
            }
        }
        found.sort();
        found
    }

    /// Writes a folder's list of processes.
    fn occupy(&self, folder: &str, processes: &str) {
        fs::create_dir_all(self.root.path().join(folder)).unwrap();
        fs::write(
            self.root.path().join(folder).join("cgroup.procs"),
            processes,
        )
        .unwrap();
    }
}

#[test]
fn cgroup_is_created_in_every_hierarchy_and_removed_from_each() {
    let machine = Machine::v1();
    let cgroup = machine.create("/pod/c1", None).unwrap();
    assert_eq!(
        machine.folders(),
        [
            "memory/pod",
            "memory/pod/c1",
            "pids/pod",
            "pids/pod/c1",
            "systemd/pod",
            "systemd/pod/c1"
        ]
    );
    assert_eq!(
        cgroup.folders(),
        ["memory", "pids", "systemd"].map(|hierarchy| machine
            .root
            .path()
            .join(hierarchy)
            .join("pod/c1"))
    );
    // Cgroups that the container created below its own are removed too; the pod's stays.
    fs::create_dir_all(machine.root.path().join("pids/pod/c1/own/inner")).unwrap();
    cgroup.remove().unwrap();
    assert_eq!(machine.folders(), ["memory/pod", "pids/pod", "systemd/pod"]);
    cgroup.remove().unwrap();
}

#[test]
fn failed_limit_leaves_no_folder() {
    // No kernel creates the file of the limit here.
    let machine = Machine::v1();
    machine
        .create("/pod/c1", Some(json!({"pids": {"limit": 7}})))
        .unwrap_err();
    assert_eq!(machine.folders(), Vec::<String>::new());
    // A parent that existed before is not removed.
    fs::create_dir(machine.root.path().join("memory/pod")).unwrap();
    machine
        .create("/pod/c1", Some(json!({"pids": {"limit": 7}})))
        .unwrap_err();
    assert_eq!(machine.folders(), ["memory/pod"]);
}

#[test]
fn failure_in_one_hierarchy_leaves_nothing_in_the_others() {
    let machine = Machine::v1();
    fs::write(machine.root.path().join("pids/pod"), "in the way").unwrap();
    let error = machine.create("/pod/c1", None).unwrap_err().to_string();
    assert!(error.contains("pids/pod"), "{error}");
    assert_eq!(machine.folders(), Vec::<String>::new());
}

#[test]
fn occupied_cgroup_is_refused_and_empty_one_is_reused() {
    let machine = Machine::v1();
    machine.occupy("memory/pod/c1", "");
    machine.create("/pod/c1", None).unwrap();
    machine.occupy("pids/pod/c2", "12\n34\n");
    let error = machine.create("/pod/c2", None).unwrap_err();
    assert!(
        matches!(&error, CgroupError::InUse { folder,
            processes } if folder.ends_with("pids/pod/c2") && processes[..] == [12, 34]),
        "{error:?}"
    );
    assert!(
        machine
            .root
            .path()
            .join("pids/pod/c2/cgroup.procs")
            .exists(),
        "the other container's cgroup is unchanged"
    );
    assert!(
        !machine.folders().contains(&"memory/pod/c2".to_owned()),
        "{:?}",
        machine.folders()
    );
}

#[test]
fn every_v2_parent_enables_its_controllers_for_its_children() {
    let machine = Machine::v2();
    let root = machine.root.path();
    fs::create_dir_all(root.join("pod")).unwrap();
    // As the kernel has it: both enable one of two.
    fs::write(root.join("cgroup.subtree_control"), "pids\n").unwrap();
    fs::write(root.join("pod/cgroup.controllers"), "memory pids\n").unwrap();
    fs::write(root.join("pod/cgroup.subtree_control"), "pids\n").unwrap();
    machine.create("/pod/c1", None).unwrap();
    // No kernel adds the written value to the former one here.
    assert_eq!(
        fs::read_to_string(root.join("cgroup.subtree_control")).unwrap(),
        "+memory"
    );
    assert_eq!(
        fs::read_to_string(root.join("pod/cgroup.subtree_control")).unwrap(),
        "+memory"
    );
    assert_eq!(machine.folders(), ["pod", "pod/c1"]);
}

#[test]
fn parents_that_enable_all_controllers_are_not_written() {
    let machine = Machine::v2();
    let root = machine.root.path();
    fs::create_dir_all(root.join("pod")).unwrap();
    fs::write(root.join("pod/cgroup.subtree_control"), "memory pids\n").unwrap();
    machine.create("/pod/c1", None).unwrap();
    assert!(!root.join("cgroup.subtree_control").exists());
}

#[test]
fn processes_include_those_of_cgroups_below_and_are_none_after_removal() {
    let machine = Machine::v1();
    let cgroup = machine.create("/pod/c1", None).unwrap();
    machine.occupy("pids/pod/c1", "12\n");
    machine.occupy("pids/pod/c1/own", "34\n");
    let mut processes = cgroup.processes().unwrap();
    processes.sort_unstable();
    assert_eq!(processes, [12, 34]);
    fs::remove_dir_all(machine.root.path().join("pids/pod")).unwrap();
    assert_eq!(cgroup.processes().unwrap(), Vec::<u32>::new());
}

#[test]
fn freeze_without_freezer_controller_is_refused_by_name() {
    let machine = Machine::v1();
    let error = machine
        .create("/pod/c1", None)
        .unwrap()
        .freeze()
        .unwrap_err()
        .to_string();
    assert!(error.contains("freezer"), "{error}");
}
