//! Cgroups in folders that stand for mounted hierarchies. What the kernel alone does with them is
//! for the node class.

use std::fs;

use serde_json::json;

use super::*;

/// A machine whose cgroups are in a folder.
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
            Driver::Cgroupfs,
            path,
            resources.as_ref(),
        )
    }

    /// The folders that there are, below the hierarchies.
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

    /// Gives a folder the file that says who is in it.
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
fn a_cgroup_is_a_folder_in_every_hierarchy_and_is_removed_from_each() {
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
    // What a container made below its own goes too; the pod's stays.
    fs::create_dir_all(machine.root.path().join("pids/pod/c1/own/inner")).unwrap();
    cgroup.remove().unwrap();
    assert_eq!(machine.folders(), ["memory/pod", "pids/pod", "systemd/pod"]);
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_that_cannot_be_set_leaves_no_folder() {
    // No kernel is here to make the file of the limit.
    let machine = Machine::v1();
    machine
        .create("/pod/c1", Some(json!({"pids": {"limit": 7}})))
        .unwrap_err();
    assert_eq!(machine.folders(), Vec::<String>::new());
    // A parent that was there before is somebody else's.
    fs::create_dir(machine.root.path().join("memory/pod")).unwrap();
    machine
        .create("/pod/c1", Some(json!({"pids": {"limit": 7}})))
        .unwrap_err();
    assert_eq!(machine.folders(), ["memory/pod"]);
}

#[test]
fn a_hierarchy_that_cannot_be_written_to_leaves_nothing_in_the_others() {
    let machine = Machine::v1();
    fs::write(machine.root.path().join("pids/pod"), "in the way").unwrap();
    let error = machine.create("/pod/c1", None).unwrap_err().to_string();
    assert!(error.contains("pids/pod"), "{error}");
    assert_eq!(machine.folders(), Vec::<String>::new());
}

#[test]
fn a_cgroup_that_somebody_is_in_is_not_taken_over_and_an_empty_one_is() {
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
        "somebody else's cgroup is as it was"
    );
    assert!(
        !machine.folders().contains(&"memory/pod/c2".to_owned()),
        "{:?}",
        machine.folders()
    );
}

#[test]
fn every_parent_of_v2_passes_what_it_has_to_those_below() {
    let machine = Machine::v2();
    let root = machine.root.path();
    fs::create_dir_all(root.join("pod")).unwrap();
    // As the kernel has it: both pass one of two.
    fs::write(root.join("cgroup.subtree_control"), "pids\n").unwrap();
    fs::write(root.join("pod/cgroup.controllers"), "memory pids\n").unwrap();
    fs::write(root.join("pod/cgroup.subtree_control"), "pids\n").unwrap();
    machine.create("/pod/c1", None).unwrap();
    // No kernel is here to add what is written to what was there.
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
fn a_cgroup_below_one_that_passes_all_leaves_its_parents_alone() {
    let machine = Machine::v2();
    let root = machine.root.path();
    fs::create_dir_all(root.join("pod")).unwrap();
    fs::write(root.join("pod/cgroup.subtree_control"), "memory pids\n").unwrap();
    machine.create("/pod/c1", None).unwrap();
    assert!(!root.join("cgroup.subtree_control").exists());
}

#[test]
fn processes_of_a_cgroup_are_those_of_all_below_it_and_none_when_it_is_gone() {
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
fn a_pause_without_a_freezer_is_refused_by_name() {
    let machine = Machine::v1();
    let error = machine
        .create("/pod/c1", None)
        .unwrap()
        .freeze()
        .unwrap_err()
        .to_string();
    assert!(error.contains("freezer"), "{error}");
}
