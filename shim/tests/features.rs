//! The features that the launcher reports are those that the host supports.

use std::path::Path;

use guest_sandbox::plan::{KernelFeatures, Plan};
use guest_sandbox::seccomp::FilterCache;
use oci_spec::runtime::Spec;
use shim_protocol::features::MOUNT_OPTIONS;

/// libcontainer's part: `recursively_read_only_volume_is_read_only_below_its_mounts` of the node
/// class.
#[test]
fn features_list_the_mount_options_that_a_guest_can_have() {
    let filters = FilterCache::new().unwrap();
    let plan = |option: &str| {
        let mount = serde_json::json!({"destination": "/data", "type": "bind", "source": "/",
            "options": ["bind", option]});
        let spec = serde_json::json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/"},
            "mounts": [mount],
        });
        let spec: Spec = serde_json::from_value(spec).unwrap();
        Plan::of(
            &spec,
            Path::new("/bundle"),
            KernelFeatures::read(),
            &filters,
        )
        .map(drop)
    };
    for option in MOUNT_OPTIONS {
        plan(option).unwrap();
    }
    plan("sync").unwrap_err();
    assert!(MOUNT_OPTIONS.is_sorted());
}
