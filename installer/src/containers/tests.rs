//! What a folder shows, what containerd answers, and what both together mean.

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
fn each_container_tells_the_program_that_serves_it() {
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
fn a_state_folder_that_is_not_seen_or_not_containerds_is_hidden_and_never_empty() {
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
            Bundles::Hidden(told) => assert!(told.contains(state) && told.contains(why), "{told}"),
            Bundles::Listed(found) => panic!("{state} shows {found:?}"),
        }
    }
}

#[test]
fn a_folder_that_shows_all_containers_names_those_that_use_the_runtime() {
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
    // Pods by their handlers' names alone add nothing.
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
fn where_the_folder_is_hidden_the_handlers_of_pods_that_run_decide() {
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
    // Which version they run from is not known.
    let usage = of(Some(settings(&launchers)), pods());
    assert!(
        usage.may_include(&path("/opt/wasmedge-runtime/a/1"))
            && usage.may_include(&path("/opt/wasmedge-runtime/a/2"))
    );
}

#[test]
fn a_pod_whose_program_containerd_names_is_judged_by_that() {
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
fn where_neither_shows_anything_it_is_unknown_and_everything_may_be_used() {
    let unknown = usage(hidden(), Err("nobody listens".to_owned()), &path(VERSIONS));
    assert!(unknown.may_include(&path(VERSIONS)));
    let Usage::Unknown(why) = unknown else {
        panic!("{unknown:?}")
    };
    assert!(
        why.contains("/run/other") && why.contains("nobody listens"),
        "{why}"
    );
}
