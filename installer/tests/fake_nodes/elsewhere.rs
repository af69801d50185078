//! Nodes whose containerd keeps its files elsewhere, reads another configuration, or runs on a
//! kernel that is too old.

use std::fs;

use installer_protocol::{Outcome, Reason, Report, Stage};
use node_installer::host::HostPath;

use crate::bed::{Bed, CONFIG};

/// The main file of a containerd whose state folder no installer sees.
fn with_state(state: &str) -> String {
    CONFIG.replace(
        "version = 2\n",
        &format!("version = 2\nstate = \"{state}\"\n"),
    )
}

/// A node with such a containerd, both in its file and running.
fn elsewhere() -> Bed {
    let bed = Bed::new();
    fs::write(
        bed.path("/etc/containerd/config.toml"),
        with_state("/run/other"),
    )
    .unwrap();
    *bed.fake.state.borrow_mut() = "/run/other".to_owned();
    bed
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
fn a_runtime_that_pods_use_stays_where_containerds_state_folder_is_not_seen() {
    let bed = elsewhere();
    let before = bed.tree();
    bed.installed();
    bed.fake.pods.borrow_mut().extend([
        ("pod-1".to_owned(), "wasmedge".to_owned()),
        ("pod-2".to_owned(), "runc".to_owned()),
    ]);
    let installed = bed.tree();
    must_be_in_use(&bed.uninstall(), &["1 containers", "k8s.io/pod-1"]);
    bed.tree().must_be(&installed, "after the refusal");
    bed.fake.pods.borrow_mut().remove("pod-1");
    bed.removed();
    bed.tree().must_be(&before, "after the removal");
}

#[test]
fn a_former_version_stays_while_pods_run_that_may_run_from_it() {
    let bed = elsewhere();
    let first = bed.installed().installed.unwrap();
    bed.fake
        .pods
        .borrow_mut()
        .insert("pod".to_owned(), "wasmedge".to_owned());
    bed.bundle("1.1.0", "good");
    let second = bed.installed().installed.unwrap();
    assert!(bed.path(&first.path).exists() && bed.path(&second.path).exists());
    bed.fake.pods.borrow_mut().clear();
    bed.installed();
    assert!(!bed.path(&first.path).exists(), "no pod runs any more");
}

#[test]
fn a_runtime_stays_where_neither_containerd_nor_its_folder_shows_what_runs() {
    for flag in [None, Some("--state=/run/other")] {
        let bed = Bed::new();
        bed.installed();
        match flag {
            None => {
                let main = bed
                    .read("/etc/containerd/config.toml")
                    .replace("version = 2\n", "version = 2\nstate = \"/run/other\"\n");
                fs::write(bed.path("/etc/containerd/config.toml"), main).unwrap();
            }
            Some(flag) => {
                *bed.fake.arguments.borrow_mut() =
                    vec!["/usr/bin/containerd".to_owned(), flag.to_owned()];
            }
        }
        bed.fake.faults.mute.set(true);
        let before = bed.tree();
        must_be_in_use(
            &bed.uninstall(),
            &[
                "cannot find out",
                "/run/other",
                "containerd does not answer",
            ],
        );
        bed.tree().must_be(&before, "after the refusal");
    }
}

#[test]
fn a_state_folder_without_bundles_is_not_one_without_containers() {
    let bed = Bed::new();
    bed.installed();
    fs::remove_dir_all(bed.path("/run/containerd/io.containerd.runtime.v2.task")).unwrap();
    bed.fake
        .pods
        .borrow_mut()
        .insert("pod".to_owned(), "wasmedge".to_owned());
    must_be_in_use(&bed.uninstall(), &["k8s.io/pod"]);
    bed.fake.faults.mute.set(true);
    must_be_in_use(
        &bed.uninstall(),
        &["has no folder io.containerd.runtime.v2.task"],
    );
}

fn must_be_unsupported(bed: &Bed, words: &[&str]) {
    let before = bed.tree();
    let report = bed.install();
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
    bed.tree().must_be(&before, "after the refusal");
    assert_eq!(bed.fake.restarts.get(), 0);
}

#[test]
fn a_kernel_before_5_12_is_refused_before_anything_is_touched() {
    let bed = Bed::new();
    bed.fake.kernel.set("5.10.0-28-amd64");
    must_be_unsupported(&bed, &["Linux 5.10.0-28-amd64", "5.12 or later"]);
}

#[test]
fn a_runtime_is_removed_whatever_the_kernel_is() {
    let bed = Bed::new();
    bed.installed();
    bed.fake.kernel.set("5.10.0-28-amd64");
    bed.removed();
}

/// A node whose containerd reads `/etc/containerd/other.toml`, by these words behind its program's
/// name.
fn reading_another_file(words: &[&str]) -> Bed {
    let bed = Bed::new();
    fs::write(bed.path("/etc/containerd/other.toml"), CONFIG).unwrap();
    *bed.fake.main.borrow_mut() = HostPath::new("/etc/containerd/other.toml").unwrap();
    *bed.fake.arguments.borrow_mut() = ["/usr/bin/containerd"]
        .iter()
        .chain(words)
        .map(|word| (*word).to_owned())
        .collect();
    bed
}

#[test]
fn a_containerd_that_reads_another_file_is_refused_before_its_restart_by_the_name_of_that_file() {
    let mut bed = reading_another_file(&["--config", "/etc/containerd/other.toml"]);
    let named = [
        "containerd.service",
        "spec.containerd.paths.config to /etc/containerd/other.toml",
    ];
    must_be_unsupported(&bed, &named);
    bed.request.paths.config = Some("/etc/containerd/wrong.toml".to_owned());
    must_be_unsupported(&bed, &named);
    bed.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    let before = bed.tree();
    bed.installed();
    assert_eq!(bed.read("/etc/containerd/config.toml"), CONFIG);
    bed.removed();
    bed.tree().must_be(&before, "after the removal");
}

#[test]
fn a_request_that_names_a_file_which_containerd_does_not_read_is_refused() {
    let mut bed = Bed::new();
    fs::write(bed.path("/etc/containerd/other.toml"), CONFIG).unwrap();
    bed.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    must_be_unsupported(
        &bed,
        &["spec.containerd.paths.config to /etc/containerd/config.toml"],
    );
}

#[test]
fn another_name_of_the_same_file_is_the_same_file() {
    let bed = reading_another_file(&["-c=/etc/containerd/link.toml"]);
    std::os::unix::fs::symlink("config.toml", bed.path("/etc/containerd/link.toml")).unwrap();
    *bed.fake.main.borrow_mut() = HostPath::new("/etc/containerd/config.toml").unwrap();
    bed.installed();
}

#[test]
fn a_command_that_only_systemd_can_resolve_needs_the_files_name_in_the_request() {
    let mut bed = reading_another_file(&["$OPTIONS"]);
    bed.fake
        .environment_files
        .borrow_mut()
        .push("/etc/default/containerd".to_owned());
    must_be_unsupported(
        &bed,
        &[
            "$OPTIONS",
            "set spec.containerd.paths.config",
            "ps -o args=",
        ],
    );
    bed.request.paths.config = Some("/etc/containerd/other.toml".to_owned());
    bed.installed();
}

#[test]
fn a_containerd_that_does_not_answer_is_not_restarted() {
    let bed = Bed::new();
    bed.fake.faults.mute.set(true);
    let before = bed.tree();
    let report = bed.install();
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
    bed.tree().must_be(&before, "after the refusal");
    assert_eq!(bed.fake.restarts.get(), 0);
}
