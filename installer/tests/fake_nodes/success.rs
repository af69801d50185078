//! Runs that succeed, and requests that are refused for the node's sake.

use std::fs;
use std::num::NonZeroU32;

use installer_protocol::report::Restart;
use installer_protocol::{
    Artifact, CgroupDriver, ConfigMode, Distribution, Outcome, Reason, Request, Settings, Stage,
};
use runtime_options::{Grouping, HandlerOptions, LogLevel};

use crate::fake_node::{CONFIG, FakeNode, archive};

#[test]
fn installation_runs_a_guest_and_reports_its_findings() {
    let node = FakeNode::new();
    let report = node.installed();
    let installed = report.installed.unwrap();
    assert_eq!(
        (report.stage, report.reason, report.restart),
        (Stage::Clean, Reason::Done, Restart::Done)
    );
    assert_eq!(
        (
            report.containerd.version.as_str(),
            report.containerd.config_version,
            report.containerd.systemd_cgroup
        ),
        ("2.1.5", 2, true)
    );
    assert_eq!(
        installed.path,
        format!(
            "/opt/wasmedge-runtime/wasmedge/1.0.0-{}",
            &installed.sha256[..12]
        )
    );
    let guests = node.machine.guests.borrow();
    let [launcher] = &guests[..] else {
        panic!("{guests:?}")
    };
    assert!(
        launcher.starts_with(&format!("{}@", installed.path))
            && launcher.ends_with("/containerd-shim-wasmedge-v1"),
        "{launcher}"
    );
    assert!(
        node.read(&report.containerd.config_path)
            .contains(&installed.path)
    );
    assert_eq!(node.machine.serves(), ["runc", "wasmedge"]);
}

#[test]
fn second_installation_changes_nothing_on_the_node() {
    for node in [FakeNode::new(), FakeNode::old()] {
        node.installed();
        let before = node.tree();
        let report = node.installed();
        node.tree()
            .must_be(&before, "after the second installation");
        assert_eq!(
            (node.machine.restarts.get(), report.restart),
            (1, Restart::NotNeeded)
        );
        assert_eq!(
            node.machine.guests.borrow().len(),
            2,
            "the second one is proven as well"
        );
    }
}

#[test]
fn removal_restores_every_byte() {
    for node in [FakeNode::new(), FakeNode::old()] {
        let before = node.tree();
        node.installed();
        node.removed();
        node.tree().must_be(&before, "after the removal");
        assert_eq!(node.machine.serves(), ["runc"]);
        node.removed();
        node.tree().must_be(&before, "after the second removal");
        assert_eq!(node.machine.restarts.get(), 2);
    }
}

#[test]
fn removal_of_a_runtime_that_was_never_installed_succeeds() {
    let node = FakeNode::new();
    let before = node.tree();
    node.removed();
    node.tree().must_be(&before, "after the removal");
    assert_eq!(node.machine.restarts.get(), 0);
}

#[test]
fn upgrade_keeps_the_old_version_while_containers_run_from_it() {
    let node = FakeNode::new();
    let before = node.tree();
    let first = node.installed().installed.unwrap();
    node.run_container(
        "pod",
        &format!("{}/bin/containerd-shim-wasmedge-v1", first.path),
    );
    node.bundle("1.1.0", "good");
    let second = node.installed().installed.unwrap();
    assert!(node.path(&first.path).exists() && node.path(&second.path).exists());
    assert!(
        node.machine
            .guests
            .borrow()
            .last()
            .unwrap()
            .starts_with(&second.path)
    );

    let refused = node.uninstall();
    assert_eq!(
        (refused.outcome, refused.reason),
        (Outcome::Refused, Reason::InUse)
    );
    assert!(
        refused.message.contains("1 containers") && refused.message.contains("k8s.io/pod"),
        "{}",
        refused.message
    );
    assert_eq!(refused.installed, Some(second));

    node.delete_containers();
    node.installed();
    assert!(
        !node.path(&first.path).exists(),
        "no container uses it any more"
    );
    node.removed();
    node.tree().must_be(&before, "after the removal");
}

