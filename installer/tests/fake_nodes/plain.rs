//! What goes well.

use std::fs;

use installer_protocol::report::Restart;
use installer_protocol::settings::{Grouping, LogLevel};
use installer_protocol::{
    Artifact, CgroupDriver, Distribution, Mode, Outcome, Reason, Request, Settings, Stage,
};

use crate::bed::{Bed, CONFIG, archive};

#[test]
fn an_installation_is_proven_by_a_guest_and_tells_what_it_found() {
    let bed = Bed::new();
    let report = bed.installed();
    let installed = report.installed.unwrap();
    assert_eq!(
        (report.stage, report.reason, report.restart),
        (Stage::Clean, Reason::Done, Restart::Done)
    );
    assert_eq!(
        (
            report.host.containerd.as_str(),
            report.host.config_version,
            report.host.systemd_cgroup
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
    let guests = bed.fake.guests.borrow();
    let [launcher] = &guests[..] else {
        panic!("{guests:?}")
    };
    assert!(
        launcher.starts_with(&format!("{}@", installed.path))
            && launcher.ends_with("/containerd-shim-wasmedge-v1"),
        "{launcher}"
    );
    assert!(bed.read(&report.host.config_path).contains(&installed.path));
    assert_eq!(bed.fake.serves(), ["runc", "wasmedge"]);
}

#[test]
fn installing_twice_changes_nothing() {
    for bed in [Bed::new(), Bed::old()] {
        bed.installed();
        let before = bed.tree();
        let report = bed.installed();
        bed.tree().must_be(&before, "after the second installation");
        assert_eq!(
            (bed.fake.restarts.get(), report.restart),
            (1, Restart::NotNeeded)
        );
        assert_eq!(
            bed.fake.guests.borrow().len(),
            2,
            "the second one is proven as well"
        );
    }
}

#[test]
fn a_removal_leaves_every_byte_as_it_was() {
    for bed in [Bed::new(), Bed::old()] {
        let before = bed.tree();
        bed.installed();
        bed.removed();
        bed.tree().must_be(&before, "after the removal");
        assert_eq!(bed.fake.serves(), ["runc"]);
        bed.removed();
        bed.tree().must_be(&before, "after the second removal");
        assert_eq!(bed.fake.restarts.get(), 2);
    }
}

#[test]
fn what_was_never_installed_is_removed() {
    let bed = Bed::new();
    let before = bed.tree();
    bed.removed();
    bed.tree().must_be(&before, "after the removal");
    assert_eq!(bed.fake.restarts.get(), 0);
}

#[test]
fn an_upgrade_keeps_the_old_version_while_containers_run_from_it() {
    let bed = Bed::new();
    let before = bed.tree();
    let first = bed.installed().installed.unwrap();
    bed.run_container(
        "pod",
        &format!("{}/bin/containerd-shim-wasmedge-v1", first.path),
    );
    bed.bundle("1.1.0", "good");
    let second = bed.installed().installed.unwrap();
    assert!(bed.path(&first.path).exists() && bed.path(&second.path).exists());
    assert!(
        bed.fake
            .guests
            .borrow()
            .last()
            .unwrap()
            .starts_with(&second.path)
    );

    let refused = bed.uninstall();
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

    bed.delete_containers();
    bed.installed();
    assert!(!bed.path(&first.path).exists(), "nobody uses it any more");
    bed.removed();
    bed.tree().must_be(&before, "after the removal");
}

#[test]
fn two_runtimes_lie_side_by_side_and_either_goes_first() {
    // In the main file itself, and as drop-ins that share an import.
    for (first_to_go, bed) in [
        ("one", Bed::old()),
        ("two", Bed::old()),
        ("one", Bed::new()),
        ("two", Bed::new()),
    ] {
        let before = bed.tree();
        let request = |name: &str| Request {
            runtime: name.to_owned(),
            handler: name.to_owned(),
            ..bed.request.clone()
        };
        let removal = |name: &str| Request {
            verb: installer_protocol::Verb::Uninstall,
            ..request(name)
        };
        for name in ["one", "two"] {
            assert_eq!(bed.perform(&request(name)).outcome, Outcome::Installed);
        }
        let other = if first_to_go == "one" { "two" } else { "one" };
        bed.run_container("pod", &bed.perform(&request(other)).installed.unwrap().path);
        assert_eq!(
            bed.perform(&removal(first_to_go)).outcome,
            Outcome::Removed,
            "the other one's containers are not its own"
        );
        assert!(
            bed.fake.serves().contains(&other.to_owned())
                && !bed.fake.serves().contains(&first_to_go.to_owned())
        );
        bed.delete_containers();
        assert_eq!(bed.perform(&removal(other)).outcome, Outcome::Removed);
        bed.tree().must_be(&before, "after both removals");
    }
}

#[test]
fn a_request_says_what_the_node_does_not_show() {
    let mut bed = Bed::new();
    fs::remove_dir_all(bed.path("/sys/fs/cgroup/kubelet.slice")).unwrap();
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::InvalidRequest)
    );
    assert!(
        report.message.contains("set containerd.systemdCgroup"),
        "{}",
        report.message
    );
    bed.request.cgroup_driver = CgroupDriver::Cgroupfs;
    bed.installed();
    assert!(bed.options().contains("SystemdCgroup = false"));
}

