//! Where a cgroup is.

use proptest::prelude::*;

use super::*;

fn path_of(place: Result<Place, CgroupError>) -> Result<String, String> {
    place
        .map(|place| place.path.to_str().unwrap().to_owned())
        .map_err(|error| error.to_string())
}

#[test]
fn a_path_is_below_the_mount_points() {
    let folder = |path| path_of(Place::folder(path));
    assert_eq!(
        folder("/kubepods/burstable/pod1/c1").as_deref(),
        Ok("kubepods/burstable/pod1/c1")
    );
    assert_eq!(folder("k8s.io/c1").as_deref(), Ok("k8s.io/c1"));
    assert_eq!(folder("//a/./b/").as_deref(), Ok("a/b"));
}

#[test]
fn a_path_that_is_no_cgroup_of_a_container_is_refused() {
    for (path, problem) in [
        ("", "names no cgroup below the root"),
        ("/", "names no cgroup below the root"),
        ("/a/../../b", "leads upwards"),
        ("..", "leads upwards"),
        ("/a\0b", "has a zero byte"),
    ] {
        assert_eq!(
            path_of(Place::folder(path)),
            Err(format!("linux.cgroupsPath {path:?} {problem}"))
        );
    }
}

#[test]
fn a_scope_is_below_the_slices_that_its_slices_name_says() {
    let scope = |path, root| path_of(Place::scope(path, Path::new(root)));
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
fn a_scope_keeps_the_names_that_systemd_is_told() {
    let place = Place::scope("a-b.slice:cri-containerd:c1", Path::new("/")).unwrap();
    assert_eq!(
        place.scope,
        Some(Scope {
            unit: "cri-containerd-c1.scope".to_owned(),
            slice: "a-b.slice".to_owned()
        })
    );
}

#[test]
fn what_names_no_scope_is_refused() {
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
                Place::scope(path, Path::new("/")),
                Err(CgroupError::Path { .. })
            ),
            "{path}"
        );
    }
}

#[test]
fn the_root_of_units_is_where_systemd_has_its_own_scope() {
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
    /// Whatever a spec says, nothing is ever written above the mount points, or to their roots.
    #[test]
    fn no_path_leaves_the_mount_points(text in ".{0,40}|([a-c./:-]|\\.slice){0,20}") {
        for place in [Place::folder(&text), Place::scope(&text,
            Path::new("/"))].into_iter().flatten() {
            prop_assert!(place.path.components().all(|component| matches!(component,
                Component::Normal(_))));
            prop_assert!(place.path.components().count() > 0);
        }
    }
}
