//! Kills at every step of a process. The next process continues, or rolls everything back.

use installer_protocol::{CgroupDriver, Outcome, Request, Verb};

use crate::fake_node::{FakeNode, Tree};

/// Maximum number of steps of a process.
const MAX_STEPS: usize = 200;

/// Calls `check` with a new node whose process was killed at each of the steps that `verb` has
/// after `prepare`.
fn at_each_step(
    make: fn() -> FakeNode,
    verb: Verb,
    prepare: impl Fn(&FakeNode),
    check: impl Fn(&FakeNode, &Tree, usize),
) {
    for step in 1..MAX_STEPS {
        let node = make();
        let original = node.tree();
        prepare(&node);
        if !node.killed_at(step, verb) {
            assert!(step > 10, "only {step} steps");
            return;
        }
        check(&node, &original, step);
    }
    panic!("the process has more than {MAX_STEPS} steps");
}

#[test]
fn installation_continues_after_a_kill_at_any_step() {
    for make in [FakeNode::new, FakeNode::old] {
        let whole = make();
        whole.installed();
        at_each_step(
            make,
            Verb::Install,
            |_| {},
            |node, original, step| {
                let restarts = node.machine.restarts.get();
                node.installed();
                assert!(
                    node.machine.restarts.get() <= 1.max(restarts),
                    "step {step}: containerd is not restarted once more"
                );
                assert_eq!(
                    node.tree().0.keys().collect::<Vec<_>>(),
                    whole.tree().0.keys().collect::<Vec<_>>(),
                    "step {step}"
                );
                node.removed();
                node.tree()
                    .must_be(original, &format!("removed after a kill at step {step}"));
            },
        );
    }
}

#[test]
fn installation_is_removed_after_a_kill_at_any_step() {
    for make in [FakeNode::new, FakeNode::old] {
        at_each_step(
            make,
            Verb::Install,
            |_| {},
            |node, original, step| {
                node.removed();
                node.tree()
                    .must_be(original, &format!("removed after a kill at step {step}"));
                assert_eq!(node.machine.serves(), ["runc"]);
            },
        );
    }
}

#[test]
fn removal_continues_after_a_kill_at_any_step() {
    for make in [FakeNode::new, FakeNode::old] {
        at_each_step(
            make,
            Verb::Uninstall,
            |node| drop(node.installed()),
            |node, original, step| {
                node.removed();
                node.tree()
                    .must_be(original, &format!("a kill at step {step}"));
                assert!(node.machine.restarts.get() <= 2, "step {step}");
            },
        );
    }
}

#[test]
fn installation_succeeds_after_a_removal_was_killed_at_any_step() {
    at_each_step(
        FakeNode::new,
        Verb::Uninstall,
        |node| drop(node.installed()),
        |node, original, step| {
            node.installed();
            node.removed();
            node.tree()
                .must_be(original, &format!("a kill at step {step}"));
        },
    );
}

#[test]
fn upgrade_continues_after_a_kill_at_any_step() {
    let prepare = |node: &FakeNode| {
        node.installed();
        node.bundle("1.1.0", "good");
    };
    for make in [FakeNode::new, FakeNode::old] {
        at_each_step(make, Verb::Install, prepare, |node, original, step| {
            let report = node.installed();
            assert_eq!(report.installed.unwrap().version, "1.1.0");
            assert_eq!(node.versions(), 2, "the version and its entry, step {step}");
            node.removed();
            node.tree()
                .must_be(original, &format!("a kill at step {step}"));
        });
    }
}

#[test]
fn new_request_after_a_kill_rolls_the_former_one_back_first() {
    at_each_step(
        FakeNode::old,
        Verb::Install,
        |_| {},
        |node, original, step| {
            node.bundle("1.1.0", "good");
            let other = Request {
                cgroup_driver: CgroupDriver::Cgroupfs,
                ..node.request.clone()
            };
            let report = node.perform(&other);
            assert_eq!(
                report.outcome,
                Outcome::Installed,
                "step {step}: {report:?}"
            );
            assert!(
                node.options().contains("SystemdCgroup = false"),
                "step {step}"
            );
            assert!(node.machine.is_up_to_date(), "step {step}");
            node.removed();
            node.tree()
                .must_be(original, &format!("a kill at step {step}"));
        },
    );
}

#[test]
fn failed_installation_is_rolled_back_also_after_a_kill() {
    let prepare = |node: &FakeNode| node.bundle("1.0.0", "broken");
    for make in [FakeNode::new, FakeNode::old] {
        at_each_step(make, Verb::Install, prepare, |node, original, step| {
            // The next process finds the recorded failure, or its own guest fails.
            let report = node.install();
            assert_eq!(
                report.outcome,
                Outcome::RolledBack,
                "step {step}: {report:?}"
            );
            node.tree()
                .must_be(original, &format!("a kill at step {step}"));
            assert!(node.machine.is_up_to_date());
            assert_eq!(node.machine.serves(), ["runc"]);
        });
    }
}

#[test]
fn failed_upgrade_is_rolled_back_also_after_a_kill() {
    let prepare = |node: &FakeNode| {
        node.installed();
        node.bundle("1.1.0", "broken");
    };
    at_each_step(
        FakeNode::new,
        Verb::Install,
        prepare,
        |node, original, step| {
            let report = node.install();
            assert_eq!(
                report.outcome,
                Outcome::RolledBack,
                "step {step}: {report:?}"
            );
            assert_eq!(report.installed.unwrap().version, "1.0.0");
            assert!(node.machine.is_up_to_date(), "step {step}");
            node.removed();
            node.tree()
                .must_be(original, &format!("a kill at step {step}"));
        },
    );
}
