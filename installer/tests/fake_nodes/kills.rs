//! A process can be killed at any step. Whoever comes next goes on from there, or takes everything
//! back.

use installer_protocol::{CgroupDriver, Outcome, Request, Verb};

use crate::bed::{Bed, Tree};

/// More than there are.
const STEPS: usize = 200;

/// Calls `check` with a new node whose process was killed at each of the steps that `verb` has
/// after `prepare`.
fn at_each_step(
    make: fn() -> Bed,
    verb: Verb,
    prepare: impl Fn(&Bed),
    check: impl Fn(&Bed, &Tree, usize),
) {
    for step in 1..STEPS {
        let bed = make();
        let original = bed.tree();
        prepare(&bed);
        if !bed.killed_at(step, verb) {
            assert!(step > 10, "only {step} steps");
            return;
        }
        check(&bed, &original, step);
    }
    panic!("the process has more than {STEPS} steps");
}

#[test]
fn an_installation_goes_on_after_a_kill_at_any_step() {
    for make in [Bed::new, Bed::old] {
        let whole = make();
        whole.installed();
        at_each_step(
            make,
            Verb::Install,
            |_| {},
            |bed, original, step| {
                let restarts = bed.fake.restarts.get();
                bed.installed();
                assert!(
                    bed.fake.restarts.get() <= 1.max(restarts),
                    "step {step}: what was read is not read once more"
                );
                assert_eq!(
                    bed.tree().0.keys().collect::<Vec<_>>(),
                    whole.tree().0.keys().collect::<Vec<_>>(),
                    "step {step}"
                );
                bed.removed();
                bed.tree()
                    .must_be(original, &format!("removed after a kill at step {step}"));
            },
        );
    }
}

#[test]
fn an_installation_is_taken_back_after_a_kill_at_any_step() {
    for make in [Bed::new, Bed::old] {
        at_each_step(
            make,
            Verb::Install,
            |_| {},
            |bed, original, step| {
                bed.removed();
                bed.tree()
                    .must_be(original, &format!("removed after a kill at step {step}"));
                assert_eq!(bed.fake.serves(), ["runc"]);
            },
        );
    }
}

#[test]
fn a_removal_goes_on_after_a_kill_at_any_step() {
    for make in [Bed::new, Bed::old] {
        at_each_step(
            make,
            Verb::Uninstall,
            |bed| drop(bed.installed()),
            |bed, original, step| {
                bed.removed();
                bed.tree()
                    .must_be(original, &format!("a kill at step {step}"));
                assert!(bed.fake.restarts.get() <= 2, "step {step}");
            },
        );
    }
}

#[test]
fn what_is_being_removed_can_be_installed_again_after_a_kill_at_any_step() {
    at_each_step(
        Bed::new,
        Verb::Uninstall,
        |bed| drop(bed.installed()),
        |bed, original, step| {
            bed.installed();
            bed.removed();
            bed.tree()
                .must_be(original, &format!("a kill at step {step}"));
        },
    );
}

#[test]
fn an_upgrade_goes_on_after_a_kill_at_any_step() {
    let prepare = |bed: &Bed| {
        bed.installed();
        bed.bundle("1.1.0", "good");
    };
    for make in [Bed::new, Bed::old] {
        at_each_step(make, Verb::Install, prepare, |bed, original, step| {
            let report = bed.installed();
            assert_eq!(report.installed.unwrap().version, "1.1.0");
            assert_eq!(bed.shelf(), 2, "the version and its entry, step {step}");
            bed.removed();
            bed.tree()
                .must_be(original, &format!("a kill at step {step}"));
        });
    }
}

#[test]
fn another_request_after_a_kill_takes_the_former_one_back_first() {
    at_each_step(
        Bed::old,
        Verb::Install,
        |_| {},
        |bed, original, step| {
            bed.bundle("1.1.0", "good");
            let other = Request {
                cgroup_driver: CgroupDriver::Cgroupfs,
                ..bed.request.clone()
            };
            let report = bed.perform(&other);
            assert_eq!(
                report.outcome,
                Outcome::Installed,
                "step {step}: {report:?}"
            );
            assert!(
                bed.options().contains("SystemdCgroup = false"),
                "step {step}"
            );
            assert!(bed.fake.is_up_to_date(), "step {step}");
            bed.removed();
            bed.tree()
                .must_be(original, &format!("a kill at step {step}"));
        },
    );
}

#[test]
fn a_failed_installation_goes_back_also_after_a_kill_on_the_way() {
    let prepare = |bed: &Bed| bed.bundle("1.0.0", "broken");
    for make in [Bed::new, Bed::old] {
        at_each_step(make, Verb::Install, prepare, |bed, original, step| {
            // The next one either finds that it failed, or that the guest fails again.
            let report = bed.install();
            assert_eq!(
                report.outcome,
                Outcome::RolledBack,
                "step {step}: {report:?}"
            );
            bed.tree()
                .must_be(original, &format!("a kill at step {step}"));
            assert!(bed.fake.is_up_to_date());
            assert_eq!(bed.fake.serves(), ["runc"]);
        });
    }
}

#[test]
fn a_failed_upgrade_leads_back_to_the_former_version_also_after_a_kill_on_the_way() {
    let prepare = |bed: &Bed| {
        bed.installed();
        bed.bundle("1.1.0", "broken");
    };
    at_each_step(Bed::new, Verb::Install, prepare, |bed, original, step| {
        let report = bed.install();
        assert_eq!(
            report.outcome,
            Outcome::RolledBack,
            "step {step}: {report:?}"
        );
        assert_eq!(report.installed.unwrap().version, "1.0.0");
        assert!(bed.fake.is_up_to_date(), "step {step}");
        bed.removed();
        bed.tree()
            .must_be(original, &format!("a kill at step {step}"));
    });
}
