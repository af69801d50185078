//! The plans for fields of the spec. `plan/rows.rs` names these tests.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;

mod mounts;
mod namespaces;
mod process;
mod table;
mod users;

const HARDENED: KernelFeatures = KernelFeatures {
    apparmor: Support::Present,
    selinux: Support::Present,
    seccomp: Support::Present,
};
const PLAIN: KernelFeatures = KernelFeatures {
    apparmor: Support::Absent,
    selinux: Support::Absent,
    seccomp: Support::Present,
};

static FILTERS: LazyLock<FilterCache> = LazyLock::new(|| FilterCache::new().unwrap());

/// Returns a minimal spec.
fn least() -> Value {
    json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"user": {"uid": 0,
        "gid": 0}, "cwd": "/"}})
}

/// Merges `over` into `value`: objects are merged, everything else is replaced (RFC 7396).
fn merge(value: &mut Value, over: Value) {
    match over {
        Value::Object(fields) => {
            if !value.is_object() {
                *value = json!({});
            }
            for (name, field) in fields {
                merge(&mut value[name], field);
            }
        }
        over => *value = over,
    }
}

fn spec(says: Value) -> Spec {
    let mut whole = least();
    merge(&mut whole, says);
    serde_json::from_value(whole).unwrap()
}

fn plan_on(kernel_features: KernelFeatures, says: Value) -> Result<Plan, Refused> {
    Plan::of(&spec(says), Path::new("/bundle"), kernel_features, &FILTERS)
}

fn plan(says: Value) -> Plan {
    plan_on(HARDENED, says).unwrap()
}

/// Returns the refused field, and the message.
fn refusal(says: Value) -> (String, String) {
    let refused = plan_on(HARDENED, says).unwrap_err();
    (refused.field.clone(), refused.to_string())
}

#[test]
fn fields_that_the_host_handles_change_nothing_in_the_plan() {
    let without = plan(json!({}));
    let with = plan(json!({
        "ociVersion": "1.0.2",
        "annotations": {"io.kubernetes.cri.container-type": "container"},
        "root": {"path": "/elsewhere"},
        "process": {
            "args": ["/app.wasm"], "env": ["A=b"], "cwd": "/work", "terminal": true,
            "consoleSize": {"height": 24, "width": 80}
        },
        "linux": {
            "cgroupsPath": "/kubepods/x", "resources": {"memory": {"limit": 1_048_576},
            "devices": [{"allow": false}]},
            "personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_DEFAULT"},
        },
    }));
    assert_eq!(with, without);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let mut told = profile.clone();
    told["listenerMetadata"] = json!("for a listener");
    assert_eq!(
        plan(json!({"linux": {"seccomp": told}})),
        plan(json!({"linux": {"seccomp": profile}}))
    );
}

#[test]
fn plan_survives_serialization_unchanged() {
    let plan = plan(json!({
        "linux": {"namespaces": [{"type": "network", "path": "/run/netns/a"}],
        "seccomp": {"defaultAction": "SCMP_ACT_LOG"}},
        "mounts": [{"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind",
        "rro", "noatime"]}],
    }));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn container_without_a_process_is_refused() {
    let spec =
        serde_json::from_value(json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}})).unwrap();
    assert_eq!(
        Plan::of(&spec, Path::new("/bundle"), PLAIN, &FILTERS)
            .unwrap_err()
            .field,
        "process"
    );
}

#[test]
fn masked_and_read_only_paths_are_those_of_the_spec() {
    let plan = plan(
        json!({"linux": {"maskedPaths": ["/proc/kcore", "/srv/../secret"],
            "readonlyPaths": ["/proc/sys"]}}),
    );
    assert_eq!(
        plan.masked,
        [PathBuf::from("/proc/kcore"), PathBuf::from("/secret")]
    );
    assert_eq!(plan.readonly, [PathBuf::from("/proc/sys")]);
}

#[test]
fn default_devices_exist_and_the_specs_replace_them() {
    let names = |plan: &Plan| {
        plan.devices
            .nodes
            .iter()
            .map(|node| node.path.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&plan(json!({}))),
        ["null", "zero", "full", "random", "urandom", "tty"]
    );
    let links = plan(json!({})).devices.links;
    assert_eq!(links.len(), 4);
    assert!(links.contains(&(PathBuf::from("stdout"), PathBuf::from("/proc/self/fd/1"))));

    let plan = plan(json!({"linux": {"devices": [
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600,
        "uid": 7, "gid": 8},
        {"path": "/dev/tty", "type": "u", "major": 5, "minor": 1},
        {"path": "/dev/disk", "type": "b", "major": 8, "minor": 0},
        {"path": "/dev/queue", "type": "p", "major": 0, "minor": 0},
        {"path": "/dev/stdin", "type": "c", "major": 1, "minor": 3},
    ]}}));
    assert_eq!(
        names(&plan),
        [
            "null", "zero", "full", "random", "urandom", "net/tun", "tty", "disk", "queue", "stdin"
        ]
    );
    let node = |name: &str| {
        plan.devices
            .nodes
            .iter()
            .find(|node| node.path == Path::new(name))
            .unwrap()
    };
    let tun = Device {
        path: "net/tun".into(),
        kind: DeviceKind::Char {
            major: 10,
            minor: 200,
        },
        mode: 0o600,
        uid: 7,
        gid: 8,
    };
    assert_eq!(*node("net/tun"), tun);
    assert_eq!(
        (node("tty").kind, node("tty").mode),
        (DeviceKind::Char { major: 5, minor: 1 }, 0o666)
    );
    assert_eq!(node("disk").kind, DeviceKind::Block { major: 8, minor: 0 });
    assert_eq!(node("queue").kind, DeviceKind::Fifo);
    assert!(
        plan.devices
            .links
            .iter()
            .all(|(name, _)| name != Path::new("stdin")),
        "a node of the spec goes before a link"
    );
}

#[test]
fn devices_outside_dev_are_refused() {
    for (path, kind) in [
        ("/etc/disk", "b"),
        ("/dev", "c"),
        ("/dev/../etc/disk", "b"),
        ("dev/disk", "b"),
        ("/dev/all", "a"),
    ] {
        let (field, message) = refusal(
            json!({"linux": {"devices": [{"path": path, "type": kind, "major": 8, "minor": 0}]}}),
        );
        assert_eq!(field, "linux.devices[0]");
        assert!(message.contains(path), "{message}");
    }
    let (field, _) = refusal(
        json!({"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]}}),
    );
    assert_eq!(field, "linux.devices[0]");
}