#[test]
fn a_choice_is_a_restart_and_containers_stay() {
    for mut bed in [Bed::new(), Bed::old()] {
        let plain = bed.installed();
        let path = &plain.host.config_path;
        let (before, launcher) = (
            bed.read(path),
            plain.installed.as_ref().unwrap().path.clone(),
        );
        bed.run_container("pod", &launcher);
        bed.request.settings = Settings {
            log_level: LogLevel::Debug,
            grouping: Grouping::Pod,
            ..Settings::default()
        };
        let chosen = bed.installed();
        assert_eq!(
            (chosen.restart, &chosen.installed),
            (Restart::Done, &plain.installed),
            "the runtime itself is the same"
        );
        assert!(
            bed.options().contains("log_level = \"debug\"")
                && bed.options().contains("grouping = \"pod\"")
        );
        assert_eq!(
            (bed.installed().restart, bed.fake.restarts.get()),
            (Restart::NotNeeded, 2),
            "nothing is left to be done"
        );
        bed.request.settings = Settings::default();
        assert_eq!(bed.installed().restart, Restart::Done);
        assert_eq!(bed.read(path), before);
    }
}

#[test]
fn handler_has_no_options_table_and_entries_stay_while_containers_run_by_them() {
    for mut bed in [Bed::new(), Bed::old()] {
        let config = bed.installed().host.config_path;
        let ours = |bed: &Bed| {
            bed.read(&config)
                .split_once("runtimes.wasmedge]")
                .unwrap()
                .1
                .to_owned()
        };
        assert!(!ours(&bed).contains("options"), "{}", ours(&bed));
        let first = bed.fake.guests.borrow().last().unwrap().clone();
        bed.run_container("pod", &first);
        bed.request.settings = Settings {
            log_level: LogLevel::Debug,
            ..Settings::default()
        };
        bed.installed();
        let second = bed.fake.guests.borrow().last().unwrap().clone();
        assert!(
            ours(&bed).contains(&second)
                && !ours(&bed).contains(&first)
                && !ours(&bed).contains("options"),
            "{}",
            ours(&bed)
        );
        assert!(
            bed.path(&first).exists() && bed.path(&second).exists(),
            "the pod's containers are deleted by the first"
        );
        bed.bundle("1.1.0", "good");
        bed.installed();
        assert!(
            bed.path(&first).exists() && !bed.path(&second).exists(),
            "no container runs by the second"
        );
        assert_eq!(bed.shelf(), 4, "two versions with an entry each");
        bed.delete_containers();
        bed.installed();
        assert_eq!(bed.shelf(), 2, "{first} is not needed");
    }
}

#[test]
fn damaged_options_file_is_written_again() {
    let bed = Bed::new();
    bed.installed();
    let whole = bed.tree();
    let launcher = bed.fake.guests.borrow().last().unwrap().clone();
    let options = bed.path(&launcher).with_file_name("options.toml");
    for harm in ["", "SystemdCgroup = false\n"] {
        fs::write(&options, harm).unwrap();
        bed.installed();
        bed.tree().must_be(&whole, harm);
    }
    fs::remove_dir_all(options.parent().unwrap()).unwrap();
    bed.installed();
    bed.tree().must_be(&whole, "without the entry");
}

