//! Namespaces, the names in them, their parameters.

use super::*;

fn in_namespaces(kinds: &[&str]) -> Value {
    let own: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    json!({"linux": {"namespaces": own}})
}

/// Namespaces of a container of a pod: all joined.
fn in_a_pod() -> Value {
    json!({"linux": {"namespaces": [
        {"type": "pid"}, {"type": "mount"},
        {"type": "network", "path": "/proc/7/ns/net"}, {"type": "ipc", "path": "/proc/7/ns/ipc"},
        {"type": "uts", "path": "/proc/7/ns/uts"},
    ]}})
}

fn with(mut base: Value, says: Value) -> Value {
    merge(&mut base, says);
    base
}

#[test]
fn namespaces_are_new_joined_or_the_nodes() {
    let new = plan(in_namespaces(&[
        "network", "ipc", "uts", "cgroup", "mount", "pid",
    ]))
    .namespaces;
    assert_eq!(
        new,
        Namespaces {
            net: Namespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            cgroup: Namespace::New
        }
    );
    let host = plan(json!({})).namespaces;
    assert_eq!(
        host,
        Namespaces {
            net: Namespace::Node,
            ipc: Namespace::Node,
            uts: Namespace::Node,
            cgroup: Namespace::Node
        }
    );
    let join = |name: &str| Namespace::Join(PathBuf::from(format!("/proc/7/ns/{name}")));
    let joined = plan(in_a_pod()).namespaces;
    assert_eq!(
        joined,
        Namespaces {
            net: join("net"),
            ipc: join("ipc"),
            uts: join("uts"),
            cgroup: Namespace::Node
        }
    );
}

#[test]
fn mount_and_pid_namespaces_are_always_new() {
    let listed = plan(in_namespaces(&["mount", "pid"]));
    assert_eq!(
        plan(json!({})),
        listed,
        "the plan has no way to say otherwise"
    );
    assert_eq!(
        plan(json!({"linux": {"namespaces": [{"type": "pid", "path": "/proc/7/ns/pid"}]}})),
        listed
    );
}

#[test]
fn unsupported_namespaces_are_refused() {
    let refused =
        |namespace: Value| refusal(json!({"linux": {"namespaces": [{"type": "pid"}, namespace]}}));
    for namespace in [
        json!({"type": "user"}),
        json!({"type": "user", "path": "users"}),
        json!({"type": "time"}),
        json!({"type": "mount", "path": "/proc/7/ns/mnt"}),
        json!({"type": "network", "path": "netns/a"}),
        json!({"type": "pid"}),
    ] {
        assert_eq!(
            refused(namespace.clone()).0,
            "linux.namespaces[1]",
            "{namespace}"
        );
    }
    let (_, message) = refused(json!({"type": "user"}));
    assert!(message.contains("hostUsers"), "{message}");
}

#[test]
fn host_and_domain_name_need_a_uts_namespace_of_the_container() {
    for (field, of) in [
        (
            "hostname",
            (|plan| plan.hostname) as fn(Plan) -> Option<String>,
        ),
        ("domainname", |plan| plan.domainname),
    ] {
        let named = json!({field: "a"});
        assert_eq!(
            of(plan(with(in_namespaces(&["uts"]), named.clone()))).as_deref(),
            Some("a")
        );
        assert_eq!(
            of(plan(with(in_a_pod(), named.clone()))),
            None,
            "the pod's sandbox named it"
        );
        assert_eq!(refusal(named).0, field);
        assert_eq!(of(plan(json!({field: ""}))), None);
    }
}

#[test]
fn sysctls_of_the_containers_own_namespaces_are_set() {
    let sysctls = json!({"linux": {"sysctl": {
        "net.core.somaxconn": "1024", "net/ipv4/conf/eth0.100/forwarding": "1",
        "net.ipv4.conf.eth0/100.forwarding": "0",
        "kernel.shmmax": "68719476736", "fs.mqueue.msg_max": "20",
    }}});
    let plan = plan(with(in_namespaces(&["network", "ipc"]), sysctls));
    let written: Vec<_> = plan
        .sysctls
        .iter()
        .map(|sysctl| (sysctl.file.to_str().unwrap(), sysctl.value.as_str()))
        .collect();
    let expected = [
        ("fs/mqueue/msg_max", "20"),
        ("kernel/shmmax", "68719476736"),
        ("net/core/somaxconn", "1024"),
        ("net/ipv4/conf/eth0.100/forwarding", "0"),
        ("net/ipv4/conf/eth0.100/forwarding", "1"),
    ];
    assert_eq!(written, expected);
}

#[test]
fn other_sysctls_are_refused() {
    let refused = |base: Value, name: &str| {
        let (field, message) = refusal(with(base, json!({"linux": {"sysctl": {name: "1"}}})));
        assert_eq!(field, format!("linux.sysctl[{name}]"));
        message
    };
    let own = || in_namespaces(&["network", "ipc", "uts"]);
    for name in [
        "vm.swappiness",
        "kernel.panic",
        "fs.file-max",
        "kernel.hostname",
        "kernel.domainname",
        "net/../vm/swappiness",
        "",
        "/net",
    ] {
        refused(own(), name);
    }
    assert!(refused(in_a_pod(), "net.core.somaxconn").contains("sandbox"));
    assert!(refused(json!({}), "kernel.shmmax").contains("node's"));
}
