//! Sandbox containers' specs, as containerd's CRI plugin writes them, and what becomes of each.

use serde_json::{Value, json};

use super::*;

fn of(hostname: &str, namespaces: &Value, sysctl: &Value) -> Result<NewPod, PodError> {
    let spec = json!({"ociVersion": "1.2.0", "hostname": hostname,
        "linux": {"namespaces": namespaces, "sysctl": sysctl}});
    NewPod::of("0123456789abcdef", &serde_json::from_value(spec).unwrap())
}

fn refusal(hostname: &str, namespaces: &Value, sysctl: &Value) -> String {
    of(hostname, namespaces, sysctl).unwrap_err().to_string()
}

#[test]
fn an_ordinary_pod_joins_its_network_and_owns_the_rest() {
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
fn a_pod_of_the_nodes_network_has_the_nodes_names_too() {
    let pod = of(
        "",
        &json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]),
        &json!({"kernel.sem": "1 2 3 4"}),
    )
    .unwrap();
    assert_eq!(
        (pod.network, pod.ipc, pod.uts),
        (Network::Host, Ipc::Own, Uts::Host)
    );
}

#[test]
fn a_pod_may_use_the_nodes_ipc() {
    let pod = of(
        "x",
        &json!([{"type": "uts"}, {"type": "network", "path": "/n"}]),
        &json!({}),
    )
    .unwrap();
    assert_eq!(pod.ipc, Ipc::Host);
}

#[test]
fn a_network_that_nobody_made_is_a_new_one() {
    let pod = of(
        "",
        &json!([{"type": "network"}]),
        &json!({"net.ipv4.ip_forward": "1"}),
    )
    .unwrap();
    assert_eq!(pod.network, Network::Own);
}

#[test]
fn a_user_namespace_is_joined() {
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
fn a_user_namespace_that_is_not_there_is_refused_by_the_name_that_users_know() {
    assert!(refusal("", &json!([{"type": "user"}]), &json!({})).contains("hostUsers: false"));
}

#[test]
fn other_namespaces_than_a_pods_are_refused_by_name() {
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
fn a_spec_without_namespaces_for_linux_is_refused() {
    let spec = serde_json::from_value(json!({"ociVersion": "1.2.0"})).unwrap();
    assert!(matches!(NewPod::of("a", &spec), Err(PodError::NotLinux)));
}

#[test]
fn the_nodes_names_are_not_changed() {
    assert!(refusal("mine", &json!([]), &json!({})).contains("sets hostname to \"mine\""));
}

#[test]
fn a_sysctl_of_a_namespace_that_is_the_nodes_is_refused_by_name() {
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
fn a_threads_name_fits_and_is_cut_between_letters() {
    assert_eq!(thread_name("short"), "pod-short");
    assert_eq!(thread_name("0123456789öö"), "pod-0123456789");
    assert_eq!(thread_name("a\0b"), "pod-ab");
}
