//! Containers from bundles, from containerd's API, and from both.

use installer_protocol::Distribution;

use super::*;

const VERSIONS: &str = "/opt/wasmedge-runtime/a";

fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

fn container(namespace: &str, id: &str, program: Option<&str>) -> RunningContainer {
    RunningContainer {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        program: program.map(str::to_owned),
    }
}

fn pod(id: &str, handler: Option<&str>) -> RunningPod {
    RunningPod {
        id: id.to_owned(),
        handler: handler.map(str::to_owned),
    }
}

fn settings(launchers: &[(&str, &str)]) -> ContainerdSettings {
    let launchers = launchers
        .iter()
        .map(|(name, launcher)| ((*name).to_owned(), (*launcher).to_owned()))
        .collect();
    ContainerdSettings {
        state: None,
        default: "runc".to_owned(),
        launchers,
    }
}

fn ids(usage: &Usage) -> Vec<&str> {
    match usage {
        Usage::Known(containers) => containers
            .iter()
            .map(|container| container.id.as_str())
            .collect(),
        Usage::Unknown(why) => panic!("{why}"),
    }
}

fn hidden() -> Bundles {
    Bundles::Hidden("/run/other is not seen".to_owned())
}

#[test]
fn bundle_names_the_program_that_serves_its_container() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder
        .path()
        .join("run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
    fs::create_dir_all(&bundle).unwrap();
    fs::create_dir_all(bundle.with_file_name("half")).unwrap();
    fs::write(
        bundle.join(PROGRAM),
        "/opt/wasmedge-runtime/a/0.1.0-0/bin/shim",
    )
    .unwrap();
    let sandbox = folder
        .path()
        .join("run/containerd/io.containerd.sandbox.controller.v1.shim/k8s.io/pod");
    fs::create_dir_all(&sandbox).unwrap();
    fs::write(
        sandbox.join(PROGRAM),
        "/opt/wasmedge-runtime/b/0.1.0-0/bin/shim\n",
    )
    .unwrap();
    let root = NodeRoot::new(folder.path());
    let mounts = Distribution::Systemd.layout().mounts();
    for state in ["/run/containerd", "/var/run/containerd"] {
        let Bundles::Listed(found) = bundles(&root, &mounts, &path(state)) else {
            panic!("{state} is hidden")
        };
        let names: Vec<_> = found
            .iter()
            .map(|found| (found.namespace.as_str(), found.id.as_str()))
            .collect();
        assert_eq!(names, [("k8s.io", "abc"), ("k8s.io", "pod")]);
        assert!(found[1].uses(&path("/opt/wasmedge-runtime/b")));
        assert!(
            found[0].uses(&path("/opt/wasmedge-runtime/a"))
                && !found[0].uses(&path("/opt/wasmedge-runtime/b"))
        );
    }
}

#[test]
fn unreadable_state_folder_is_hidden_and_never_empty() {
    let folder = tempfile::tempdir().unwrap();
    for made in ["run/containerd", "run/other/io.containerd.runtime.v2.task"] {
        fs::create_dir_all(folder.path().join(made)).unwrap();
    }
    let root = NodeRoot::new(folder.path());
    let mounts = Distribution::Systemd.layout().mounts();
    for (state, why) in [
        ("/run/other", "is not one of the folders"),
        (
            "/run/containerd",
            "has no folder io.containerd.runtime.v2.task",
        ),
    ] {
        match bundles(&root, &mounts, &path(state)) {
            Bundles::Hidden(cause) => {
                assert!(cause.contains(state) && cause.contains(why), "{cause}");
            }
            Bundles::Listed(found) => panic!("{state} shows {found:?}"),
        }
    }
}

#[test]
fn listed_bundles_decide_which_containers_use_the_runtime() {
    let listed = || {
        Bundles::Listed(vec![
            container("k8s.io", "ours", Some("/opt/wasmedge-runtime/a/1/bin/shim")),
            container(
                "k8s.io",
                "other",
                Some("/opt/wasmedge-runtime/ab/1/bin/shim"),
            ),
        ])
    };
    assert_eq!(
        ids(&usage(listed(), Err("silent".to_owned()), &path(VERSIONS))),
        ["ours"]
    );
    // Handlers of pods are not used.
    let running = RunningWorkloads {
        settings: None,
        pods: vec![pod("runc", Some("runc"))],
        containers: vec![container(
            "default",
            "by-path",
            Some("/opt/wasmedge-runtime/a/1/bin/shim"),
        )],
    };
    assert_eq!(
        ids(&usage(listed(), Ok(running), &path(VERSIONS))),
        ["ours", "by-path"]
    );
}

#[test]
fn handlers_of_running_pods_decide_if_bundles_are_hidden() {
    let launchers = [
        ("runc", "io.containerd.runc.v2"),
        ("wasm", "/opt/wasmedge-runtime/a/1/bin/shim"),
        ("other", "/opt/wasmedge-runtime/b/1/bin/shim"),
    ];
    let pods = || {
        vec![
            pod("0", Some("wasm")),
            pod("1", Some("")),
            pod("2", Some("runc")),
            pod("3", Some("other")),
            pod("4", Some("gone")),
            pod("5", None),
        ]
    };
    let of = |settings, pods| {
        usage(
            hidden(),
            Ok(RunningWorkloads {
                settings,
                pods,
                containers: Vec::new(),
            }),
            &path(VERSIONS),
        )
    };
    assert_eq!(
        ids(&of(Some(settings(&launchers)), pods())),
        ["0", "4", "5"],
        "a handler that containerd lost may have been ours"
    );
    assert_eq!(
        ids(&of(
            Some(settings(&launchers)),
            vec![pod("2", Some("runc"))]
        )),
        [] as [&str; 0]
    );
    assert_eq!(
        ids(&of(None, pods())).len(),
        6,
        "nothing is known of any handler"
    );
    let ours = ContainerdSettings {
        default: "wasm".to_owned(),
        ..settings(&launchers)
    };
    assert_eq!(ids(&of(Some(ours), vec![pod("1", Some(""))])), ["1"]);
    // The version is not known.
    let usage = of(Some(settings(&launchers)), pods());
    assert!(
        usage.may_include(&path("/opt/wasmedge-runtime/a/1"))
            && usage.may_include(&path("/opt/wasmedge-runtime/a/2"))
    );
}

#[test]
fn program_of_a_pod_has_precedence_over_its_handler() {
    let pods = vec![pod("ours", Some("gone")), pod("other", Some("gone"))];
    let containers = vec![
        container("k8s.io", "ours", Some("/opt/wasmedge-runtime/a/1/bin/shim")),
        container(
            "k8s.io",
            "other",
            Some("/opt/wasmedge-runtime/b/1/bin/shim"),
        ),
    ];
    let usage = usage(
        hidden(),
        Ok(RunningWorkloads {
            settings: Some(settings(&[])),
            pods,
            containers,
        }),
        &path(VERSIONS),
    );
    assert_eq!(ids(&usage), ["ours"]);
    assert!(
        usage.may_include(&path("/opt/wasmedge-runtime/a/1"))
            && !usage.may_include(&path("/opt/wasmedge-runtime/a/2"))
    );
}

#[test]
fn usage_is_unknown_if_neither_bundles_nor_api_are_readable() {
    let unknown = usage(
        hidden(),
        Err("no process listens".to_owned()),
        &path(VERSIONS),
    );
    assert!(unknown.may_include(&path(VERSIONS)));
    let Usage::Unknown(why) = unknown else {
        panic!("{unknown:?}")
    };
    assert!(
        why.contains("/run/other") && why.contains("no process listens"),
        "{why}"
    );
}
