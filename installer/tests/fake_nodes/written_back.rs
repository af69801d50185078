//! Nodes on which somebody wrote containerd's merged configuration back as its main file.

use std::fs;

use installer_protocol::{Outcome, Reason};
use node_installer::host::HostPath;
use node_installer::machine::Machine as _;

use crate::bed::Bed;

/// Writes containerd's merged configuration back as its main file, with the list of what it was
/// merged of.
fn write_back(bed: &Bed) {
    let main = HostPath::new("/etc/containerd/config.toml").unwrap();
    let dumped = bed
        .fake
        .run(
            &HostPath::new("/usr/bin/containerd").unwrap(),
            &["-c", main.as_str(), "config", "dump"],
        )
        .unwrap();
    let mut merged: toml::Table = String::from_utf8(dumped.stdout).unwrap().parse().unwrap();
    let drop_ins = fs::read_dir(bed.path("/etc/containerd/wasmedge-runtime.d"))
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
    fs::write(bed.path(main.as_str()), toml::to_string(&merged).unwrap()).unwrap();
}

#[test]
fn a_runtime_is_upgraded_and_removed_where_the_merged_configuration_was_written_back() {
    for bed in [Bed::new(), Bed::old()] {
        bed.installed();
        write_back(&bed);
        bed.fake.start_containerd();
        assert_eq!(bed.fake.serves(), ["runc", "wasmedge"]);
        bed.bundle("1.1.0", "good");
        let second = bed.installed().installed.unwrap();
        assert!(
            bed.fake
                .guests
                .borrow()
                .last()
                .unwrap()
                .starts_with(&second.path)
        );
        write_back(&bed);
        bed.removed();
        assert_eq!(bed.fake.serves(), ["runc"]);
        let left = bed.read("/etc/containerd/config.toml");
        assert!(
            !left.contains("wasmedge") && !bed.path("/etc/containerd/wasmedge-runtime.d").exists(),
            "{left}"
        );
    }
}

#[test]
fn a_removal_names_the_lines_of_a_handler_that_leads_elsewhere_since() {
    for bed in [Bed::new(), Bed::old()] {
        let launcher = bed.installed().installed.unwrap().path;
        write_back(&bed);
        let main = bed.read("/etc/containerd/config.toml");
        fs::write(
            bed.path("/etc/containerd/config.toml"),
            main.replace(&launcher, "/usr/local"),
        )
        .unwrap();
        let before = bed.tree();
        for report in [bed.install(), bed.uninstall()] {
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
        bed.tree().must_be(&before, "after both refusals");
    }
}
