//! Tests with a pod's files in temporary folders. The mount needs root: `cargo xtask test` runs
//! such tests if it is root.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

fn spec(mounts: &serde_json::Value, read_only: bool) -> Spec {
    let spec = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs", "readonly": read_only},
        "mounts": mounts});
    serde_json::from_value(spec).unwrap()
}

fn mounts(spec: &Spec) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let pair = |mount: &Mount| {
        (
            text(mount.destination()),
            mount.source().as_deref().map(text).unwrap_or_default(),
        )
    };
    spec.mounts().iter().flatten().map(pair).collect()
}

#[test]
fn resolv_conf_has_the_c_librarys_form() {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let dns = Dns {
        servers: strings(&["10.0.0.1", "::1"]),
        searches: strings(&["a.b", "b"]),
        options: strings(&["ndots:5", "edns0"]),
    };
    assert_eq!(
        resolv_conf(&dns),
        "search a.b b\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:5 edns0\n"
    );
    assert_eq!(resolv_conf(&Dns::default()), "");
}

#[test]
#[ignore = "needs root"]
fn pod_files_are_created_mounted_into_containers_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let files = PodFiles::below(folder.path());
    let config = PodConfig {
        hostname: "web-0".to_owned(),
        dns: Some(Dns::default()),
        ..PodConfig::default()
    };
    files.make(&config).unwrap();
    let own = |name: &str| files.folder.join(name);
    assert_eq!(fs::read_to_string(own("hostname")).unwrap(), "web-0\n");
    assert_eq!(fs::read_to_string(own("resolv.conf")).unwrap(), "");
    assert_eq!(
        fs::read_to_string(own("hosts")).unwrap(),
        fs::read_to_string("/etc/hosts").unwrap()
    );
    assert_eq!(
        fs::metadata(own("shm")).unwrap().permissions().mode() & 0o7777,
        0o1777
    );

    let given = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
        {"destination": "/etc/hosts", "type": "bind", "source": "/kubelet/hosts"},
    ]);
    let mut container = spec(&given, true);
    assert_eq!(files.complete(&mut container).unwrap(), Completed::Changed);
    let pair = |destination: &str, source: &str| (destination.to_owned(), source.to_owned());
    let expected = [
        pair("/proc", "proc"),
        pair("/dev/shm", own("shm").to_str().unwrap()),
        pair("/etc/hosts", "/kubelet/hosts"),
        pair("/etc/hostname", own("hostname").to_str().unwrap()),
        pair("/etc/resolv.conf", own("resolv.conf").to_str().unwrap()),
    ];
    assert_eq!(mounts(&container), expected);
    let last = |index: usize| {
        container.mounts().as_ref().unwrap()[index]
            .options()
            .as_ref()
            .unwrap()
            .last()
            .unwrap()
            .clone()
    };
    assert_eq!((last(1).as_str(), last(4).as_str()), ("rw", "ro"));
    assert_eq!(
        files.complete(&mut container).unwrap(),
        Completed::Unchanged
    );

    files.remove().unwrap();
    assert!(!files.folder.exists());
    files.remove().unwrap();
}

#[test]
#[ignore = "needs root"]
fn users_memory_volume_at_dev_shm_stays() {
    let folder = tempfile::tempdir().unwrap();
    let files = PodFiles::below(folder.path());
    files.make(&PodConfig::default()).unwrap();
    let mut container = spec(
        &json!([{"destination": "/dev/shm", "type": "bind", "source": "/kubelet/memory"}]),
        false,
    );
    files.complete(&mut container).unwrap();
    assert_eq!(mounts(&container)[0].1, "/kubelet/memory");
    files.remove().unwrap();
}

#[test]
fn pod_with_the_nodes_ipc_has_the_nodes_shared_memory() {
    let folder = tempfile::tempdir().unwrap();
    let files = PodFiles::below(folder.path());
    files
        .make(&PodConfig {
            ipc: Scope::Node,
            ..PodConfig::default()
        })
        .unwrap();
    let mut container = spec(&json!([]), false);
    files.complete(&mut container).unwrap();
    assert!(mounts(&container).contains(&(SHM.to_owned(), SHM.to_owned())));
    assert_eq!(
        fs::read_to_string(files.folder.join("hostname")).unwrap(),
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
    );
    files.remove().unwrap();
    assert!(Path::new(SHM).exists());
}

#[test]
fn spec_with_containerds_files_is_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut container = spec(&json!([]), false);
    assert_eq!(
        PodFiles::below(folder.path())
            .complete(&mut container)
            .unwrap(),
        Completed::Unchanged
    );
    assert_eq!(mounts(&container), []);
}

#[test]
fn unwritable_file_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("files"), "in the way").unwrap();
    let error = PodFiles::below(folder.path())
        .make(&PodConfig::default())
        .unwrap_err();
    assert!(
        error.to_string().contains(folder.path().to_str().unwrap()),
        "{error}"
    );
}
