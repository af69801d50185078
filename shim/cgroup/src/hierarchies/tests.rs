//! Tests of finding hierarchies.

use super::*;

fn v1(hierarchies: &[(&str, &str)]) -> Tree {
    let hierarchy = |(controllers, mount): &(&str, &str)| Hierarchy {
        controllers: controllers.split(',').map(str::to_owned).collect(),
        mount: PathBuf::from(mount),
    };
    Tree::V1(hierarchies.iter().map(hierarchy).collect())
}

#[test]
fn each_v1_controller_is_found_at_its_mount() {
    let mounts = "\
25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,release_agent=/lib/agent,name=systemd
";
    let expected = [
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        ("memory", "/sys/fs/cgroup/memory"),
        ("name=systemd", "/sys/fs/cgroup/systemd"),
    ];
    assert_eq!(tree(mounts), Some(v1(&expected)));
}

#[test]
fn version_is_v1_if_any_controller_is_mounted_as_v1() {
    let mounts = "\
34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    assert_eq!(
        tree(mounts),
        Some(v1(&[("memory", "/sys/fs/cgroup/memory")]))
    );
}

#[test]
fn version_is_v2_without_v1_controllers() {
    let mounts = "\
30 23 0:26 / /run/mine rw,relatime - cgroup2 cgroup2 rw
31 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2 rw,nsdelegate
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";
    assert_eq!(
        tree(mounts),
        Some(Tree::V2(PathBuf::from("/sys/fs/cgroup")))
    );
}

#[test]
fn mount_at_the_usual_root_is_preferred() {
    let mounts = "\
34 31 0:31 / /mnt/my\\040cgroups rw,relatime - cgroup cgroup rw,memory
35 31 0:31 /docker/c1 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:31 / /var/lib/other rw,relatime - cgroup cgroup rw,memory
37 31 0:32 / /mnt/my\\040cgroups/pids rw,relatime - cgroup cgroup rw,pids
";
    assert_eq!(
        tree(mounts),
        Some(v1(&[
            ("memory", "/sys/fs/cgroup/memory"),
            ("pids", "/mnt/my cgroups/pids")
        ]))
    );
}

#[test]
fn missing_hierarchies_are_reported() {
    assert_eq!(
        tree("25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"),
        None
    );
    assert_eq!(tree("nonsense\n"), None);
}

#[test]
fn version_of_another_root_follows_from_its_files() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(
        Hierarchies::at(root.path()),
        Err(CgroupError::NotMounted)
    ));
    for folder in ["cpu,cpuacct", "memory", "systemd"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    let hierarchies = Hierarchies::at(root.path()).unwrap();
    assert_eq!(hierarchies.version(), Version::V1);
    assert_eq!(
        hierarchies.mount_of("cpuacct"),
        Some(root.path().join("cpu,cpuacct").as_path())
    );
    assert_eq!(
        hierarchies.mount_of(SYSTEMD),
        Some(root.path().join("systemd").as_path())
    );
    assert_eq!(hierarchies.mount_of("pids"), None);
    std::fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
    assert_eq!(Hierarchies::at(root.path()).unwrap().version(), Version::V2);
}

#[test]
fn hierarchies_of_this_machine_are_found() {
    let hierarchies = Hierarchies::find().unwrap();
    for mount in hierarchies.mounts() {
        assert!(mount.join("cgroup.procs").exists(), "{}", mount.display());
    }
}
