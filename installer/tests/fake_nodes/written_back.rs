//! Nodes on which another program wrote containerd's merged configuration back as its main file.

use std::fs;

use installer_protocol::{Outcome, Reason};
use node_installer::machine::Machine as _;
use node_installer::node_root::NodePath;

use crate::fake_node::FakeNode;

/// Writes containerd's merged configuration back as its main file, with the list of the merged
/// files.
fn write_back(node: &FakeNode) {
    let main = NodePath::new("/etc/containerd/config.toml").unwrap();
    let dumped = node
        .machine
        .run(
            &NodePath::new("/usr/bin/containerd").unwrap(),
            &["-c", main.as_str(), "config", "dump"],
        )
        .unwrap();
    let mut merged: toml::Table = String::from_utf8(dumped.stdout).unwrap().parse().unwrap();
    let drop_ins = fs::read_dir(node.path("/etc/containerd/wasmedge-runtime.d"))
        .into_iter()
        .flatten();
    let drop_ins = drop_ins.map(|entry| {
        format!(
            "/etc/containerd/wasmedge-runtime.d/{}",
            entry.unwrap().file_name().display()
        )
    });
    let loaded: Vec<toml::Value> = [main.to_string()]
        .into_iter()
        .chain(drop_ins)
        .map(toml::Value::from)
        .collect();
    merged.insert("imports".to_owned(), loaded.into());
    fs::write(node.path(main.as_str()), toml::to_string(&merged).unwrap()).unwrap();
}

#[test]
fn runtime_is_upgraded_and_removed_after_the_merged_configuration_was_written_back() {
    for node in [FakeNode::new(), FakeNode::old()] {
        node.installed();
        write_back(&node);
        node.machine.start_containerd();
        assert_eq!(node.machine.serves(), ["runc", "wasmedge"]);
        node.bundle("1.1.0", "good");
        let second = node.installed().installed.unwrap();
        assert!(
            node.machine
                .guests
                .borrow()
                .last()
                .unwrap()
                .starts_with(&second.path)
        );
        write_back(&node);
        node.removed();
        assert_eq!(node.machine.serves(), ["runc"]);
        let left = node.read("/etc/containerd/config.toml");
        assert!(
            !left.contains("wasmedge") && !node.path("/etc/containerd/wasmedge-runtime.d").exists(),
            "{left}"
        );
    }
}

#[test]
fn removal_names_the_lines_of_a_handler_that_was_redirected() {
    for node in [FakeNode::new(), FakeNode::old()] {
        let launcher = node.installed().installed.unwrap().path;
        write_back(&node);
        let main = node.read("/etc/containerd/config.toml");
        fs::write(
            node.path("/etc/containerd/config.toml"),
            main.replace(&launcher, "/usr/local"),
        )
        .unwrap();
        let before = node.tree();
        for report in [node.install(), node.uninstall()] {
            assert_eq!(
                (report.outcome, report.reason),
                (Outcome::Refused, Reason::HandlerTaken),
                "{}",
                report.message
            );
            for words in [
                "/etc/containerd/config.toml",
                "(lines ",
                "remove these lines",
            ] {
                assert!(report.message.contains(words), "{}", report.message);
            }
        }
        node.tree().must_be(&before, "after both refusals");
    }
}