#[test]
fn upgrade_from_an_options_table_and_the_way_back_to_it_leave_no_second_source() {
    for make in [Bed::new, Bed::old] {
        let mut bed = make();
        let before = bed.tree();
        bed.request.settings = Settings {
            log_level: LogLevel::Debug,
            ..Settings::default()
        };
        bed.bundle_without_options_file("1.0.0");
        let config = bed.installed().host.config_path;
        let with_table = bed.read(&config);
        assert!(
            with_table.contains("runtimes.wasmedge.options]")
                && with_table.contains("log_level = \"debug\""),
            "{with_table}"
        );
        assert_eq!(bed.shelf(), 1);
        let launcher = bed.fake.guests.borrow().last().unwrap().clone();
        bed.run_container("pod", &launcher);
        bed.bundle("1.1.0", "good");
        bed.installed();
        assert!(!bed.read(&config).contains("runtimes.wasmedge.options]"));
        assert!(
            bed.options().contains("log_level = \"debug\"")
                && bed.options().contains("SystemdCgroup = true")
        );
        assert_eq!(bed.shelf(), 3, "containers run from the first version");
        bed.delete_containers();
        bed.bundle_without_options_file("1.0.0");
        bed.installed();
        assert_eq!(bed.read(&config), with_table);
        assert_eq!(bed.shelf(), 1);
        bed.bundle("1.2.0", "broken");
        assert_eq!(bed.install().outcome, Outcome::RolledBack);
        assert_eq!((bed.read(&config), bed.shelf()), (with_table, 1));
        bed.removed();
        bed.tree().must_be(&before, "after the removal");
    }
}

#[test]
fn options_in_a_second_file_of_containerds_configuration_are_refused() {
    let bed = Bed::new();
    fs::create_dir_all(bed.path("/etc/containerd/conf.d")).unwrap();
    let own = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge.options]\n  \
               SystemdCgroup = true\n";
    fs::write(bed.path("/etc/containerd/conf.d/own.toml"), own).unwrap();
    fs::write(
        bed.path("/etc/containerd/config.toml"),
        CONFIG.replacen(
            "version = 2",
            "version = 2\nimports = [\"conf.d/*.toml\"]",
            1,
        ),
    )
    .unwrap();
    bed.fake.start_containerd();
    let before = bed.tree();
    let report = bed.install();
    assert_eq!(report.outcome, Outcome::Refused, "{report:?}");
    assert!(
        report.message.contains("/etc/containerd/conf.d/own.toml"),
        "{}",
        report.message
    );
    bed.tree().must_be(&before, "after the refusal");
}

#[test]
fn what_this_containerd_does_not_pass_on_cannot_be_chosen_of_a_runtime_without_options_files() {
    let mut bed = Bed::with(
        Distribution::Systemd,
        "1.6.20",
        "containerd.service",
        &[("/etc/containerd/config.toml", CONFIG)],
    );
    bed.bundle_without_options_file("1.0.0");
    bed.installed();
    bed.request.settings = Settings {
        max_containers: Some(100),
        ..Settings::default()
    };
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Configure, Reason::Unsupported)
    );
    assert!(
        report.message.contains("spec.runtime"),
        "{}",
        report.message
    );
    assert_eq!(bed.fake.restarts.get(), 1);
    bed.bundle("1.1.0", "good");
    bed.installed();
    assert!(
        bed.options().contains("max_containers = 100"),
        "{}",
        bed.options()
    );
}

/// A node whose image brings the runtime.
fn with_a_runtime_of_its_own() -> Bed {
    let bed = Bed::new();
    let launcher = archive(bed.folder.path(), "9.9.9", "good");
    fs::copy(launcher, bed.path("/usr/bin/containerd-shim-own")).unwrap();
    let own = "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge]\n  \
               runtime_type = \"/usr/bin/containerd-shim-own\"\n";
    fs::write(
        bed.path("/etc/containerd/config.toml"),
        format!("{}{own}", bed.read("/etc/containerd/config.toml")),
    )
    .unwrap();
    bed.fake.start_containerd();
    bed
}

#[test]
fn where_the_nodes_image_brings_the_runtime_nothing_is_written() {
    let mut bed = with_a_runtime_of_its_own();
    let taken = bed.install();
    assert_eq!(
        (taken.outcome, taken.reason),
        (Outcome::Refused, Reason::HandlerTaken),
        "{}",
        taken.message
    );

    bed.request.mode = Mode::Preinstalled;
    bed.request.artifact = None;
    let before = bed.tree();
    assert_eq!(bed.install().outcome, Outcome::Installed);
    bed.tree().must_be(&before, "after a proof");
    bed.removed();
    bed.tree().must_be(&before, "after a removal");
}