#[test]
fn two_runtimes_are_removed_in_either_order() {
    // With handlers in the main file, and in drop-ins that share an import.
    for (first_to_go, node) in [
        ("one", FakeNode::old()),
        ("two", FakeNode::old()),
        ("one", FakeNode::new()),
        ("two", FakeNode::new()),
    ] {
        let before = node.tree();
        let request = |name: &str| Request {
            runtime: name.to_owned(),
            handler: name.to_owned(),
            ..node.request.clone()
        };
        let removal = |name: &str| Request {
            verb: installer_protocol::Verb::Uninstall,
            ..request(name)
        };
        for name in ["one", "two"] {
            assert_eq!(node.perform(&request(name)).outcome, Outcome::Installed);
        }
        let other = if first_to_go == "one" { "two" } else { "one" };
        node.run_container(
            "pod",
            &node.perform(&request(other)).installed.unwrap().path,
        );
        assert_eq!(
            node.perform(&removal(first_to_go)).outcome,
            Outcome::Removed,
            "the other one's containers are not its own"
        );
        assert!(
            node.machine.serves().contains(&other.to_owned())
                && !node.machine.serves().contains(&first_to_go.to_owned())
        );
        node.delete_containers();
        assert_eq!(node.perform(&removal(other)).outcome, Outcome::Removed);
        node.tree().must_be(&before, "after both removals");
    }
}

#[test]
fn request_sets_the_cgroup_driver_if_it_is_not_detected() {
    let mut node = FakeNode::new();
    fs::remove_dir_all(node.path("/sys/fs/cgroup/kubelet.slice")).unwrap();
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::InvalidRequest)
    );
    assert!(
        report.message.contains("set containerd.systemdCgroup"),
        "{}",
        report.message
    );
    node.request.cgroup_driver = CgroupDriver::Cgroupfs;
    node.installed();
    assert!(node.options().contains("SystemdCgroup = false"));
}

#[test]
fn changed_setting_restarts_containerd_and_containers_stay() {
    for mut node in [FakeNode::new(), FakeNode::old()] {
        let plain = node.installed();
        let path = &plain.containerd.config_path;
        let (before, launcher) = (
            node.read(path),
            plain.installed.as_ref().unwrap().path.clone(),
        );
        node.run_container("pod", &launcher);
        node.request.settings = Settings {
            options: HandlerOptions {
                log_level: LogLevel::Debug,
                grouping: Grouping::Pod,
                ..HandlerOptions::default()
            },
            ..Settings::default()
        };
        let chosen = node.installed();
        assert_eq!(
            (chosen.restart, &chosen.installed),
            (Restart::Done, &plain.installed),
            "the runtime itself is the same"
        );
        assert!(
            node.options().contains("log_level = \"debug\"")
                && node.options().contains("grouping = \"pod\"")
        );
        assert_eq!(
            (node.installed().restart, node.machine.restarts.get()),
            (Restart::NotNeeded, 2),
            "nothing is left to be done"
        );
        node.request.settings = Settings::default();
        assert_eq!(node.installed().restart, Restart::Done);
        assert_eq!(node.read(path), before);
    }
}

#[test]
fn entries_stay_while_containers_run_by_them() {
    for mut node in [FakeNode::new(), FakeNode::old()] {
        let config = node.installed().containerd.config_path;
        let ours = |node: &FakeNode| {
            node.read(&config)
                .split_once("runtimes.wasmedge]")
                .unwrap()
                .1
                .to_owned()
        };
        assert!(!ours(&node).contains("options"), "{}", ours(&node));
        let first = node.machine.guests.borrow().last().unwrap().clone();
        node.run_container("pod", &first);
        node.request.settings = Settings {
            options: HandlerOptions {
                log_level: LogLevel::Debug,
                ..HandlerOptions::default()
            },
            ..Settings::default()
        };
        node.installed();
        let second = node.machine.guests.borrow().last().unwrap().clone();
        assert!(
            ours(&node).contains(&second)
                && !ours(&node).contains(&first)
                && !ours(&node).contains("options"),
            "{}",
            ours(&node)
        );
        assert!(
            node.path(&first).exists() && node.path(&second).exists(),
            "the pod's containers are deleted by the first"
        );
        node.bundle("1.1.0", "good");
        node.installed();
        assert!(
            node.path(&first).exists() && !node.path(&second).exists(),
            "no container runs by the second"
        );
        assert_eq!(node.versions(), 4, "two versions with an entry each");
        node.delete_containers();
        node.installed();
        assert_eq!(node.versions(), 2, "{first} is not needed");
    }
}

#[test]
fn damaged_options_file_is_written_again() {
    let node = FakeNode::new();
    node.installed();
    let whole = node.tree();
    let launcher = node.machine.guests.borrow().last().unwrap().clone();
    let options = node.path(&launcher).with_file_name("options.toml");
    for harm in ["", "SystemdCgroup = false\n"] {
        fs::write(&options, harm).unwrap();
        node.installed();
        node.tree().must_be(&whole, harm);
    }
    fs::remove_dir_all(options.parent().unwrap()).unwrap();
    node.installed();
    node.tree().must_be(&whole, "without the entry");
}

