//! What goes wrong: nothing is touched, or everything is as it was.

use std::fs;
use std::process::Command;
use std::time::Duration;

use installer_protocol::report::Restart;
use installer_protocol::settings::LogLevel;
use installer_protocol::{Distribution, Mode, Outcome, Reason, Request, Settings, Stage, Verb};
use node_installer::host::HostPath;

use crate::bed::{Bed, CONFIG};

#[test]
fn a_runtime_that_does_not_run_is_taken_back() {
    for bed in [Bed::new(), Bed::old()] {
        let before = bed.tree();
        bed.bundle("1.0.0", "broken");
        let report = bed.install();
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
        bed.tree().must_be(&before, "after the way back");
        assert_eq!(bed.fake.serves(), ["runc"]);
    }
}

#[test]
fn an_upgrade_that_does_not_run_leads_back_to_the_former_version() {
    for bed in [Bed::new(), Bed::old()] {
        bed.installed();
        let before = bed.tree();
        bed.bundle("1.1.0", "broken");
        let report = bed.install();
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::RolledBack, Reason::SmokeFailed),
            "{}",
            report.message
        );
        assert_eq!(report.installed.unwrap().version, "1.0.0");
        let mut after = bed.tree();
        let record = std::path::Path::new("opt/wasmedge-runtime/.state/wasmedge/record.json");
        // It also tells when containerd's configuration was written last.
        after.0.insert(record.to_owned(), before.0[record].clone());
        after.must_be(&before, "after the way back");
        assert!(
            bed.fake.guests.borrow().last().unwrap().contains("1.0.0"),
            "the former version is proven again"
        );
    }
}

#[test]
fn a_configuration_that_containerd_refuses_is_never_written() {
    for bed in [Bed::new(), Bed::old()] {
        let before = bed.tree();
        bed.fake.faults.refused.set(Some("wasmedge"));
        let report = bed.install();
        assert_eq!(
            (report.outcome, report.stage, report.reason),
            (Outcome::Refused, Stage::Configure, Reason::ContainerdConfig)
        );
        bed.tree().must_be(&before, "after the refusal");
        assert_eq!(bed.fake.restarts.get(), 0);
    }
}

#[test]
fn a_containerd_that_does_not_start_gets_its_configuration_back() {
    for bed in [Bed::new(), Bed::old()] {
        let before = bed.tree();
        bed.fake.faults.restarts.set(1);
        let report = bed.install();
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
        bed.tree().must_be(&before, "after the way back");
        assert!(bed.fake.is_up_to_date());
    }
}

#[test]
fn a_node_that_cannot_be_brought_back_is_told_and_tried_again() {
    let bed = Bed::new();
    let before = bed.tree();
    bed.fake.faults.restarts.set(2);
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Broken, Reason::ContainerdRestart)
    );
    assert!(
        report.message.contains("the way back failed"),
        "{}",
        report.message
    );
    assert_eq!(
        bed.read("/etc/containerd/config.toml"),
        CONFIG,
        "the bytes are back all the same"
    );

    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        report.message
    );
    bed.tree().must_be(&before, "after the second way back");
    bed.installed();
}

#[test]
fn a_containerd_that_does_not_list_the_handler_is_taken_back() {
    let bed = Bed::new();
    let before = bed.tree();
    bed.fake.faults.deaf.set(true);
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::HandlerMissing),
        "{}",
        report.message
    );
    bed.tree().must_be(&before, "after the way back");
}

#[test]
fn a_runtime_that_no_longer_runs_is_told_as_broken() {
    let bed = Bed::new();
    bed.installed();
    let before = bed.tree();
    bed.fake.faults.guests.set(true);
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Broken, Reason::SmokeFailed)
    );
    bed.tree().must_be(&before, "nothing older is known");
}

#[test]
fn a_removal_that_fails_brings_the_runtime_back() {
    let bed = Bed::new();
    bed.installed();
    bed.fake.faults.restarts.set(1);
    let report = bed.uninstall();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        report.message
    );
    assert_eq!(report.installed.unwrap().version, "1.0.0");
    assert_eq!(bed.fake.serves(), ["runc", "wasmedge"]);
    bed.removed();
}

#[test]
fn what_somebody_else_wrote_in_the_meantime_stays() {
    for bed in [Bed::new(), Bed::old()] {
        bed.installed();
        let config = bed.path("/etc/containerd/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n[debug]\n  level = \"debug\"\n")).unwrap();
        bed.removed();
        assert_eq!(
            fs::read_to_string(&config).unwrap(),
            format!("{CONFIG}\n[debug]\n  level = \"debug\"\n")
        );
    }
}