#[test]
fn a_node_whose_image_brings_the_runtime_is_broken_when_its_guest_does_not_run_any_more() {
    let mut bed = with_a_runtime_of_its_own();
    bed.request.mode = Mode::Preinstalled;
    bed.request.artifact = None;
    assert_eq!(bed.install().outcome, Outcome::Installed);
    let before = bed.tree();
    // After a reboot.
    bed.fake.start_containerd();
    bed.fake.faults.guests.set(true);
    let again = bed.install();
    assert_eq!(
        (again.outcome, again.stage, again.reason),
        (Outcome::Broken, Stage::Verify, Reason::SmokeFailed),
        "{}",
        again.message
    );
    assert_eq!(again.installed, None);
    bed.fake.faults.guests.set(false);
    bed.fake.faults.deaf.set(true);
    let unlisted = bed.install();
    assert_eq!(
        (unlisted.outcome, unlisted.reason),
        (Outcome::Broken, Reason::HandlerMissing),
        "{}",
        unlisted.message
    );
    bed.tree().must_be(&before, "after both");
    bed.fake.faults.deaf.set(false);
    assert_eq!(bed.install().outcome, Outcome::Installed);
}

/// A request of what is in the installer's image, from a mirror.
fn from_a_mirror(bed: &Bed) -> Artifact {
    let sum =
        fs::read_to_string(format!("{}.sha256", bed.fake.bundled.borrow().display())).unwrap();
    Artifact::Url {
        url: "https://mirror.example/runtime.tar.gz".to_owned(),
        sha256: sum.split_once(' ').unwrap().0.to_owned(),
    }
}

#[test]
fn a_node_that_has_the_runtime_is_proven_again_without_its_mirror() {
    for mut bed in [Bed::new(), Bed::old()] {
        bed.request.artifact = Some(from_a_mirror(&bed));
        let first = bed.installed();
        let before = bed.tree();
        // After a reboot.
        bed.fake.start_containerd();
        bed.fake.faults.mirror.set(true);
        assert_eq!(bed.installed().installed, first.installed);
        assert_eq!(
            (bed.fake.downloads.get(), bed.fake.guests.borrow().len()),
            (1, 2),
            "nothing is downloaded, but a guest has to run"
        );
        bed.tree().must_be(&before, "after the second proof");

        bed.bundle("1.1.0", "good");
        bed.request.artifact = Some(from_a_mirror(&bed));
        let upgrade = bed.install();
        assert_eq!(
            (upgrade.outcome, upgrade.stage, upgrade.reason),
            (Outcome::Refused, Stage::Artifact, Reason::Download)
        );
        bed.tree().must_be(&before, "another archive is not there");
    }
}

#[test]
fn a_runtime_that_is_not_whole_is_downloaded_again() {
    let harms = [
        "bin/wasmedge-host",
        "share/manifest.json",
        "lib/ld-linux.so.2",
    ];
    for harmed in harms {
        let mut bed = Bed::new();
        bed.request.artifact = Some(from_a_mirror(&bed));
        let installed = bed.installed().installed.unwrap();
        let whole = bed.tree();
        let file = bed.path(&installed.path).join(harmed);
        fs::write(
            &file,
            fs::read_to_string(&file).unwrap().replacen('o', "0", 1),
        )
        .unwrap();
        bed.fake.faults.mirror.set(true);
        assert_eq!(bed.install().reason, Reason::Download, "{harmed}");
        bed.fake.faults.mirror.set(false);
        bed.installed();
        assert_eq!(bed.fake.downloads.get(), 2, "{harmed}");
        bed.tree().must_be(&whole, harmed);
    }
}

#[test]
fn an_archive_with_another_digest_is_not_unpacked() {
    let mut bed = Bed::new();
    let before = bed.tree();
    bed.request.artifact = Some(Artifact::Bundled);
    let archive = bed.fake.bundled.borrow().clone();
    fs::write(format!("{}.sha256", archive.display()), "0".repeat(64)).unwrap();
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.stage, report.reason),
        (Outcome::Refused, Stage::Artifact, Reason::DigestMismatch)
    );
    bed.tree().must_be(&before, "after the refusal");
}

#[test]
fn the_record_tells_what_the_files_would_be_without_the_handler() {
    for bed in [Bed::new(), Bed::old()] {
        bed.installed();
        let record = bed.read("/opt/wasmedge-runtime/.state/wasmedge/record.json");
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
