//! The root, and the mounts below it.

use super::*;

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;

fn bind_with(options: &[&str]) -> Bind {
    let mounts = plan(
        json!({"mounts": [{"destination": "/data", "type": "bind", "source": "/srv",
        "options": options}]}),
    )
    .mounts;
    match <[GuestMount; 1]>::try_from(mounts) {
        Ok([GuestMount::Bind(bind)]) => bind,
        other => panic!("{other:?}"),
    }
}

fn change(set: u64, clear: u64) -> AttributeChange {
    AttributeChange { set, clear }
}

fn propagation(kind: PropagationKind, reach: Reach) -> Propagation {
    Propagation { kind, reach }
}

#[test]
fn root_is_read_only_if_the_spec_requests_it() {
    assert!(plan(json!({})).root.attributes.is_empty());
    assert!(
        plan(json!({"root": {"readonly": false}}))
            .root
            .attributes
            .is_empty()
    );
    assert_eq!(
        plan(json!({"root": {"readonly": true}})).root.attributes,
        change(RDONLY, 0)
    );
}

#[test]
fn root_has_the_propagation_of_the_spec() {
    let of = |word: &str| {
        plan(json!({"linux": {"rootfsPropagation": word}}))
            .root
            .propagation
    };
    assert_eq!(
        plan(json!({})).root.propagation,
        propagation(PropagationKind::Private, Reach::Recursive)
    );
    assert_eq!(
        of("rslave"),
        propagation(PropagationKind::Slave, Reach::Recursive)
    );
    assert_eq!(
        of("shared"),
        propagation(PropagationKind::Shared, Reach::Single)
    );
    assert_eq!(
        refusal(json!({"linux": {"rootfsPropagation": "sideways"}})).0,
        "linux.rootfsPropagation"
    );
}

#[test]
fn bind_mount_has_source_reach_and_destination_of_the_spec() {
    let plan = plan(json!({"mounts": [
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rprivate",
        "rw"]},
        {"destination": "/one", "type": "bind", "source": "files/one"},
        {"destination": "/other", "type": "none", "source": "/other", "options": ["bind"]},
    ]}));
    let bind = |source: &str, destination: &str, reach| {
        GuestMount::Bind(Bind {
            owners: Owners::Kept,
            source: source.into(),
            destination: destination.into(),
            reach,
            attributes: Attributes::default(),
            propagation: propagation(PropagationKind::Private, Reach::Recursive),
        })
    };
    let expected = [
        bind("/srv", "/data", Reach::Recursive),
        bind("/bundle/files/one", "/one", Reach::Single),
        bind("/other", "/other", Reach::Single),
    ];
    assert_eq!(plan.mounts, expected);
    assert_eq!(
        refusal(json!({"mounts": [{"destination": "/a", "type": "bind"}]})).0,
        "mounts[0].source"
    );
}

#[test]
fn destination_never_leads_above_the_root() {
    for (says, means) in [
        ("/a/./b", "/a/b"),
        ("/../../etc", "/etc"),
        ("/a/../b", "/b"),
        ("a", "/a"),
        ("/dev/shm", "/dev/shm"),
    ] {
        let plan =
            plan(json!({"mounts": [{"destination": says, "type": "bind", "source": "/srv"}]}));
        assert_eq!(plan.mounts[0].destination(), Path::new(means), "{says}");
    }
    for says in ["/", "/..", "/a/.."] {
        let (field, _) =
            refusal(json!({"mounts": [{"destination": says, "type": "bind", "source": "/srv"}]}));
        assert_eq!(field, "mounts[0].destination", "{says}");
    }
}

