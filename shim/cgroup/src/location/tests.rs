//! Tests of parsing cgroup locations.

use proptest::prelude::*;

use super::*;

fn path_of(location: Result<Location, CgroupError>) -> Result<String, String> {
    location
        .map(|location| location.path.to_str().unwrap().to_owned())
        .map_err(|error| error.to_string())
}

#[test]
fn path_is_below_the_mount_points() {
    let folder = |path| path_of(Location::folder(path));
    assert_eq!(
        folder("/kubepods/burstable/pod1/c1").as_deref(),
        Ok("kubepods/burstable/pod1/c1")
    );
    assert_eq!(folder("k8s.io/c1").as_deref(), Ok("k8s.io/c1"));
    assert_eq!(folder("//a/./b/").as_deref(), Ok("a/b"));
}

#[test]
fn path_that_cannot_be_a_containers_cgroup_is_refused() {
    for (path, problem) in [
        ("", "names no cgroup below the root"),
        ("/", "names no cgroup below the root"),
        ("/a/../../b", "leads upwards"),
        ("..", "leads upwards"),
        ("/a\0b", "has a zero byte"),
    ] {
        assert_eq!(
            path_of(Location::folder(path)),
            Err(format!("linux.cgroupsPath {path:?} {problem}"))
        );
    }
}

#[test]
fn scope_is_below_the_parents_of_its_slice() {
    let scope = |path, root| path_of(Location::scope(path, Path::new(root)));
    let expected = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-c1.scope";
    assert_eq!(
        scope("kubepods-burstable-pod1.slice:cri-containerd:c1", "/").as_deref(),
        Ok(expected)
    );
    assert_eq!(
        scope(":ctr:c1", "/").as_deref(),
        Ok("system.slice/ctr-c1.scope")
    );
    assert_eq!(scope("-.slice:ctr:c1", "/").as_deref(), Ok("ctr-c1.scope"));
    assert_eq!(
        scope("a.slice:ctr:c1", "/docker/node").as_deref(),
        Ok("docker/node/a.slice/ctr-c1.scope")
    );
}

#[test]
fn scope_keeps_unit_and_slice_names() {
    let location = Location::scope("a-b.slice:cri-containerd:c1", Path::new("/")).unwrap();
    assert_eq!(
        location.scope,
        Some(Scope {
            unit: "cri-containerd-c1.scope".to_owned(),
            slice: "a-b.slice".to_owned()
        })
    );
}

#[test]
fn malformed_scope_is_refused() {
    for path in [
        "",
        "/kubepods/c1",
        "a:b",
        "a.slice:b:c:d",
        "a.slice::c1",
        "a.slice:b:",
        "a:b:c",
        "a--b.slice:b:c",
        ".slice:b:c",
        "../x.slice:b:c",
        "a.slice:b:../../c",
        "a.slice:b:c.slice",
        "a.slice:b:c d",
    ] {
        assert!(
            matches!(
                Location::scope(path, Path::new("/")),
                Err(CgroupError::Path { .. })
            ),
            "{path}"
        );
    }
}

#[test]
fn root_of_units_is_the_parent_of_init_scope() {
    let root = |memberships| control_group(memberships).to_str().unwrap().to_owned();
    assert_eq!(root("0::/init.scope\n"), "/");
    assert_eq!(root("0::/docker/c1/init.scope\n"), "/docker/c1");
    assert_eq!(
        root("4:memory:/\n1:name=systemd:/docker/c1/init.scope\n0::/docker/c1/init.scope\n"),
        "/docker/c1"
    );
    assert_eq!(root("0::/\n"), "/");
    assert_eq!(root(""), "/");
}

proptest! {
    /// No spec leads above the mount points, or to their roots.
    #[test]
    fn no_path_leaves_the_mount_points(text in ".{0,40}|([a-c./:-]|\\.slice){0,20}") {
        for location in [Location::folder(&text), Location::scope(&text,
            Path::new("/"))].into_iter().flatten() {
            prop_assert!(location.path.components().all(|component| matches!(component,
                Component::Normal(_))));
            prop_assert!(location.path.components().count() > 0);
        }
    }
}
