//! User namespaces: ids of the process, and owners of files.

use super::*;

/// Returns the spec of a container of a pod with `hostUsers: false`, merged with `says`.
fn in_users(says: Value) -> Value {
    let mapping = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    let mut users = json!({"linux": {
        "namespaces": [{"type": "pid"}, {"type": "user", "path": "/proc/7/ns/user"}],
        "uidMappings": mapping(1 << 20), "gidMappings": mapping(1 << 21),
    }});
    merge(&mut users, says);
    users
}

fn range(outside: u32) -> Vec<IdRange> {
    vec![IdRange {
        inside: 0,
        outside,
        size: 65536,
    }]
}

#[test]
fn existing_user_namespace_is_joined() {
    let users = plan(in_users(json!({}))).users.unwrap();
    assert_eq!(
        users,
        UserNamespace {
            path: "/proc/7/ns/user".into(),
            uids: range(1 << 20),
            gids: range(1 << 21)
        }
    );
    assert_eq!(users.root(), (1 << 20, 1 << 21));
    assert_eq!(
        plan(json!({})).users,
        None,
        "without one they are the node's"
    );
}

#[test]
fn user_namespace_without_root_is_refused() {
    for field in ["uidMappings", "gidMappings"] {
        for mapping in [
            json!([]),
            json!([{"containerID": 1, "hostID": 5, "size": 9}]),
            json!([{"containerID": 0, "hostID": 5, "size": 0}]),
        ] {
            assert_eq!(
                refusal(in_users(json!({"linux": {field: mapping}}))).0,
                format!("linux.{field}")
            );
        }
    }
}

#[test]
fn files_made_by_the_set_up_belong_to_users_of_the_namespace() {
    let made = plan(in_users(json!({
        "linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 7,
        "gid": 8}]},
        "mounts": [
            {"destination": "/dev", "type": "tmpfs", "options": ["gid=5"]},
            {"destination": "/tmp", "type": "tmpfs", "options": ["uid=3", "size=1m"]},
        ],
    })));
    let owners = |name: &str| {
        made.devices
            .nodes
            .iter()
            .find(|node| node.path == Path::new(name))
            .map(|node| (node.uid, node.gid))
            .unwrap()
    };
    assert_eq!(
        (owners("null"), owners("x")),
        ((1 << 20, 1 << 21), ((1 << 20) + 7, (1 << 21) + 8))
    );
    let option = |key: &str, value: u32| TmpfsOption {
        key: key.to_owned(),
        value: Some(value.to_string()),
    };
    assert_eq!(made.devices.options, [option("gid", (1 << 21) + 5)]);
    let GuestMount::Tmpfs(tmpfs) = &made.mounts[0] else {
        panic!("{:?}", made.mounts)
    };
    assert_eq!(tmpfs.options[0], option("uid", (1 << 20) + 3));
}

#[test]
fn owners_outside_the_user_namespace_are_refused() {
    let device = json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 65536}]);
    assert_eq!(
        refusal(in_users(json!({"linux": {"devices": device}}))).0,
        "linux.devices[]"
    );
    for word in ["uid=65536", "gid=nobody", "uid"] {
        let mounts = json!([{"destination": "/tmp", "type": "tmpfs", "options": [word]}]);
        assert_eq!(
            refusal(in_users(json!({"mounts": mounts}))).0,
            "mounts[].options",
            "{word}"
        );
    }
}

#[test]
fn files_are_mapped_as_the_containers_users_are() {
    let mapping = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    let volume = |uids: Value, gids: Value| {
        in_users(
            json!({"mounts": [{"destination": "/a", "type": "bind", "source": "/a",
                "uidMappings": uids, "gidMappings": gids}]}),
        )
    };
    let owners = |says: Value| match plan(says).mounts.remove(0) {
        GuestMount::Bind(bind) => bind.owners,
        GuestMount::Tmpfs(tmpfs) => panic!("{tmpfs:?}"),
    };
    assert_eq!(
        owners(volume(mapping(1 << 20), mapping(1 << 21))),
        Owners::Mapped
    );
    assert_eq!(owners(volume(json!([]), json!([]))), Owners::Kept);
    assert_eq!(
        refusal(volume(mapping(1 << 20), mapping(1 << 20))).0,
        "mounts[0].gidMappings"
    );
    assert_eq!(
        refusal(volume(mapping(5), mapping(1 << 21))).0,
        "mounts[0].uidMappings"
    );
    assert_eq!(
        refusal(volume(json!([]), mapping(1 << 21))).0,
        "mounts[0].uidMappings"
    );
}

#[test]
fn root_file_system_is_mapped_by_the_containers_own_mapping_alone() {
    let users = plan(in_users(json!({}))).users.unwrap();
    assert!(users.matches("0:1048576:65536", "0:2097152:65536"));
    assert!(!users.matches("0:1048576:65536", "0:1048576:65536"));
}