#[test]
fn options_restrict_a_mount_and_opposites_undo_them() {
    let top = |options: &[&str]| {
        let attributes = bind_with(options).attributes;
        assert!(attributes.tree.is_empty());
        attributes.top
    };
    assert_eq!(
        top(&["ro", "nosuid", "nodev", "noexec"]),
        change(RDONLY | NOSUID | NODEV | NOEXEC, 0)
    );
    assert_eq!(
        top(&["nodiratime", "nosymfollow"]),
        change(
            libc::MOUNT_ATTR_NODIRATIME | libc::MOUNT_ATTR_NOSYMFOLLOW,
            0
        )
    );
    assert_eq!(top(&["ro", "nosuid", "rw", "suid"]), change(0, 0));
    assert_eq!(top(&["rw", "ro"]), change(RDONLY, 0));
    assert_eq!(
        top(&["rw", "exec", "dev", "suid"]),
        change(0, 0),
        "a source that is read-only on the node stays so"
    );
}

#[test]
fn options_with_an_r_apply_to_all_mounts_below() {
    let attributes = bind_with(&["rbind", "rro", "rnosuid", "noexec"]).attributes;
    assert_eq!(
        attributes,
        Attributes {
            top: change(NOEXEC, 0),
            tree: change(RDONLY | NOSUID, 0)
        }
    );
    assert!(bind_with(&["rro", "rrw"]).attributes.tree.is_empty());
    assert_eq!(
        bind_with(&["rnoatime"]).attributes.tree,
        change(NOATIME, ATIME)
    );
}

#[test]
fn modes_of_access_times_replace_one_another() {
    let top = |options: &[&str]| bind_with(options).attributes.top;
    assert_eq!(top(&["noatime"]), change(NOATIME, ATIME));
    assert_eq!(
        top(&["noatime", "strictatime"]),
        change(libc::MOUNT_ATTR_STRICTATIME, ATIME)
    );
    assert_eq!(
        top(&["strictatime", "relatime"]),
        change(libc::MOUNT_ATTR_RELATIME, ATIME)
    );
    assert_eq!(top(&["noatime", "atime"]), change(0, 0));
    assert_eq!(
        top(&["noatime", "norelatime"]),
        change(NOATIME, ATIME),
        "another mode is not taken back"
    );
}

#[test]
fn mount_is_private_by_default() {
    let of = |options: &[&str]| bind_with(options).propagation;
    assert_eq!(
        of(&["rbind", "ro"]),
        propagation(PropagationKind::Private, Reach::Recursive)
    );
    assert_eq!(
        of(&["rbind", "rslave"]),
        propagation(PropagationKind::Slave, Reach::Recursive)
    );
    assert_eq!(
        of(&["rbind", "rshared"]),
        propagation(PropagationKind::Shared, Reach::Recursive)
    );
    assert_eq!(
        of(&["bind", "slave"]),
        propagation(PropagationKind::Slave, Reach::Single)
    );
    assert_eq!(
        of(&["bind", "unbindable"]),
        propagation(PropagationKind::Unbindable, Reach::Single)
    );
}

#[test]
fn options_without_effect_change_nothing() {
    assert_eq!(
        bind_with(&["defaults", "async", "silent", "nomand"]),
        bind_with(&[])
    );
}

#[test]
fn tmpfs_has_its_parameters() {
    let plan = plan(json!({"mounts": [
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid",
        "noexec", "rnodev", "mode=1777", "size=65536k", "noswap"]},
    ]}));
    let option = |key: &str, value: Option<&str>| TmpfsOption {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let expected = Tmpfs {
        destination: "/dev/shm".into(),
        options: vec![
            option("mode", Some("1777")),
            option("size", Some("65536k")),
            option("noswap", None),
        ],
        attributes: change(NOSUID | NOEXEC | NODEV, 0),
        propagation: propagation(PropagationKind::Private, Reach::Recursive),
    };
    assert_eq!(plan.mounts, [GuestMount::Tmpfs(expected)]);
}

#[test]
fn default_mounts_that_a_guest_cannot_use_are_left_out() {
    let plan = plan(json!({"mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec",
        "nodev"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup/", "type": "cgroup2", "source": "cgroup",
        "options": ["ro"]},
    ]}));
    assert_eq!(plan.mounts, []);
}

