//! Records in temporary folders.

use std::os::unix::fs::symlink;

use super::*;

fn record() -> Record {
    Record {
        namespace: "k8s.io".to_owned(),
        id: "c1".to_owned(),
        host: PathBuf::from("/run/containerd/s/x-1"),
        cgroups: vec![PathBuf::from("/sys/fs/cgroup/memory/kubepods/c1")],
        mounts: vec![PathBuf::from("/run/containerd/x/rootfs")],
        native: None,
    }
}

fn records() -> (tempfile::TempDir, Records) {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::at(folder.path().join("records"), "/c.sock");
    (folder, records)
}

#[test]
fn last_written_record_is_read_until_it_is_removed() {
    let (_folder, records) = records();
    assert_eq!(records.read("k8s.io", "c1").unwrap(), None);
    records.write(&record()).unwrap();
    let changed = Record {
        native: Some(PathBuf::from("/run/x")),
        ..record()
    };
    records.write(&changed).unwrap();
    assert_eq!(records.read("k8s.io", "c1").unwrap(), Some(changed));
    std::fs::write(
        records.folder("k8s.io", "c1").unwrap().join("state.json"),
        "of another",
    )
    .unwrap();
    records.remove("k8s.io", "c1").unwrap();
    assert_eq!(records.read("k8s.io", "c1").unwrap(), None);
    records.remove("k8s.io", "c1").unwrap();
    assert!(!records.folder("k8s.io", "c1").unwrap().exists());
}

#[test]
fn name_that_leads_to_another_folder_is_refused() {
    let (_folder, records) = records();
    for (namespace, id) in [
        ("..", "c1"),
        ("k8s.io", ".."),
        ("k8s.io", "a/b"),
        ("", "c1"),
        ("k8s.io", ""),
        (".", "c1"),
        ("a\0", "c1"),
        ("k8s.io", "../../x"),
    ] {
        assert!(
            matches!(
                records.remove(namespace, id),
                Err(RecordError::Identifier(_))
            ),
            "{namespace:?} {id:?}"
        );
        records
            .write(&Record {
                namespace: namespace.to_owned(),
                id: id.to_owned(),
                ..record()
            })
            .unwrap_err();
    }
}

#[test]
fn malformed_record_is_named_in_the_error() {
    let (_folder, records) = records();
    records.write(&record()).unwrap();
    let file = records.folder("k8s.io", "c1").unwrap().join("record.json");
    std::fs::write(&file, "{\"id\":\"c1\"}").unwrap();
    let error = records.read("k8s.io", "c1").unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
}

#[test]
fn failed_write_names_the_file_and_keeps_the_earlier_record() {
    let (_folder, records) = records();
    records.write(&record()).unwrap();
    // Writing there fails as on a full disk, without one.
    let folder = records.folder("k8s.io", "c1").unwrap();
    symlink("/dev/full", folder.join("record.new")).unwrap();
    let error = records
        .write(&Record {
            native: Some(PathBuf::from("/x")),
            ..record()
        })
        .unwrap_err();
    assert!(
        matches!(&error,
            RecordError::File(error) if error.kind() == std::io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert!(error.to_string().contains("record.new"), "{error}");
    assert_eq!(records.read("k8s.io", "c1").unwrap(), Some(record()));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn only_root_can_read_records() {
    let (_folder, records) = records();
    let folder = records.folder("k8s.io", "c1").unwrap();
    let all = |folder: &Path| {
        folder
            .ancestors()
            .take(4)
            .map(Path::to_owned)
            .collect::<Vec<_>>()
    };
    let modes = || {
        all(&folder)
            .iter()
            .map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777)
            .collect::<Vec<_>>()
    };
    records.write(&record()).unwrap();
    assert_eq!(modes(), [0o700; 4]);
    // As a former build left them.
    for path in all(&folder) {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    records.write(&record()).unwrap();
    assert_eq!(modes(), [0o700; 4]);
}

#[test]
fn containers_of_two_containerds_have_separate_records() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [
        "/run/containerd/containerd.sock",
        "/run/k3s/containerd/containerd.sock",
    ]
    .map(|address| Records::at(folder.path(), address));
    one.write(&record()).unwrap();
    assert_eq!(other.read("k8s.io", "c1").unwrap(), None);
    let others = Record {
        host: PathBuf::from("/run/containerd/s/y-1"),
        ..record()
    };
    other.write(&others).unwrap();
    one.remove("k8s.io", "c1").unwrap();
    assert_eq!(other.read("k8s.io", "c1").unwrap(), Some(others));
}