#[test]
fn upgrade_and_rollback_of_an_options_table_leave_one_source_of_options() {
    for make in [FakeNode::new, FakeNode::old] {
        let mut node = make();
        let before = node.tree();
        node.request.settings = Settings {
            options: HandlerOptions {
                log_level: LogLevel::Debug,
                ..HandlerOptions::default()
            },
            ..Settings::default()
        };
        node.bundle_without_options_file("1.0.0");
        let config = node.installed().containerd.config_path;
        let with_table = node.read(&config);
        assert!(
            with_table.contains("runtimes.wasmedge.options]")
                && with_table.contains("log_level = \"debug\""),
            "{with_table}"
        );
        assert_eq!(node.versions(), 1);
        let launcher = node.machine.guests.borrow().last().unwrap().clone();
        node.run_container("pod", &launcher);
        node.bundle("1.1.0", "good");
        node.installed();
        assert!(!node.read(&config).contains("runtimes.wasmedge.options]"));
        assert!(
            node.options().contains("log_level = \"debug\"")
                && node.options().contains("SystemdCgroup = true")
        );
        assert_eq!(node.versions(), 3, "containers run from the first version");
        node.delete_containers();
        node.bundle_without_options_file("1.0.0");
        node.installed();
        assert_eq!(node.read(&config), with_table);
        assert_eq!(node.versions(), 1);
        node.bundle("1.2.0", "broken");
        assert_eq!(node.install().outcome, Outcome::RolledBack);
        assert_eq!((node.read(&config), node.versions()), (with_table, 1));
        node.removed();
        node.tree().must_be(&before, "after the removal");
    }
}

#[test]
fn options_in_a_second_file_of_containerds_configuration_are_refused() {
    let node = FakeNode::new();
    fs::create_dir_all(node.path("/etc/containerd/conf.d")).unwrap();
    let own = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge.options]\n  \
               SystemdCgroup = true\n";
    fs::write(node.path("/etc/containerd/conf.d/own.toml"), own).unwrap();
    fs::write(
        node.path("/etc/containerd/config.toml"),
        CONFIG.replacen(
            "version = 2",
            "version = 2\nimports = [\"conf.d/*.toml\"]",
            1,
        ),
    )
    .unwrap();
    node.machine.start_containerd();
    let before = node.tree();
    let report = node.install();
    assert_eq!(report.outcome, Outcome::Refused, "{report:?}");
    assert!(
        report.message.contains("/etc/containerd/conf.d/own.toml"),
        "{}",
        report.message
    );
    node.tree().must_be(&before, "after the refusal");
}

#[test]
fn options_that_containerd_does_not_pass_are_refused_without_an_options_file() {
    let mut node = FakeNode::with(
        Distribution::Systemd,
        "1.6.20",
        "containerd.service",
        &[("/etc/containerd/config.toml", CONFIG)],
    );
    node.bundle_without_options_file("1.0.0");
    node.installed();
    node.request.settings = Settings {
        options: HandlerOptions {
            max_containers: NonZeroU32::new(100),
            ..HandlerOptions::default()
        },
        ..Settings::default()
    };
    let report = node.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Configure, Reason::Unsupported)
    );
    assert!(
        report.message.contains("spec.runtime"),
        "{}",
        report.message
    );
    assert_eq!(node.machine.restarts.get(), 1);
    node.bundle("1.1.0", "good");
    node.installed();
    assert!(
        node.options().contains("max_containers = 100"),
        "{}",
        node.options()
    );
}

/// Makes a node with a preinstalled runtime.
fn with_a_runtime_of_its_own() -> FakeNode {
    let node = FakeNode::new();
    let launcher = archive(node.folder.path(), "9.9.9", "good");
    fs::copy(launcher, node.path("/usr/bin/containerd-shim-own")).unwrap();
    let own = "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge]\n  \
               runtime_type = \"/usr/bin/containerd-shim-own\"\n";
    fs::write(
        node.path("/etc/containerd/config.toml"),
        format!("{}{own}", node.read("/etc/containerd/config.toml")),
    )
    .unwrap();
    node.machine.start_containerd();
    node
}

#[test]
fn preinstalled_runtime_is_verified_and_nothing_is_written() {
    let mut node = with_a_runtime_of_its_own();
    let taken = node.install();
    assert_eq!(
        (taken.outcome, taken.reason),
        (Outcome::Refused, Reason::HandlerTaken),
        "{}",
        taken.message
    );

    node.request.mode = ConfigMode::Preinstalled;
    node.request.artifact = None;
    let before = node.tree();
    assert_eq!(node.install().outcome, Outcome::Installed);
    node.tree().must_be(&before, "after a proof");
    node.removed();
    node.tree().must_be(&before, "after a removal");
}