#[test]
fn linux_programs_have_the_specs_proc_with_its_masked_paths() {
    assert_eq!(plan(json!({})).proc, None);
    let plan = plan(json!({
        "mounts": [{"destination": "/proc/", "type": "proc", "source": "proc"}],
        "linux": {"maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/sys",
        "/etc"]},
    }));
    assert_eq!(
        plan.proc,
        Some(Proc {
            masked: vec!["/proc/kcore".into()],
            readonly: vec!["/proc/sys".into()]
        })
    );
}

#[test]
fn tmpfs_at_dev_sets_the_parameters_of_the_containers_dev() {
    assert_eq!(plan(json!({})).devices.options, []);
    let plan = plan(json!({"mounts": [
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid",
        "strictatime", "mode=755", "size=65536k"]},
    ]}));
    assert_eq!(plan.mounts, []);
    let options: Vec<_> = plan
        .devices
        .options
        .iter()
        .map(|option| (option.key.as_str(), option.value.as_deref()))
        .collect();
    assert_eq!(options, [("mode", Some("755")), ("size", Some("65536k"))]);
}

#[test]
fn labels_need_a_kernel_with_selinux() {
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let says = json!({
        "linux": {"mountLabel": label},
        "mounts": [
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/run", "type": "tmpfs"},
            {"destination": "/data", "type": "bind", "source": "/srv"},
        ],
    });
    let labelled = plan(says.clone());
    let context = TmpfsOption {
        key: "context".to_owned(),
        value: Some(label.to_owned()),
    };
    assert_eq!(labelled.devices.options, std::slice::from_ref(&context));
    match labelled.mounts.as_slice() {
        [GuestMount::Tmpfs(run), GuestMount::Bind(_)] => assert_eq!(run.options, [context]),
        other => panic!("{other:?}"),
    }
    assert_eq!(plan_on(PLAIN, says).unwrap_err().field, "linux.mountLabel");

    let says = json!({"process": {"selinuxLabel": "system_u:system_r:container_t:s0"}});
    assert_eq!(
        plan(says.clone()).process.selinux.as_deref(),
        Some("system_u:system_r:container_t:s0")
    );
    assert_eq!(
        plan_on(PLAIN, says).unwrap_err().field,
        "process.selinuxLabel"
    );
    assert_eq!(
        plan(json!({"process": {"selinuxLabel": ""}}))
            .process
            .selinux,
        None
    );
}

/// Generates lists of options, valid or not.
fn words() -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    proptest::collection::vec(
        "r?(ro|rw|nosuid|suid|nodev|dev|noexec|exec|noatime|atime|relatime|strictatime|bind|private|shared|slave)",
        0..8,
    )
}

proptest::proptest! {
    #[test]
    fn any_destination_is_a_plain_path_below_the_root(says in "[./a-c]{0,12}") {
        let inside = super::super::mounts::within(Path::new(&says));
        assert!(inside.starts_with("/"));
        assert!(inside.components().skip(1).all(|part| matches!(part,
            std::path::Component::Normal(_))), "{inside:?}");
    }

    #[test]
    fn mount_is_never_loosened(words in words()) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let says = json!({"mounts": [{"destination": "/data", "type": "bind", "source": "/srv",
            "options": words}]});
        if let Ok(plan) = plan_on(PLAIN, says) {
            for mount in plan.mounts {
                let GuestMount::Bind(Bind { attributes, .. }) = mount else { panic!("{mount:?}") };
                for change in [attributes.top, attributes.tree] {
                    assert!(change.clear == 0 || change.clear == ATIME, "{change:?}");
                    assert!(change.set & ATIME == 0 || change.clear == ATIME, "a mode replaces the \
                                                            one before: {change:?}");
                }
            }
        }
    }
}
