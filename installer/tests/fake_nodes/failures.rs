//! Failed runs: the node is not changed, or it is as it was before.

use std::fs;
use std::process::Command;
use std::time::Duration;

use installer_protocol::report::Restart;
use installer_protocol::{
    ConfigMode, Distribution, Outcome, Reason, Request, Settings, Stage, Verb,
};
use node_installer::node_root::NodePath;
use runtime_options::{HandlerOptions, LogLevel};

use crate::fake_node::{CONFIG, FakeNode};

#[test]
fn runtime_that_does_not_run_is_rolled_back() {
    for node in [FakeNode::new(), FakeNode::old()] {
        let before = node.tree();
        node.bundle("1.0.0", "broken");
        let report = node.install();
        assert_eq!(
            (report.outcome, report.stage, report.reason),
            (Outcome::RolledBack, Stage::Verify, Reason::SmokeFailed)
        );
        assert!(
            report.message.contains("code 1") && report.message.contains("as it was before"),
            "{}",
            report.message
        );
        assert_eq!((report.installed, report.restart), (None, Restart::Done));
        node.tree().must_be(&before, "after the rollback");
        assert_eq!(node.machine.serves(), ["runc"]);
    }
}

#[test]
fn upgrade_that_does_not_run_is_rolled_back() {
    for node in [FakeNode::new(), FakeNode::old()] {
        node.installed();
        let before = node.tree();
        node.bundle("1.1.0", "broken");
        let report = node.install();
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::RolledBack, Reason::SmokeFailed),
            "{}",
            report.message
        );
        assert_eq!(report.installed.unwrap().version, "1.0.0");
        let mut after = node.tree();
        let record = std::path::Path::new("opt/wasmedge-runtime/.state/wasmedge/record.json");
        // Its time of the last write differs.
        after.0.insert(record.to_owned(), before.0[record].clone());
        after.must_be(&before, "after the rollback");
        assert!(
            node.machine
                .guests
                .borrow()
                .last()
                .unwrap()
                .contains("1.0.0"),
            "the former version is proven again"
        );
    }
}

#[test]
fn configuration_that_containerd_refuses_is_not_written() {
    for node in [FakeNode::new(), FakeNode::old()] {
        let before = node.tree();
        node.machine.faults.refused.set(Some("wasmedge"));
        let report = node.install();
        assert_eq!(
            (report.outcome, report.stage, report.reason),
            (Outcome::Refused, Stage::Configure, Reason::ContainerdConfig)
        );
        node.tree().must_be(&before, "after the refusal");
        assert_eq!(node.machine.restarts.get(), 0);
    }
}

#[test]
fn containerd_that_does_not_start_gets_its_configuration_back() {
    for node in [FakeNode::new(), FakeNode::old()] {
        let before = node.tree();
        node.machine.faults.restarts.set(1);
        let report = node.install();
        assert_eq!(
            (report.outcome, report.stage, report.reason),
            (
                Outcome::RolledBack,
                Stage::Restart,
                Reason::ContainerdRestart
            )
        );
        assert!(
            report.message.contains("journalctl -u containerd.service"),
            "{}",
            report.message
        );
        node.tree().must_be(&before, "after the rollback");
        assert!(node.machine.is_up_to_date());
    }
}

#[test]
fn failed_rollback_is_reported_and_retried() {
    let node = FakeNode::new();
    let before = node.tree();
    node.machine.faults.restarts.set(2);
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Broken, Reason::ContainerdRestart)
    );
    assert!(
        report.message.contains("the rollback failed"),
        "{}",
        report.message
    );
    assert_eq!(
        node.read("/etc/containerd/config.toml"),
        CONFIG,
        "the bytes are back all the same"
    );

    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        report.message
    );
    node.tree().must_be(&before, "after the second rollback");
    node.installed();
}

#[test]
fn handler_that_containerd_does_not_list_is_rolled_back() {
    let node = FakeNode::new();
    let before = node.tree();
    node.machine.faults.lists_nothing.set(true);
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::HandlerMissing),
        "{}",
        report.message
    );
    node.tree().must_be(&before, "after the rollback");
}

#[test]
fn runtime_that_stopped_working_is_reported_as_broken() {
    let node = FakeNode::new();
    node.installed();
    let before = node.tree();
    node.machine.faults.guests.set(true);
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Broken, Reason::SmokeFailed)
    );
    node.tree().must_be(&before, "nothing older is known");
}

#[test]
fn failed_removal_restores_the_runtime() {
    let node = FakeNode::new();
    node.installed();
    node.machine.faults.restarts.set(1);
    let report = node.uninstall();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        report.message
    );
    assert_eq!(report.installed.unwrap().version, "1.0.0");
    assert_eq!(node.machine.serves(), ["runc", "wasmedge"]);
    node.removed();
}

#[test]
fn lines_of_another_program_stay() {
    for node in [FakeNode::new(), FakeNode::old()] {
        node.installed();
        let config = node.path("/etc/containerd/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n[debug]\n  level = \"debug\"\n")).unwrap();
        node.removed();
        assert_eq!(
            fs::read_to_string(&config).unwrap(),
            format!("{CONFIG}\n[debug]\n  level = \"debug\"\n")
        );
    }
}

