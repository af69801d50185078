//! What a run undoes, in which order, and what a sweep may touch.

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
fn the_last_thing_done_is_the_first_undone() {
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
fn what_cannot_be_undone_does_not_keep_the_rest_from_being_undone() {
    let (_folder, places) = places();
    let run = Run::start_in(&places, "fail").unwrap();
    let (send, order) = mpsc::channel();
    run.on_end("good", move || Ok(send.send("good")?));
    run.on_end("bad", || bail!("no"));
    drop(run);
    assert_eq!(order.recv().unwrap(), "good");
}

#[test]
fn the_folders_of_a_run_go_with_it() {
    let (_folder, places) = places();
    let run = Run::start_in(&places, "folders").unwrap();
    fs::write(run.folder().join("file"), "x").unwrap();
    fs::write(run.disk_folder().unwrap().join("file"), "x").unwrap();
    let (folder, disk) = (run.folder().to_owned(), run.disk_folder().unwrap());
    run.finish().unwrap();
    assert!(!folder.exists() && !disk.exists());
}

#[test]
fn a_sweep_leaves_living_runs_alone_and_removes_dead_ones() {
    let (_folder, places) = places();
    let living = Run::start_in(&places, "living").unwrap();
    let dead = places.run("wr-dead-1");
    fs::create_dir_all(&dead).unwrap();
    let _other = Run::start_in(&places, "other").unwrap();
    assert!(living.folder().exists());
    assert!(!dead.exists());
}

#[test]
fn a_kept_run_lives_as_long_as_its_cell_and_is_found_again() {
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
fn a_kept_run_whose_cell_died_is_swept() {
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
