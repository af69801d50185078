//! The guard: it comes when the installer is gone and nobody else came.

use std::fs;
use std::time::Duration;

use installer_protocol::{Outcome, Reason, Verb};
use node_installer::guard::{Ended, watch};
use node_installer::host::HostPath;
use node_installer::machine::Machine as _;

use crate::bed::Bed;

/// A node whose installer was killed by the restart of containerd.
fn killed_by_the_restart(prepare: fn(&Bed)) -> Bed {
    for step in 1.. {
        let bed = Bed::new();
        prepare(&bed);
        let restarts = bed.fake.restarts.get();
        assert!(bed.killed_at(step, Verb::Install), "no step is a restart");
        if bed.fake.restarts.get() > restarts {
            return bed;
        }
    }
    unreachable!("the steps come to an end");
}

/// Has a restart of containerd fail, and the installer killed on the way back.
fn kill_on_the_way_back(bed: &Bed) {
    for step in 1.. {
        bed.fake.faults.restarts.set(1);
        assert!(
            bed.killed_at(step, Verb::Install),
            "no step is between the restart and the way back"
        );
        if bed.fake.restarts.get() > 0 {
            break;
        }
        bed.fake.faults.restarts.set(0);
        bed.removed();
        bed.fake.restarts.set(0);
    }
    bed.fake.faults.restarts.set(0);
}

/// Time is counted, not looks: each look at a deaf containerd takes some itself.
fn assert_waited(waited: Duration, seconds: u64) {
    assert!(
        (seconds..seconds + 5).contains(&waited.as_secs()),
        "{waited:?} in place of {seconds} s"
    );
}

/// The attempt that the last guard was started for.
fn attempt(bed: &Bed) -> Option<String> {
    let guards = bed.fake.guards.borrow();
    let words = guards.last()?;
    let flag = words.iter().position(|word| word == "--attempt")?;
    Some(words[flag + 1].clone())
}

fn watched(bed: &Bed) -> Option<Ended> {
    let attempt = attempt(bed)?;
    Some(bed.with_job(|job| watch(job, &attempt)))
}

#[test]
fn a_guard_has_nothing_to_do_after_an_installation_and_after_a_way_back() {
    let bed = Bed::new();
    bed.installed();
    assert_eq!(watched(&bed), Some(Ended::NothingToDo));
    bed.bundle("1.1.0", "broken");
    assert_eq!(bed.install().outcome, Outcome::RolledBack);
    assert_eq!(watched(&bed), Some(Ended::NothingToDo));
    bed.removed();
    assert_eq!(watched(&bed), Some(Ended::NothingToDo));
}

#[test]
fn a_guard_takes_back_what_nobody_comes_to_finish() {
    for make in [Bed::new, Bed::old] {
        let mut went = 0;
        for step in 1.. {
            let bed = make();
            let original = bed.tree();
            if !bed.killed_at(step, Verb::Install) {
                break;
            }
            if watched(&bed) != Some(Ended::WentBack) {
                continue;
            }
            went += 1;
            assert!(bed.fake.is_up_to_date(), "step {step}");
            assert_eq!(bed.fake.serves(), ["runc"], "step {step}");
            let told = bed.install();
            assert_eq!(
                (told.outcome, told.reason),
                (Outcome::RolledBack, Reason::Interrupted),
                "step {step}: {}",
                told.message
            );
            bed.tree()
                .must_be(&original, &format!("told after a kill at step {step}"));
            bed.installed();
        }
        assert!(went > 5, "only {went} kills left something to take back");
    }
}

#[test]
fn a_guard_brings_back_a_containerd_that_does_not_start() {
    let bed = Bed::new();
    let original = bed.tree();
    kill_on_the_way_back(&bed);
    let asked = bed.fake.elapsed();
    assert_eq!(watched(&bed), Some(Ended::WentBack));
    assert_waited(bed.fake.elapsed().saturating_sub(asked), 30);
    assert!(bed.fake.is_up_to_date());
    let told = bed.install();
    assert_eq!(
        (told.outcome, told.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        told.message
    );
    bed.tree().must_be(&original, "after it was told");
}

#[test]
fn a_guard_waits_two_minutes_for_the_next_installer_while_containerd_answers() {
    let bed = killed_by_the_restart(|_| {});
    let asked = bed.fake.elapsed();
    assert_eq!(watched(&bed), Some(Ended::WentBack));
    assert_waited(bed.fake.elapsed().saturating_sub(asked), 120);
}

#[test]
fn a_guard_tries_again_after_a_way_back_that_failed() {
    let bed = Bed::new();
    let original = bed.tree();
    kill_on_the_way_back(&bed);
    bed.fake.faults.restarts.set(3);
    assert_eq!(watched(&bed), Some(Ended::WentBack));
    assert_eq!(bed.fake.faults.restarts.get(), 0, "three ways back failed");
    assert!(bed.fake.is_up_to_date());
    assert_eq!(bed.install().outcome, Outcome::RolledBack);
    bed.tree().must_be(&original, "after it was told");
}

#[test]
fn a_guard_looks_again_at_a_record_that_it_could_not_read() {
    let bed = killed_by_the_restart(|_| {});
    let record = bed.path("/opt/wasmedge-runtime/.state/wasmedge/record.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    bed.fake.mend.replace(Some((record, whole)));
    assert_eq!(watched(&bed), Some(Ended::WentBack));
    assert_eq!(bed.fake.serves(), ["runc"]);
}

#[test]
fn a_guard_that_cannot_go_back_ends_when_its_time_is_over() {
    let bed = Bed::new();
    kill_on_the_way_back(&bed);
    bed.fake.faults.restarts.set(u32::MAX);
    let restarts = bed.fake.restarts.get();
    assert_eq!(watched(&bed), Some(Ended::TooOld));
    let tries = bed.fake.restarts.get() - restarts;
    assert!(
        (10..50).contains(&tries),
        "containerd is not restarted again and again: {tries} times"
    );
}

#[test]
fn a_guard_takes_an_upgrade_back_to_the_former_version() {
    let bed = killed_by_the_restart(|bed| {
        bed.installed();
        bed.bundle("1.1.0", "good");
    });
    assert_eq!(watched(&bed), Some(Ended::WentBack));
    assert!(
        bed.fake.guests.borrow().last().unwrap().contains("1.0.0"),
        "the former version is proven"
    );
    let told = bed.install();
    assert_eq!(
        (told.outcome, told.installed.unwrap().version.as_str()),
        (Outcome::RolledBack, "1.0.0")
    );
}

#[test]
fn a_guard_never_meets_an_installer_and_does_not_live_for_ever() {
    let bed = killed_by_the_restart(|_| {});
    let before = bed.tree();
    let installer = bed
        .fake
        .root
        .lock(&HostPath::new("/etc/containerd").unwrap(), Duration::ZERO)
        .unwrap();
    assert_eq!(watched(&bed), Some(Ended::TooOld));
    bed.tree()
        .must_be(&before, "while an installer has the lock");
    drop(installer);
    let older = bed.with_job(|job| watch(job, "another"));
    assert_eq!(
        older,
        Ended::NothingToDo,
        "another attempt is none of its business"
    );
}