#[test]
fn going_back_keeps_what_was_chosen_before_also_beside_somebody_elses_change() {
    for mut bed in [Bed::new(), Bed::old()] {
        bed.request.settings = Settings {
            log_level: LogLevel::Warn,
            ..Settings::default()
        };
        let path = bed.installed().host.config_path;
        let before = bed.read(&path);
        bed.request.settings.log_level = LogLevel::Trace;
        // An installer is killed between its files and its proof, and then somebody else writes to
        // the file.
        let mut step = 1;
        while bed.killed_at(step, Verb::Install) && bed.read(&path) == before {
            step += 1;
        }
        let level = "\n[debug]\n  level = \"debug\"\n";
        fs::write(bed.path(&path), bed.read(&path) + level).unwrap();
        // Another request has to take that back first, and fails itself.
        bed.request.settings.log_level = LogLevel::Error;
        bed.fake.faults.restarts.set(1);
        let report = bed.install();
        assert_eq!(report.outcome, Outcome::RolledBack, "{report:#?}");
        assert_eq!(bed.read(&path), before + level);
    }
}

#[test]
fn a_configuration_that_was_written_anew_gets_its_handler_again() {
    let bed = Bed::old();
    bed.installed();
    // As a node's own agent does at each boot.
    fs::write(bed.path("/etc/containerd/config.toml"), CONFIG).unwrap();
    bed.fake.start_containerd();
    bed.installed();
    assert_eq!(bed.fake.serves(), ["runc", "wasmedge"]);
    bed.removed();
    assert_eq!(bed.read("/etc/containerd/config.toml"), CONFIG);
}

#[test]
fn one_installer_at_a_time_changes_a_node() {
    let bed = Bed::new();
    let before = bed.tree();
    let held = bed
        .fake
        .root
        .lock(&HostPath::new("/etc/containerd").unwrap(), Duration::ZERO)
        .unwrap();
    let path = HostPath::new("/etc/containerd").unwrap();
    let second = bed
        .fake
        .root
        .lock(&path, Duration::from_millis(300))
        .unwrap_err();
    assert!(
        second
            .to_string()
            .contains("another installer held the lock on /etc/containerd"),
        "{second}"
    );
    bed.tree()
        .must_be(&before, "while another one has the lock");
    drop(held);
    bed.installed();
}

#[test]
fn a_runtime_waits_while_anothers_change_is_not_proven() {
    let bed = Bed::new();
    let mut step = 1;
    // Killed right after containerd's restart.
    while bed.fake.restarts.get() == 0 {
        assert!(bed.killed_at(step, installer_protocol::Verb::Install));
        step += 1;
        if bed.fake.restarts.get() == 0 {
            bed.removed();
        }
    }
    let other = Request {
        runtime: "other".to_owned(),
        handler: "other".to_owned(),
        ..bed.request.clone()
    };
    let report = bed.perform(&other);
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::Locked),
        "{}",
        report.message
    );
    bed.installed();
    assert_eq!(bed.perform(&other).outcome, Outcome::Installed);
}

#[test]
fn a_removal_waits_while_anothers_change_is_not_proven() {
    let bed = Bed::new();
    let other = Request {
        runtime: "other".to_owned(),
        handler: "other".to_owned(),
        ..bed.request.clone()
    };
    let removal = Request {
        verb: Verb::Uninstall,
        ..other.clone()
    };
    assert_eq!(bed.perform(&other).outcome, Outcome::Installed);
    let mut step = 1;
    // Killed between the files and the restart that reads them.
    while bed.fake.is_up_to_date() {
        assert!(bed.killed_at(step, Verb::Install));
        step += 1;
        if bed.fake.is_up_to_date() {
            bed.removed();
        }
    }
    let (before, restarts) = (bed.tree(), bed.fake.restarts.get());
    let report = bed.perform(&removal);
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::Locked),
        "{}",
        report.message
    );
    assert_eq!(
        bed.fake.restarts.get(),
        restarts,
        "containerd did not read what is not proven"
    );
    bed.tree().must_be(&before, "after the refusal");
    bed.installed();
    assert_eq!(bed.perform(&removal).outcome, Outcome::Removed);
}

