//! Tests of sandbox containers' specs as containerd's CRI plugin writes them.

use serde_json::{Value, json};

use super::*;

fn of(hostname: &str, namespaces: &Value, sysctl: &Value) -> Result<NewPod, PodError> {
    let spec = json!({"ociVersion": "1.2.0", "hostname": hostname,
        "linux": {"namespaces": namespaces, "sysctl": sysctl}});
    NewPod::from_spec("0123456789abcdef", &serde_json::from_value(spec).unwrap())
}

fn refusal(hostname: &str, namespaces: &Value, sysctl: &Value) -> String {
    of(hostname, namespaces, sysctl).unwrap_err().to_string()
}

#[test]
fn ordinary_pod_joins_its_network_and_owns_the_rest() {
    let namespaces = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        {"type": "cgroup"}, {"type": "network", "path": "/run/netns/a"}]);
    let pod = of(
        "web-0",
        &namespaces,
        &json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmax": "1"}),
    )
    .unwrap();
    assert_eq!(pod.name, "pod-0123456789a");
    assert_eq!(pod.network, Network::Join("/run/netns/a".into()));
    assert_eq!(pod.ipc, Ipc::Own);
    assert_eq!(
        pod.uts,
        Uts::Own {
            hostname: Some("web-0".to_owned()),
            domainname: None
        }
    );
    let files: Vec<_> = pod
        .sysctls
        .iter()
        .map(|sysctl| sysctl.file.to_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "/proc/sys/kernel/shmmax",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start"
        ]
    );
}

#[test]
fn pod_with_the_nodes_network_has_the_nodes_names_too() {
    let pod = of(
        "",
        &json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]),
        &json!({"kernel.sem": "1 2 3 4"}),
    )
    .unwrap();
    assert_eq!(
        (pod.network, pod.ipc, pod.uts),
        (Network::Node, Ipc::Own, Uts::Node)
    );
}

#[test]
fn pod_can_use_the_nodes_ipc() {
    let pod = of(
        "x",
        &json!([{"type": "uts"}, {"type": "network", "path": "/n"}]),
        &json!({}),
    )
    .unwrap();
    assert_eq!(pod.ipc, Ipc::Node);
}

#[test]
fn network_without_path_is_a_new_one() {
    let pod = of(
        "",
        &json!([{"type": "network"}]),
        &json!({"net.ipv4.ip_forward": "1"}),
    )
    .unwrap();
    assert_eq!(pod.network, Network::Own);
}

#[test]
fn user_namespace_with_path_is_joined() {
    let pod = of(
        "",
        &json!([{"type": "user", "path": "/pinned/user"}, {"type": "ipc"}]),
        &json!({}),
    )
    .unwrap();
    assert_eq!(
        (pod.users(), pod.ipc),
        (&Users::Join("/pinned/user".into()), Ipc::Own)
    );
    assert_eq!(
        of("", &json!([{"type": "ipc"}]), &json!({}))
            .unwrap()
            .users(),
        &Users::Node
    );
}

#[test]
fn user_namespace_without_path_is_refused_as_hostusers() {
    assert!(refusal("", &json!([{"type": "user"}]), &json!({})).contains("hostUsers: false"));
}

#[test]
fn unsupported_namespaces_are_refused_by_name() {
    assert!(refusal("", &json!([{"type": "time"}]), &json!({})).contains("a time namespace"));
    assert!(
        refusal("", &json!([{"type": "ipc", "path": "/i"}]), &json!({}))
            .contains("ipc namespace /i")
    );
    assert!(
        refusal("", &json!([{"type": "uts", "path": "/u"}]), &json!({}))
            .contains("uts namespace /u")
    );
}

#[test]
fn spec_without_linux_section_is_refused() {
    let spec = serde_json::from_value(json!({"ociVersion": "1.2.0"})).unwrap();
    assert!(matches!(
        NewPod::from_spec("a", &spec),
        Err(PodError::NotLinux)
    ));
}

#[test]
fn host_name_for_a_pod_with_the_nodes_names_is_refused() {
    assert!(refusal("mine", &json!([]), &json!({})).contains("sets hostname to \"mine\""));
}

#[test]
fn sysctl_of_a_node_namespace_is_refused_by_name() {
    for (name, why) in [
        ("net.ipv4.ip_forward", "hostNetwork"),
        ("kernel.shmmax", "hostIPC"),
        ("kernel.domainname", "host name"),
        ("vm.swappiness", "whole node"),
    ] {
        let text = refusal("", &json!([]), &json!({name: "1"}));
        assert!(text.contains(name) && text.contains(why), "{text}");
    }
}

#[test]
fn thread_name_fits_and_is_cut_between_characters() {
    assert_eq!(thread_name("short"), "pod-short");
    assert_eq!(thread_name("0123456789öö"), "pod-0123456789");
    assert_eq!(thread_name("a\0b"), "pod-ab");
}
