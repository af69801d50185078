//! The guard: rolls a change back when no installer is left.

use std::fs;
use std::time::Duration;

use installer_protocol::{Outcome, Reason, Verb};
use node_installer::guard::{GuardEnd, watch};
use node_installer::machine::Machine as _;
use node_installer::node_root::NodePath;

use crate::fake_node::FakeNode;

/// Makes a node with an installer that was killed by the restart of containerd.
fn killed_by_the_restart(prepare: fn(&FakeNode)) -> FakeNode {
    for step in 1.. {
        let node = FakeNode::new();
        prepare(&node);
        let restarts = node.machine.restarts.get();
        assert!(node.killed_at(step, Verb::Install), "no step is a restart");
        if node.machine.restarts.get() > restarts {
            return node;
        }
    }
    unreachable!("the steps come to an end");
}

/// Makes a restart of containerd fail and kills the installer during the rollback.
fn kill_on_the_way_back(node: &FakeNode) {
    for step in 1.. {
        node.machine.faults.restarts.set(1);
        assert!(
            node.killed_at(step, Verb::Install),
            "no step is between the restart and the rollback"
        );
        if node.machine.restarts.get() > 0 {
            break;
        }
        node.machine.faults.restarts.set(0);
        node.removed();
        node.machine.restarts.set(0);
    }
    node.machine.faults.restarts.set(0);
}

/// Compares the fake time. Each call of a containerd that does not answer takes some of it.
fn assert_waited(waited: Duration, seconds: u64) {
    assert!(
        (seconds..seconds + 5).contains(&waited.as_secs()),
        "{waited:?} in place of {seconds} s"
    );
}

/// Returns the attempt of the last started guard.
fn attempt(node: &FakeNode) -> Option<String> {
    let guards = node.machine.guards.borrow();
    let words = guards.last()?;
    let flag = words.iter().position(|word| word == "--attempt")?;
    Some(words[flag + 1].clone())
}

fn watched(node: &FakeNode) -> Option<GuardEnd> {
    let attempt = attempt(node)?;
    Some(node.with_installation(|installation| watch(installation, &attempt)))
}

#[test]
fn guard_has_nothing_to_do_after_an_installation_or_a_rollback() {
    let node = FakeNode::new();
    node.installed();
    assert_eq!(watched(&node), Some(GuardEnd::NothingToDo));
    node.bundle("1.1.0", "broken");
    assert_eq!(node.install().outcome, Outcome::RolledBack);
    assert_eq!(watched(&node), Some(GuardEnd::NothingToDo));
    node.removed();
    assert_eq!(watched(&node), Some(GuardEnd::NothingToDo));
}

#[test]
fn guard_rolls_back_a_change_that_no_installer_finishes() {
    for make in [FakeNode::new, FakeNode::old] {
        let mut went = 0;
        for step in 1.. {
            let node = make();
            let original = node.tree();
            if !node.killed_at(step, Verb::Install) {
                break;
            }
            if watched(&node) != Some(GuardEnd::RolledBack) {
                continue;
            }
            went += 1;
            assert!(node.machine.is_up_to_date(), "step {step}");
            assert_eq!(node.machine.serves(), ["runc"], "step {step}");
            let told = node.install();
            assert_eq!(
                (told.outcome, told.reason),
                (Outcome::RolledBack, Reason::Interrupted),
                "step {step}: {}",
                told.message
            );
            node.tree()
                .must_be(&original, &format!("reported after a kill at step {step}"));
            node.installed();
        }
        assert!(went > 5, "only {went} kills left something to take back");
    }
}

#[test]
fn guard_restores_a_containerd_that_does_not_start() {
    let node = FakeNode::new();
    let original = node.tree();
    kill_on_the_way_back(&node);
    let asked = node.machine.elapsed();
    assert_eq!(watched(&node), Some(GuardEnd::RolledBack));
    assert_waited(node.machine.elapsed().saturating_sub(asked), 30);
    assert!(node.machine.is_up_to_date());
    let told = node.install();
    assert_eq!(
        (told.outcome, told.reason),
        (Outcome::RolledBack, Reason::ContainerdRestart),
        "{}",
        told.message
    );
    node.tree().must_be(&original, "after the report");
}

#[test]
fn guard_waits_two_minutes_for_the_next_installer_while_containerd_answers() {
    let node = killed_by_the_restart(|_| {});
    let asked = node.machine.elapsed();
    assert_eq!(watched(&node), Some(GuardEnd::RolledBack));
    assert_waited(node.machine.elapsed().saturating_sub(asked), 120);
}

#[test]
fn guard_retries_after_a_failed_rollback() {
    let node = FakeNode::new();
    let original = node.tree();
    kill_on_the_way_back(&node);
    node.machine.faults.restarts.set(3);
    assert_eq!(watched(&node), Some(GuardEnd::RolledBack));
    assert_eq!(
        node.machine.faults.restarts.get(),
        0,
        "three rollbacks failed"
    );
    assert!(node.machine.is_up_to_date());
    assert_eq!(node.install().outcome, Outcome::RolledBack);
    node.tree().must_be(&original, "after the report");
}

#[test]
fn guard_retries_after_an_unreadable_record() {
    let node = killed_by_the_restart(|_| {});
    let record = node.path("/opt/wasmedge-runtime/.state/wasmedge/record.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    node.machine.mend.replace(Some((record, whole)));
    assert_eq!(watched(&node), Some(GuardEnd::RolledBack));
    assert_eq!(node.machine.serves(), ["runc"]);
}

#[test]
fn guard_that_cannot_roll_back_ends_after_its_timeout() {
    let node = FakeNode::new();
    kill_on_the_way_back(&node);
    node.machine.faults.restarts.set(u32::MAX);
    let restarts = node.machine.restarts.get();
    assert_eq!(watched(&node), Some(GuardEnd::TimedOut));
    let tries = node.machine.restarts.get() - restarts;
    assert!(
        (10..50).contains(&tries),
        "containerd is not restarted again and again: {tries} times"
    );
}

#[test]
fn guard_rolls_an_upgrade_back_to_the_former_version() {
    let node = killed_by_the_restart(|node| {
        node.installed();
        node.bundle("1.1.0", "good");
    });
    assert_eq!(watched(&node), Some(GuardEnd::RolledBack));
    assert!(
        node.machine
            .guests
            .borrow()
            .last()
            .unwrap()
            .contains("1.0.0"),
        "the former version is proven"
    );
    let told = node.install();
    assert_eq!(
        (told.outcome, told.installed.unwrap().version.as_str()),
        (Outcome::RolledBack, "1.0.0")
    );
}

#[test]
fn guard_waits_while_an_installer_holds_the_lock_and_times_out() {
    let node = killed_by_the_restart(|_| {});
    let before = node.tree();
    let installer = node
        .machine
        .root
        .lock(&NodePath::new("/etc/containerd").unwrap(), Duration::ZERO)
        .unwrap();
    assert_eq!(watched(&node), Some(GuardEnd::TimedOut));
    node.tree()
        .must_be(&before, "while an installer has the lock");
    drop(installer);
    let older = node.with_installation(|installation| watch(installation, "another"));
    assert_eq!(
        older,
        GuardEnd::NothingToDo,
        "a guard acts on its own attempt only"
    );
}