#[test]
fn rollback_restores_settings_beside_another_programs_change() {
    for mut node in [FakeNode::new(), FakeNode::old()] {
        node.request.settings = Settings {
            options: HandlerOptions {
                log_level: LogLevel::Warn,
                ..HandlerOptions::default()
            },
            ..Settings::default()
        };
        let path = node.installed().containerd.config_path;
        let before = node.read(&path);
        node.request.settings.options.log_level = LogLevel::Trace;
        // An installer is killed after it has written its files, and then another program writes
        // the file.
        let mut step = 1;
        while node.killed_at(step, Verb::Install) && node.read(&path) == before {
            step += 1;
        }
        let level = "\n[debug]\n  level = \"debug\"\n";
        fs::write(node.path(&path), node.read(&path) + level).unwrap();
        // Another request has to roll that back first, and fails itself.
        node.request.settings.options.log_level = LogLevel::Error;
        node.machine.faults.restarts.set(1);
        let report = node.install();
        assert_eq!(report.outcome, Outcome::RolledBack, "{report:#?}");
        assert_eq!(node.read(&path), before + level);
    }
}

#[test]
fn rewritten_configuration_gets_its_handler_again() {
    let node = FakeNode::old();
    node.installed();
    // A node's own agent does this at each boot.
    fs::write(node.path("/etc/containerd/config.toml"), CONFIG).unwrap();
    node.machine.start_containerd();
    node.installed();
    assert_eq!(node.machine.serves(), ["runc", "wasmedge"]);
    node.removed();
    assert_eq!(node.read("/etc/containerd/config.toml"), CONFIG);
}

#[test]
fn lock_allows_one_installer_at_a_time() {
    let node = FakeNode::new();
    let before = node.tree();
    let held = node
        .machine
        .root
        .lock(&NodePath::new("/etc/containerd").unwrap(), Duration::ZERO)
        .unwrap();
    let path = NodePath::new("/etc/containerd").unwrap();
    let second = node
        .machine
        .root
        .lock(&path, Duration::from_millis(300))
        .unwrap_err();
    assert!(
        second
            .to_string()
            .contains("another installer held the lock on /etc/containerd"),
        "{second}"
    );
    node.tree()
        .must_be(&before, "while another one has the lock");
    drop(held);
    node.installed();
}

#[test]
fn installation_is_refused_while_a_change_of_another_runtime_is_pending() {
    let node = FakeNode::new();
    let mut step = 1;
    // Killed right after containerd's restart.
    while node.machine.restarts.get() == 0 {
        assert!(node.killed_at(step, installer_protocol::Verb::Install));
        step += 1;
        if node.machine.restarts.get() == 0 {
            node.removed();
        }
    }
    let other = Request {
        runtime: "other".to_owned(),
        handler: "other".to_owned(),
        ..node.request.clone()
    };
    let report = node.perform(&other);
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::Locked),
        "{}",
        report.message
    );
    node.installed();
    assert_eq!(node.perform(&other).outcome, Outcome::Installed);
}

#[test]
fn removal_is_refused_while_a_change_of_another_runtime_is_pending() {
    let node = FakeNode::new();
    let other = Request {
        runtime: "other".to_owned(),
        handler: "other".to_owned(),
        ..node.request.clone()
    };
    let removal = Request {
        verb: Verb::Uninstall,
        ..other.clone()
    };
    assert_eq!(node.perform(&other).outcome, Outcome::Installed);
    let mut step = 1;
    // Killed between the files and the restart that reads them.
    while node.machine.is_up_to_date() {
        assert!(node.killed_at(step, Verb::Install));
        step += 1;
        if node.machine.is_up_to_date() {
            node.removed();
        }
    }
    let (before, restarts) = (node.tree(), node.machine.restarts.get());
    let report = node.perform(&removal);
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::Locked),
        "{}",
        report.message
    );
    assert_eq!(
        node.machine.restarts.get(),
        restarts,
        "containerd did not read the pending change"
    );
    node.tree().must_be(&before, "after the refusal");
    node.installed();
    assert_eq!(node.perform(&removal).outcome, Outcome::Removed);
}

#[test]
fn unreadable_record_of_another_runtime_is_reported() {
    let record = "/opt/wasmedge-runtime/.state/other/record.json";
    for (text, told) in [
        (
            "{",
            "take the handler out of containerd's configuration by hand",
        ),
        ("{\"format\": 99}", "at least its version"),
    ] {
        let node = FakeNode::new();
        node.installed();
        fs::create_dir_all(node.path(record).parent().unwrap()).unwrap();
        fs::write(node.path(record), text).unwrap();
        let before = node.tree();
        for report in [node.install(), node.uninstall()] {
            assert_eq!(
                (report.outcome, report.reason),
                (Outcome::Refused, Reason::HostFiles),
                "{}",
                report.message
            );
            assert!(
                report.message.contains(record) && report.message.contains(told),
                "{}",
                report.message
            );
        }
        node.tree().must_be(&before, "after both");
    }
}

