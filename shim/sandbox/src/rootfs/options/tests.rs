//! Classification of a mount's options: flags of the mount, or parameters of the file system.

use super::*;

fn of(fs_type: &str, options: &[&str]) -> Result<PreparedMount, Failure> {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    PreparedMount::of(
        &Mount {
            fs_type: fs_type.to_owned(),
            source: "source".to_owned(),
            target: String::new(),
            options,
        },
        None,
    )
}

fn new(fs_type: &str, options: &[&str]) -> (MountFlags, String) {
    match of(fs_type, options).unwrap().how {
        How::New { flags, data, .. } => (flags, data.into_string().unwrap()),
        how => panic!("it is {how:?}"),
    }
}

fn bind(fs_type: &str, options: &[&str]) -> (Reach, AttributeChange) {
    match of(fs_type, options).unwrap().how {
        How::Bind {
            reach,
            attributes,
            owners: _,
        } => (reach, attributes),
        how => panic!("it is {how:?}"),
    }
}

#[test]
fn options_of_mount_become_flags_and_others_parameters_of_the_file_system() {
    assert_eq!(
        new("ext4", &["ro", "nosuid", "errors=continue", "noload"]),
        (
            MountFlags::RDONLY | MountFlags::NOSUID,
            "errors=continue,noload".to_owned()
        )
    );
    assert_eq!(
        new("ext4", &["ro", "rw", "defaults"]),
        (MountFlags::empty(), String::new())
    );
}

#[test]
fn bind_mount_is_recognized_by_type_or_option() {
    assert_eq!(bind("bind", &[]).0, Reach::Single);
    assert_eq!(bind("bind", &["rbind"]).0, Reach::Recursive);
    assert_eq!(bind("", &["rbind", "rw"]).0, Reach::Recursive);
    assert_eq!(bind("none", &["bind"]).0, Reach::Single);
}

#[test]
fn options_of_a_bind_mount_change_attributes_and_the_last_one_wins() {
    assert_eq!(
        bind("bind", &["ro", "nodev"]).1,
        AttributeChange {
            set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
            clear: 0
        }
    );
    assert_eq!(
        bind("bind", &["ro", "rw"]).1,
        AttributeChange {
            set: 0,
            clear: libc::MOUNT_ATTR_RDONLY
        }
    );
    assert_eq!(
        bind("bind", &["rw", "ro"]).1,
        AttributeChange {
            set: libc::MOUNT_ATTR_RDONLY,
            clear: 0
        }
    );
    let noatime = AttributeChange {
        set: libc::MOUNT_ATTR_NOATIME,
        clear: libc::MOUNT_ATTR__ATIME,
    };
    assert_eq!(bind("bind", &["strictatime", "noatime"]).1, noatime);
}

#[test]
fn unsupported_option_is_refused_by_name() {
    for (fs_type, options, named) in [
        ("erofs", vec!["loop"], "loop"),
        ("ext4", vec!["remount"], "no mount to change"),
        ("bind", vec!["size=1m"], "size=1m"),
        ("ext4", vec![&*"x".repeat(overlay::MAX_DATA + 1)], "longer"),
    ] {
        let error = of(fs_type, &options).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(error.contains("source"), "{error}");
    }
}

#[test]
fn overlay_is_made_by_fsconfig_if_that_takes_its_parameters() {
    let detached = |options: &[&str]| match of("overlay", options).unwrap().how {
        How::Overlay {
            parameters,
            attributes,
        } => Some((parameters, attributes)),
        _ => None,
    };
    let usual = [
        "index=off",
        "userxattr",
        "workdir=/s/3/work",
        "upperdir=/s/3/fs",
        "lowerdir=/s/2/fs:/s/1/fs",
    ];
    assert_eq!(
        detached(&usual).unwrap(),
        (usual.map(str::to_owned).to_vec(), 0)
    );
    let read_only = detached(&["ro", "nodev", "lowerdir=/s/2/fs:/s/1/fs"]).unwrap();
    assert_eq!(
        read_only,
        (
            vec!["lowerdir=/s/2/fs:/s/1/fs".to_owned()],
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV
        )
    );
    let long = format!("lowerdir=/{}", "x".repeat(MAX_VALUE - 1));
    assert!(detached(&[&long]).is_some());
    for odd in [&*format!("{long}x"), "upperdir=/a\\,b", "dirsync"] {
        assert!(detached(&[odd, "index=off"]).is_none(), "{odd}");
    }
}

fn mapped(
    fs_type: &str,
    options: &[&str],
    users: Option<&UserNamespace>,
) -> Result<PreparedMount, Failure> {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    PreparedMount::of(
        &Mount {
            fs_type: fs_type.to_owned(),
            source: "source".to_owned(),
            target: String::new(),
            options,
        },
        users,
    )
}

#[test]
fn files_are_mapped_to_users_of_the_container_if_containerd_requests_it() {
    let range = |outside| {
        vec![crate::plan::IdRange {
            inside: 0,
            outside,
            size: 9,
        }]
    };
    let users = UserNamespace {
        path: "/users".into(),
        uids: range(70),
        gids: range(80),
    };
    let says = ["uidmap=0:70:9", "gidmap=0:80:9"];
    let overlay = mapped(
        "overlay",
        &[&["lowerdir=/s/2/fs:/s/1/fs", "upperdir=/s/3/fs"][..], &says].concat(),
        Some(&users),
    )
    .unwrap();
    assert_eq!(overlay.start, Some(Start::Mapped("/s".into())));
    let How::New { data, .. } = overlay.how else {
        panic!("it is not a bind mount")
    };
    assert_eq!(
        data.to_str().unwrap(),
        "lowerdir=2/fs:1/fs,upperdir=/s/3/fs"
    );
    let bind = mapped(
        "bind",
        &[&["rbind", "ro"][..], &says].concat(),
        Some(&users),
    )
    .unwrap();
    assert!(
        matches!(
            bind.how,
            How::Bind {
                owners: Owners::Mapped,
                ..
            }
        ),
        "{bind:?}"
    );

    assert!(
        mapped("bind", &says, None).is_err(),
        "there is no user namespace"
    );
    assert!(
        mapped("bind", &says[..1], Some(&users)).is_err(),
        "the mapping of groups is missing"
    );
    assert!(
        mapped("bind", &["uidmap=0:71:9", says[1]], Some(&users)).is_err(),
        "the mappings differ"
    );
    assert!(
        mapped("ext4", &says, Some(&users)).is_err(),
        "files of this file system cannot be mapped"
    );
    assert!(
        mapped(
            "overlay",
            &[&["lowerdir=a:b"][..], &says].concat(),
            Some(&users)
        )
        .is_err(),
        "its layers have no common folder"
    );
}
