//! The parts of the Sandbox service that need no pod.

use runtime_options::CgroupDriver;
use serde_json::{Value, json};
use shim_protocol::options::Given;

use super::*;

#[test]
fn pod_is_read_from_the_message_of_cri_alone() {
    let any = |type_url: &str, value: Vec<u8>| Any {
        type_url: type_url.to_owned(),
        value,
        ..Default::default()
    };
    let message = Message::default().text(2, "web-0").into_bytes();
    for type_url in [
        "runtime.v1.PodSandboxConfig",
        "type.googleapis.com/runtime.v1.PodSandboxConfig",
    ] {
        assert_eq!(
            pod_config(Some(&any(type_url, message.clone())))
                .unwrap()
                .hostname,
            "web-0"
        );
    }
    assert!(matches!(
        pod_config(None),
        Err(TaskError::Unsupported { .. })
    ));
    assert!(matches!(
        pod_config(Some(&any("runtime.v1.Other", message))),
        Err(TaskError::Unsupported { .. })
    ));
    assert!(matches!(
        pod_config(Some(&any(POD_SANDBOX_CONFIG, vec![0xff]))),
        Err(TaskError::PodConfig { .. })
    ));
}

#[test]
fn cgroup_driver_is_derived_from_the_pods_cgroup() {
    for (cgroup_parent, driver) in [
        ("/kubepods/pod1", CgroupDriver::Cgroupfs),
        ("/kubepods.slice/kubepods-pod1.slice", CgroupDriver::Systemd),
        ("", CgroupDriver::Cgroupfs),
    ] {
        let any = options(
            &PodConfig {
                cgroup_parent: cgroup_parent.to_owned(),
                ..PodConfig::default()
            },
            None,
        );
        assert_eq!(
            Given::decode(&any.type_url, &any.value)
                .unwrap()
                .with_file(None)
                .unwrap()
                .cgroup_driver,
            driver,
            "{cgroup_parent}"
        );
    }
}

#[test]
fn sandbox_counts_against_the_limit_of_its_host() {
    for limit in [None, NonZeroU32::new(7)] {
        let any = options(&PodConfig::default(), limit);
        assert_eq!(
            Given::decode(&any.type_url, &any.value)
                .unwrap()
                .with_file(None)
                .unwrap()
                .handler
                .max_containers,
            limit
        );
    }
}

#[test]
fn returned_spec_has_the_paths_of_the_namespaces() {
    let mut spec = PodConfig::default().spec("s1", "/run/netns/a");
    name_namespaces(&mut spec, 7);
    let spec: Value = serde_json::to_value(spec).unwrap();
    let expected = json!([
        {"type": "mount"},
        {"type": "network", "path": "/proc/7/ns/net"},
        {"type": "uts", "path": "/proc/7/ns/uts"},
        {"type": "ipc", "path": "/proc/7/ns/ipc"},
        {"type": "pid"},
    ]);
    assert_eq!(spec["linux"]["namespaces"], expected);
}

#[test]
fn platform_is_named_as_images_name_it() {
    let platform = own_platform();
    assert_eq!(platform.os, "linux");
    assert!(
        !["x86_64", "aarch64"].contains(&platform.architecture.as_str()),
        "{}",
        platform.architecture
    );
}
