//! Tests of clean-up: its order, and the scope of a sweep.

use std::process::Command;
use std::sync::mpsc;

use super::*;

fn places() -> (tempfile::TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let places = Places {
        runs: folder.path().join("runs"),
        disks: folder.path().join("disks"),
    };
    (folder, places)
}

#[test]
fn last_registered_action_is_undone_first() {
    let (_folder, places) = places();
    let run = Run::start_in(&places, "order").unwrap();
    let (send, order) = mpsc::channel();
    for number in 1..=3 {
        let send = send.clone();
        run.on_end(number, move || Ok(send.send(number)?));
    }
    run.finish().unwrap();
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [3, 2, 1]);
}

#[test]
fn failed_undo_does_not_skip_the_others() {
    let (_folder, places) = places();
    let run = Run::start_in(&places, "fail").unwrap();
    let (send, order) = mpsc::channel();
    run.on_end("good", move || Ok(send.send("good")?));
    run.on_end("bad", || bail!("no"));
    drop(run);
    assert_eq!(order.recv().unwrap(), "good");
}

#[test]
fn folders_of_a_run_are_removed_with_it() {
    let (_folder, places) = places();
    let run = Run::start_in(&places, "folders").unwrap();
    fs::write(run.folder().join("file"), "x").unwrap();
    fs::write(run.disk_folder().unwrap().join("file"), "x").unwrap();
    let (folder, disk) = (run.folder().to_owned(), run.disk_folder().unwrap());
    run.finish().unwrap();
    assert!(!folder.exists() && !disk.exists());
}

#[test]
fn sweep_removes_dead_runs_only() {
    let (_folder, places) = places();
    let living = Run::start_in(&places, "living").unwrap();
    let dead = places.run("wr-dead-1");
    fs::create_dir_all(&dead).unwrap();
    let _other = Run::start_in(&places, "other").unwrap();
    assert!(living.folder().exists());
    assert!(!dead.exists());
}

#[test]
fn kept_run_is_found_while_its_namespace_is_alive() {
    let (_folder, places) = places();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    let run = Run::start_in(&places, "kept-a").unwrap();
    let folder = run.folder().to_owned();
    run.record(&process).unwrap();
    run.keep().unwrap();

    let _other = Run::start_in(&places, "other").unwrap();
    assert!(folder.exists() && process.is_alive());
    assert!(Run::kept_in(&places, "kept").unwrap().is_none());

    let again = Run::kept_in(&places, "kept-a").unwrap().unwrap();
    assert_eq!(again.folder(), folder);
    again.finish().unwrap();
    assert!(!folder.exists() && !process.is_alive());
    child.wait().unwrap();
}

#[test]
fn kept_run_with_a_dead_namespace_is_swept() {
    let (_folder, places) = places();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let run = Run::start_in(&places, "gone").unwrap();
    let folder = run.folder().to_owned();
    run.record(&Process::of(i32::try_from(child.id()).unwrap()).unwrap())
        .unwrap();
    run.keep().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let _other = Run::start_in(&places, "other").unwrap();
    assert!(!folder.exists());
}
