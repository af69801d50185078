//! Nodes with other paths, with another configuration file, or with a kernel that is too old.

use std::fs;

use installer_protocol::{Outcome, Reason, Report, Stage};
use node_installer::node_root::NodePath;

use crate::fake_node::{CONFIG, FakeNode};

/// Returns the main file of a containerd with a state folder that the installer does not see.
fn with_state(state: &str) -> String {
    CONFIG.replace(
        "version = 2\n",
        &format!("version = 2\nstate = \"{state}\"\n"),
    )
}

/// Makes a node whose main file and running containerd have such a state folder.
fn elsewhere() -> FakeNode {
    let node = FakeNode::new();
    fs::write(
        node.path("/etc/containerd/config.toml"),
        with_state("/run/other"),
    )
    .unwrap();
    *node.machine.state.borrow_mut() = "/run/other".to_owned();
    node
}

fn must_be_in_use(report: &Report, words: &[&str]) {
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::InUse),
        "{}",
        report.message
    );
    for word in words {
        assert!(
            report.message.contains(word),
            "{word} is missing in {}",
            report.message
        );
    }
}

#[test]
fn runtime_that_pods_use_stays_if_the_state_folder_is_not_visible() {
    let node = elsewhere();
    let before = node.tree();
    node.installed();
    node.machine.pods.borrow_mut().extend([
        ("pod-1".to_owned(), "wasmedge".to_owned()),
        ("pod-2".to_owned(), "runc".to_owned()),
    ]);
    let installed = node.tree();
    must_be_in_use(&node.uninstall(), &["1 containers", "k8s.io/pod-1"]);
    node.tree().must_be(&installed, "after the refusal");
    node.machine.pods.borrow_mut().remove("pod-1");
    node.removed();
    node.tree().must_be(&before, "after the removal");
}

#[test]
fn former_version_stays_while_running_pods_may_use_it() {
    let node = elsewhere();
    let first = node.installed().installed.unwrap();
    node.machine
        .pods
        .borrow_mut()
        .insert("pod".to_owned(), "wasmedge".to_owned());
    node.bundle("1.1.0", "good");
    let second = node.installed().installed.unwrap();
    assert!(node.path(&first.path).exists() && node.path(&second.path).exists());
    node.machine.pods.borrow_mut().clear();
    node.installed();
    assert!(!node.path(&first.path).exists(), "no pod runs any more");
}

#[test]
fn runtime_stays_if_neither_containerd_nor_its_folder_shows_the_containers() {
    for flag in [None, Some("--state=/run/other")] {
        let node = FakeNode::new();
        node.installed();
        match flag {
            None => {
                let main = node
                    .read("/etc/containerd/config.toml")
                    .replace("version = 2\n", "version = 2\nstate = \"/run/other\"\n");
                fs::write(node.path("/etc/containerd/config.toml"), main).unwrap();
            }
            Some(flag) => {
                *node.machine.arguments.borrow_mut() =
                    vec!["/usr/bin/containerd".to_owned(), flag.to_owned()];
            }
        }
        node.machine.faults.no_answer.set(true);
        let before = node.tree();
        must_be_in_use(
            &node.uninstall(),
            &[
                "cannot find out",
                "/run/other",
                "containerd does not answer",
            ],
        );
        node.tree().must_be(&before, "after the refusal");
    }
}

#[test]
fn state_folder_without_bundles_is_not_treated_as_empty() {
    let node = FakeNode::new();
    node.installed();
    fs::remove_dir_all(node.path("/run/containerd/io.containerd.runtime.v2.task")).unwrap();
    node.machine
        .pods
        .borrow_mut()
        .insert("pod".to_owned(), "wasmedge".to_owned());
    must_be_in_use(&node.uninstall(), &["k8s.io/pod"]);
    node.machine.faults.no_answer.set(true);
    must_be_in_use(
        &node.uninstall(),
        &["has no folder io.containerd.runtime.v2.task"],
    );
}