#[test]
fn preinstalled_runtime_is_broken_if_its_guest_does_not_run() {
    let mut node = with_a_runtime_of_its_own();
    node.request.mode = ConfigMode::Preinstalled;
    node.request.artifact = None;
    assert_eq!(node.install().outcome, Outcome::Installed);
    let before = node.tree();
    // After a reboot.
    node.machine.start_containerd();
    node.machine.faults.guests.set(true);
    let again = node.install();
    assert_eq!(
        (again.outcome, again.stage, again.reason),
        (Outcome::Broken, Stage::Verify, Reason::SmokeFailed),
        "{}",
        again.message
    );
    assert_eq!(again.installed, None);
    node.machine.faults.guests.set(false);
    node.machine.faults.lists_nothing.set(true);
    let unlisted = node.install();
    assert_eq!(
        (unlisted.outcome, unlisted.reason),
        (Outcome::Broken, Reason::HandlerMissing),
        "{}",
        unlisted.message
    );
    node.tree().must_be(&before, "after both");
    node.machine.faults.lists_nothing.set(false);
    assert_eq!(node.install().outcome, Outcome::Installed);
}

/// Returns the artifact of the bundled archive, from a mirror.
fn from_a_mirror(node: &FakeNode) -> Artifact {
    let sum = fs::read_to_string(format!(
        "{}.sha256",
        node.machine.bundled.borrow().display()
    ))
    .unwrap();
    Artifact::Url {
        url: "https://mirror.example/runtime.tar.gz".to_owned(),
        sha256: sum.split_once(' ').unwrap().0.to_owned(),
    }
}

#[test]
fn installed_runtime_is_verified_again_without_its_mirror() {
    for mut node in [FakeNode::new(), FakeNode::old()] {
        node.request.artifact = Some(from_a_mirror(&node));
        let first = node.installed();
        let before = node.tree();
        // After a reboot.
        node.machine.start_containerd();
        node.machine.faults.mirror.set(true);
        assert_eq!(node.installed().installed, first.installed);
        assert_eq!(
            (
                node.machine.downloads.get(),
                node.machine.guests.borrow().len()
            ),
            (1, 2),
            "nothing is downloaded, but a guest has to run"
        );
        node.tree().must_be(&before, "after the second proof");

        node.bundle("1.1.0", "good");
        node.request.artifact = Some(from_a_mirror(&node));
        let upgrade = node.install();
        assert_eq!(
            (upgrade.outcome, upgrade.stage, upgrade.reason),
            (Outcome::Refused, Stage::Artifact, Reason::Download)
        );
        node.tree().must_be(&before, "another archive is not there");
    }
}

#[test]
fn damaged_runtime_is_downloaded_again() {
    let harms = [
        "bin/wasmedge-host",
        "share/manifest.json",
        "lib/ld-linux.so.2",
    ];
    for harmed in harms {
        let mut node = FakeNode::new();
        node.request.artifact = Some(from_a_mirror(&node));
        let installed = node.installed().installed.unwrap();
        let whole = node.tree();
        let file = node.path(&installed.path).join(harmed);
        fs::write(
            &file,
            fs::read_to_string(&file).unwrap().replacen('o', "0", 1),
        )
        .unwrap();
        node.machine.faults.mirror.set(true);
        assert_eq!(node.install().reason, Reason::Download, "{harmed}");
        node.machine.faults.mirror.set(false);
        node.installed();
        assert_eq!(node.machine.downloads.get(), 2, "{harmed}");
        node.tree().must_be(&whole, harmed);
    }
}

#[test]
fn archive_with_another_digest_is_not_unpacked() {
    let mut node = FakeNode::new();
    let before = node.tree();
    node.request.artifact = Some(Artifact::Bundled);
    let archive = node.machine.bundled.borrow().clone();
    fs::write(format!("{}.sha256", archive.display()), "0".repeat(64)).unwrap();
    let report = node.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Artifact, Reason::DigestMismatch)
    );
    node.tree().must_be(&before, "after the refusal");
}

#[test]
fn record_has_the_files_without_the_handler() {
    for node in [FakeNode::new(), FakeNode::old()] {
        node.installed();
        let record = node.read("/opt/wasmedge-runtime/.state/wasmedge/record.json");
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        for file in record["active"]["config"]["files"].as_array().unwrap() {
            assert!(
                !file["before"]
                    .as_str()
                    .unwrap_or_default()
                    .contains("wasmedge-runtime"),
                "{file}"
            );
        }
    }
}