#[test]
fn damaged_record_is_reported_and_nothing_is_changed() {
    let node = FakeNode::new();
    node.installed();
    fs::write(
        node.path("/opt/wasmedge-runtime/.state/wasmedge/record.json"),
        "{",
    )
    .unwrap();
    let before = node.tree();
    for report in [node.install(), node.uninstall()] {
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Refused, Reason::HostFiles)
        );
        assert!(
            report
                .message
                .contains("take the handler out of containerd's configuration by hand"),
            "{}",
            report.message
        );
    }
    node.tree().must_be(&before, "after both");
}

#[test]
fn invalid_request_is_refused() {
    let node = FakeNode::new();
    let before = node.tree();
    let wrong = [
        Request {
            runtime: "../x".to_owned(),
            ..node.request.clone()
        },
        Request {
            handler: "a\"]".to_owned(),
            ..node.request.clone()
        },
        Request {
            artifact: None,
            ..node.request.clone()
        },
    ];
    for request in wrong {
        let report = node.perform(&request);
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Refused, Reason::InvalidRequest),
            "{}",
            report.message
        );
    }
    node.tree().must_be(&before, "after the refusals");
}

#[test]
fn drop_in_on_an_old_containerd_is_refused() {
    let mut node = FakeNode::old();
    node.request.mode = ConfigMode::DropIn;
    let before = node.tree();
    let report = node.install();
    assert_eq!(report.outcome, Outcome::Refused, "{}", report.message);
    node.tree().must_be(&before, "after the refusal");
}

#[test]
fn full_disk_leaves_the_node_as_it_was() {
    if !is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    // From too small for any file to large enough for all: each size stops another stage.
    let mut outcomes = Vec::new();
    for kilobytes in [
        4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128,
    ] {
        let node = FakeNode::new();
        let _disk = Disk::mount(&node.path("/opt"), kilobytes);
        let before = node.tree();
        let report = node.install();
        outcomes.push(report.outcome);
        if report.outcome != Outcome::Installed {
            assert_eq!(
                report.reason,
                Reason::HostFiles,
                "{kilobytes} kB: {}",
                report.message
            );
            node.tree()
                .must_be(&before, &format!("on a disk of {kilobytes} kB"));
            assert!(node.machine.is_up_to_date());
            assert_eq!(node.machine.serves(), ["runc"]);
        }
    }
    assert_eq!(
        (outcomes.first(), outcomes.last()),
        (Some(&Outcome::Refused), Some(&Outcome::Installed)),
        "{outcomes:?}"
    );
}

#[test]
fn full_disk_of_the_configuration_leaves_the_node_as_it_was() {
    if !is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    for make in [FakeNode::new, FakeNode::old] {
        for kilobytes in [4, 8, 12, 16, 20, 24] {
            let node = make();
            let config = node.read("/etc/containerd/config.toml");
            let _disk = Disk::mount(&node.path("/etc/containerd"), kilobytes);
            fs::write(node.path("/etc/containerd/config.toml"), config).unwrap();
            node.machine.start_containerd();
            let before = node.tree();
            let report = node.install();
            if report.outcome != Outcome::Installed {
                assert!(
                    matches!(report.reason, Reason::HostFiles | Reason::ContainerdConfig),
                    "{kilobytes} kB: {}",
                    report.message
                );
                node.tree()
                    .must_be(&before, &format!("on a disk of {kilobytes} kB"));
            }
            assert!(node.machine.is_up_to_date());
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A small tmpfs that is unmounted on drop.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(folder: &std::path::Path, kilobytes: u32) -> Self {
        let size = format!("size={kilobytes}k,mode=755");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(folder)
            .status()
            .unwrap();
        assert!(done.success());
        Self(folder.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn node_of_another_distribution_than_requested_is_refused() {
    let mut node = FakeNode::new();
    let before = node.tree();
    node.request.distribution = Distribution::K3s;
    fs::create_dir_all(node.path("/var/lib/rancher/k3s/agent/etc/containerd")).unwrap();
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::DistributionMismatch)
    );
    assert!(
        report.message.contains("Systemd") && report.message.contains("spec.containerd.paths"),
        "{}",
        report.message
    );
    fs::remove_dir_all(node.path("/var")).unwrap();
    node.tree().must_be(&before, "after the refusal");
}

#[test]
fn misdetected_node_is_refused_with_the_settings_that_admit_it() {
    let unit = "snap.microk8s.daemon-containerd.service";
    let mut node = FakeNode::with(
        Distribution::Systemd,
        "1.7.24",
        unit,
        &[("/etc/containerd/config.toml", CONFIG)],
    );
    let report = node.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::DistributionMismatch)
    );
    assert!(
        report.message.contains("label microk8s.io/cluster=true"),
        "{}",
        report.message
    );
    node.request.paths.unit = Some(unit.to_owned());
    // The unit's program is not containerd itself, so the file has to be named too.
    assert!(
        node.install()
            .message
            .contains("spec.containerd.paths.config")
    );
    node.request.paths.config = Some("/etc/containerd/config.toml".to_owned());
    node.installed();
}