fn must_be_unsupported(node: &FakeNode, words: &[&str]) {
    let before = node.tree();
    let report = node.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Check, Reason::Unsupported),
        "{}",
        report.message
    );
    for word in words {
        assert!(
            report.message.contains(word),
            "{word} is missing in {}",
            report.message
        );
    }
    node.tree().must_be(&before, "after the refusal");
    assert_eq!(node.machine.restarts.get(), 0);
}

#[test]
fn kernel_before_5_12_is_refused_before_anything_is_changed() {
    let node = FakeNode::new();
    node.machine.kernel.set("5.10.0-28-amd64");
    must_be_unsupported(&node, &["Linux 5.10.0-28-amd64", "5.12 or later"]);
}

#[test]
fn runtime_is_removed_on_any_kernel() {
    let node = FakeNode::new();
    node.installed();
    node.machine.kernel.set("5.10.0-28-amd64");
    node.removed();
}

/// Makes a node whose containerd reads `/etc/containerd/other.toml`, with these arguments of its
/// unit.
fn reading_another_file(words: &[&str]) -> FakeNode {
    let node = FakeNode::new();
    fs::write(node.path("/etc/containerd/other.toml"), CONFIG).unwrap();
    *node.machine.main.borrow_mut() = NodePath::new("/etc/containerd/other.toml").unwrap();
    *node.machine.arguments.borrow_mut() = ["/usr/bin/containerd"]
        .iter()
        .chain(words)
        .map(|word| (*word).to_owned())
        .collect();
    node
}

#[test]
fn containerd_that_reads_another_file_is_refused_with_the_name_of_that_file() {
    let mut node = reading_another_file(&["--config", "/etc/containerd/other.toml"]);
    let named = [
        "containerd.service",
        "spec.containerd.paths.config to /etc/containerd/other.toml",
    ];
    must_be_unsupported(&node, &named);
    node.request.paths.config = Some("/etc/containerd/wrong.toml".to_owned());
    must_be_unsupported(&node, &named);
    node.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    let before = node.tree();
    node.installed();
    assert_eq!(node.read("/etc/containerd/config.toml"), CONFIG);
    node.removed();
    node.tree().must_be(&before, "after the removal");
}

#[test]
fn request_with_a_file_that_containerd_does_not_read_is_refused() {
    let mut node = FakeNode::new();
    fs::write(node.path("/etc/containerd/other.toml"), CONFIG).unwrap();
    node.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    must_be_unsupported(
        &node,
        &["spec.containerd.paths.config to /etc/containerd/config.toml"],
    );
}

#[test]
fn link_to_the_main_file_is_the_same_file() {
    let node = reading_another_file(&["-c=/etc/containerd/link.toml"]);
    std::os::unix::fs::symlink("config.toml", node.path("/etc/containerd/link.toml")).unwrap();
    *node.machine.main.borrow_mut() = NodePath::new("/etc/containerd/config.toml").unwrap();
    node.installed();
}

#[test]
fn unresolvable_command_needs_the_config_path_in_the_request() {
    let mut node = reading_another_file(&["$OPTIONS"]);
    node.machine
        .environment_files
        .borrow_mut()
        .push("/etc/default/containerd".to_owned());
    must_be_unsupported(
        &node,
        &[
            "$OPTIONS",
            "set spec.containerd.paths.config",
            "ps -o args=",
        ],
    );
    node.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    node.installed();
}

#[test]
fn containerd_that_does_not_answer_is_not_restarted() {
    let node = FakeNode::new();
    node.machine.faults.no_answer.set(true);
    let before = node.tree();
    let report = node.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Check, Reason::ContainerdRestart),
        "{}",
        report.message
    );
    assert!(
        report.message.contains("spec.containerd.paths.socket"),
        "{}",
        report.message
    );
    node.tree().must_be(&before, "after the refusal");
    assert_eq!(node.machine.restarts.get(), 0);
}
