//! Tests of pods in CRI's form and their specs.

use serde_json::{Value as Json, json};
use shim_protocol::wire::Message;

use super::*;
use crate::{Ipc, Network, NewPod, PodError, Uts};

fn entry(name: &str, value: &str) -> Message {
    Message::default().text(1, name).text(2, value)
}

/// Encodes the pod `web-0` with these namespace options.
fn message(cgroup_parent: &str, options: &Message) -> Vec<u8> {
    let metadata = Message::default()
        .text(1, "web-0")
        .text(2, "uid-1")
        .text(3, "shop")
        .number(4, 1);
    let dns = Message::default()
        .text(1, "10.0.0.10")
        .text(2, "svc.local")
        .text(2, "local")
        .text(3, "ndots:5");
    let security = Message::default().message(1, options).number(4, 1);
    let linux = Message::default()
        .text(1, cgroup_parent)
        .message(2, &security)
        .message(3, &entry("net.core.somaxconn", "7"));
    let pod = Message::default()
        .message(1, &metadata)
        .text(2, "web-0")
        .text(3, "/var/log/pods")
        .message(4, &dns);
    pod.message(6, &entry("app", "web"))
        .message(7, &entry("a", "b"))
        .message(8, &linux)
        .into_bytes()
}

fn pod(cgroup_parent: &str, options: &Message) -> PodConfig {
    PodConfig::decode(&message(cgroup_parent, options)).unwrap()
}

fn spec(config: &PodConfig, netns: &str) -> Json {
    serde_json::to_value(config.spec("s1", netns)).unwrap()
}

#[test]
fn pod_sandbox_config_is_decoded() {
    let config = pod("/kubepods/pod1", &Message::default());
    let strings = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let expected = PodConfig {
        name: "web-0".to_owned(),
        namespace: "shop".to_owned(),
        uid: "uid-1".to_owned(),
        hostname: "web-0".to_owned(),
        dns: Some(Dns {
            servers: strings(&["10.0.0.10"]),
            searches: strings(&["svc.local", "local"]),
            options: strings(&["ndots:5"]),
        }),
        cgroup_parent: "/kubepods/pod1".to_owned(),
        sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), "7".to_owned())]),
        ..PodConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(PodConfig::decode(&[]).unwrap(), PodConfig::default());
}

#[test]
fn namespace_modes_are_decoded() {
    let config = pod(
        "",
        &Message::default().number(1, 2).number(2, 1).number(3, 2),
    );
    assert_eq!(
        (config.network, config.pid, config.ipc, config.own_users),
        (Scope::Node, Scope::Container, Scope::Node, false)
    );
    assert!(pod("", &Message::default().message(5, &Message::default())).own_users);
    assert!(
        !pod(
            "",
            &Message::default().message(5, &Message::default().number(1, 2))
        )
        .own_users
    );
}

#[test]
fn truncated_message_is_refused() {
    let whole = message("/p", &Message::default());
    PodConfig::decode(&whole[..whole.len() - 1]).unwrap_err();
}

#[test]
fn spec_of_an_ordinary_pod_matches_containerds_sandbox_container() {
    let spec = spec(&pod("/kubepods/pod1", &Message::default()), "/run/netns/a");
    let linux = json!({
        "cgroupsPath": "/kubepods/pod1/s1",
        "namespaces": [{"type": "mount"}, {"type": "network", "path": "/run/netns/a"},
        {"type": "uts"}, {"type": "ipc"}, {"type": "pid"}],
        "sysctl": {
            "net.core.somaxconn": "7", "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
        },
    });
    assert_eq!(spec["linux"], linux);
    assert_eq!(spec["hostname"], "web-0");
    assert_eq!(
        spec["annotations"]["io.kubernetes.cri.container-type"],
        "sandbox"
    );
    assert_eq!(spec["annotations"]["io.kubernetes.cri.sandbox-id"], "s1");
    assert_eq!(
        spec["annotations"]["io.kubernetes.cri.sandbox-namespace"],
        "shop"
    );
}

#[test]
fn pods_sysctls_override_containerds_defaults() {
    let sysctls = BTreeMap::from([(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "80".to_owned(),
    )]);
    let config = PodConfig {
        sysctls,
        ..PodConfig::default()
    };
    assert_eq!(
        spec(&config, "/n")["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"],
        "80"
    );
}

#[test]
fn pod_is_planned_alike_through_either_api() {
    let plan = |config: &PodConfig, netns| NewPod::from_spec("s1", &config.spec("s1", netns));
    let ordinary = plan(&pod("/p", &Message::default()), "/run/netns/a").unwrap();
    assert_eq!(
        (ordinary.network, ordinary.ipc),
        (Network::Join("/run/netns/a".into()), Ipc::Own)
    );
    assert_eq!(
        ordinary.uts,
        Uts::Own {
            hostname: Some("web-0".to_owned()),
            domainname: None
        }
    );
    let host = PodConfig {
        network: Scope::Node,
        ..PodConfig::default()
    };
    let host = plan(&host, "").unwrap();
    assert_eq!(
        (host.network, host.ipc, host.uts, host.sysctls),
        (Network::Node, Ipc::Own, Uts::Node, Vec::new())
    );
    let users = PodConfig {
        own_users: true,
        ..PodConfig::default()
    };
    assert!(matches!(
        plan(&users, "/n"),
        Err(PodError::NewUserNamespace)
    ));
}

#[test]
fn children_of_a_slice_have_systemds_names() {
    let config = pod("/kubepods.slice/kubepods-pod1.slice", &Message::default());
    assert_eq!(
        spec(&config, "/n")["linux"]["cgroupsPath"],
        "kubepods-pod1.slice:cri-containerd:s1"
    );
    assert_eq!(config.slice(), Some("kubepods-pod1.slice"));
    assert_eq!(pod("/kubepods/pod1", &Message::default()).slice(), None);
    assert!(spec(&pod("", &Message::default()), "/n")["linux"]["cgroupsPath"].is_null());
}