#[test]
fn another_runtimes_record_that_cannot_be_understood_is_told() {
    let record = "/opt/wasmedge-runtime/.state/other/record.json";
    for (text, told) in [
        (
            "{",
            "take the handler out of containerd's configuration by hand",
        ),
        ("{\"format\": 99}", "at least its version"),
    ] {
        let bed = Bed::new();
        bed.installed();
        fs::create_dir_all(bed.path(record).parent().unwrap()).unwrap();
        fs::write(bed.path(record), text).unwrap();
        let before = bed.tree();
        for report in [bed.install(), bed.uninstall()] {
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
        bed.tree().must_be(&before, "after both");
    }
}

#[test]
fn a_damaged_record_is_told_and_nothing_is_guessed() {
    let bed = Bed::new();
    bed.installed();
    fs::write(
        bed.path("/opt/wasmedge-runtime/.state/wasmedge/record.json"),
        "{",
    )
    .unwrap();
    let before = bed.tree();
    for report in [bed.install(), bed.uninstall()] {
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
    bed.tree().must_be(&before, "after both");
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let bed = Bed::new();
    let before = bed.tree();
    let wrong = [
        Request {
            runtime: "../x".to_owned(),
            ..bed.request.clone()
        },
        Request {
            handler: "a\"]".to_owned(),
            ..bed.request.clone()
        },
        Request {
            artifact: None,
            ..bed.request.clone()
        },
    ];
    for request in wrong {
        let report = bed.perform(&request);
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Refused, Reason::InvalidRequest),
            "{}",
            report.message
        );
    }
    bed.tree().must_be(&before, "after the refusals");
}

#[test]
fn a_drop_in_is_refused_where_it_would_replace_everything() {
    let mut bed = Bed::old();
    bed.request.mode = Mode::DropIn;
    let before = bed.tree();
    let report = bed.install();
    assert_eq!(report.outcome, Outcome::Refused, "{}", report.message);
    bed.tree().must_be(&before, "after the refusal");
}

#[test]
fn a_full_disk_leaves_the_node_as_it_was() {
    if !is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    // From too small for anything to large enough for all: each limit ends another stage.
    let mut outcomes = Vec::new();
    for kilobytes in [
        4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128,
    ] {
        let bed = Bed::new();
        let _disk = Disk::mount(&bed.path("/opt"), kilobytes);
        let before = bed.tree();
        let report = bed.install();
        outcomes.push(report.outcome);
        if report.outcome != Outcome::Installed {
            assert_eq!(
                report.reason,
                Reason::HostFiles,
                "{kilobytes} kB: {}",
                report.message
            );
            bed.tree()
                .must_be(&before, &format!("on a disk of {kilobytes} kB"));
            assert!(bed.fake.is_up_to_date());
            assert_eq!(bed.fake.serves(), ["runc"]);
        }
    }
    assert_eq!(
        (outcomes.first(), outcomes.last()),
        (Some(&Outcome::Refused), Some(&Outcome::Installed)),
        "{outcomes:?}"
    );
}

#[test]
fn a_full_disk_of_the_configuration_leaves_the_node_as_it_was() {
    if !is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    for make in [Bed::new, Bed::old] {
        for kilobytes in [4, 8, 12, 16, 20, 24] {
            let bed = make();
            let config = bed.read("/etc/containerd/config.toml");
            let _disk = Disk::mount(&bed.path("/etc/containerd"), kilobytes);
            fs::write(bed.path("/etc/containerd/config.toml"), config).unwrap();
            bed.fake.start_containerd();
            let before = bed.tree();
            let report = bed.install();
            if report.outcome != Outcome::Installed {
                assert!(
                    matches!(report.reason, Reason::HostFiles | Reason::ContainerdConfig),
                    "{kilobytes} kB: {}",
                    report.message
                );
                bed.tree()
                    .must_be(&before, &format!("on a disk of {kilobytes} kB"));
            }
            assert!(bed.fake.is_up_to_date());
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A small file system.
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
fn another_host_than_the_request_says_is_refused() {
    let mut bed = Bed::new();
    let before = bed.tree();
    bed.request.distribution = Distribution::K3s;
    fs::create_dir_all(bed.path("/var/lib/rancher/k3s/agent/etc/containerd")).unwrap();
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::DistributionMismatch)
    );
    assert!(
        report.message.contains("Systemd") && report.message.contains("spec.containerd.paths"),
        "{}",
        report.message
    );
    fs::remove_dir_all(bed.path("/var")).unwrap();
    bed.tree().must_be(&before, "after the refusal");
}

#[test]
fn a_host_that_was_taken_for_another_is_told_what_its_admin_can_say_of_it() {
    let unit = "snap.microk8s.daemon-containerd.service";
    let mut bed = Bed::with(
        Distribution::Systemd,
        "1.7.24",
        unit,
        &[("/etc/containerd/config.toml", CONFIG)],
    );
    let report = bed.install();
    assert_eq!(
        (report.outcome, report.reason),
        (Outcome::Refused, Reason::DistributionMismatch)
    );
    assert!(
        report.message.contains("label microk8s.io/cluster=true"),
        "{}",
        report.message
    );
    bed.request.paths.unit = Some(unit.to_owned());
    // Its program is not containerd itself, so that the file has to be named as well.
    assert!(
        bed.install()
            .message
            .contains("spec.containerd.paths.config")
    );
    bed.request.paths.config = Some("/etc/containerd/config.toml".to_owned());
    bed.installed();
}
