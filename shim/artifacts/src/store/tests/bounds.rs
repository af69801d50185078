//! Rules of limits, garbage, failures and full disks.

use std::thread;
use std::time::{Duration, SystemTime};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::record::{FAILURE_TTL, Failed, RememberedFailure};

const NONE: Option<&str> = None;

pub(in super::super) fn failed(inputs: &KeyInputs) -> Failed {
    Failed {
        inputs: inputs.clone(),
        module_name: "registry/app:1".to_owned(),
        reason: "the compiler crashed".to_owned(),
    }
}

pub(in super::super) fn fail(store: &Store, inputs: &KeyInputs) {
    let lock = store.lock(&inputs.key()).unwrap();
    store.remember_failure(&lock, failed(inputs)).unwrap();
}

fn fail_at(store: &Store, inputs: &KeyInputs, time: SystemTime, max: usize) {
    let lock = store.lock(&inputs.key()).unwrap();
    let failure = RememberedFailure::new(failed(inputs), time);
    store.write_failure(&lock, &failure, max).unwrap();
}

fn numbered(number: usize) -> KeyInputs {
    inputs(format!("module {number}").as_bytes())
}

/// Sets the last use of an entry.
fn use_at(fixture: &Fixture, key: &Key, time: SystemTime) {
    File::open(fixture.entry(key))
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// Runs `test` in a mount namespace of its own, with a file system in memory on a folder.
pub(super) fn on_tmpfs<T: Send + 'static>(
    flags: MsFlags,
    options: &str,
    test: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    let options = options.to_owned();
    let work = move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
        let folder = TempDir::new().unwrap();
        let options = format!("mode=0755,{options}");
        mount(NONE, folder.path(), Some("tmpfs"), flags, Some(&*options)).unwrap();
        let result = test(folder.path());
        nix::mount::umount2(folder.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        result
    };
    thread::spawn(work).join().unwrap()
}

#[test]
#[ignore = "needs root"]
fn thousands_of_artifacts_stay_within_the_bounds_of_the_store() {
    let mut store = Store::in_memory(64 * MIB).unwrap();
    store.max_entries = 50;
    for number in 0..2000 {
        drop(publish(&store, &numbered(number), b"code"));
    }
    let usage = store.usage().unwrap();
    assert_eq!(usage.entries, 50);
    assert!(store.find(&numbered(1999).key()).unwrap().is_some());
    assert!(store.find(&numbered(0).key()).unwrap().is_none());

    let store = Store::in_memory(MIB).unwrap();
    for number in 0..40 {
        drop(publish(&store, &numbered(number), &vec![7; 100_000]));
        assert!(store.usage().unwrap().bytes <= MIB);
    }
    assert!(store.usage().unwrap().entries >= 8);
}

#[test]
#[ignore = "needs root"]
fn artifact_in_use_is_not_evicted_even_if_the_store_is_full() {
    let store = Store::in_memory(MIB).unwrap();
    let used: Vec<Artifact> = (0..8)
        .map(|number| publish(&store, &numbered(number), &vec![7; 100_000]))
        .collect();
    let refused = try_publish(&store, &numbered(9), &vec![7; 300_000]);
    assert!(
        matches!(refused, Err(StoreError::Full { .. })),
        "{refused:?}"
    );
    let refused = try_publish(&store, &numbered(9), &vec![7; 2_000_000]);
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    for artifact in &used {
        assert_eq!(content(artifact.file()).len(), 100_000);
        assert!(store.find(&artifact.record().key).unwrap().is_some());
    }
    drop(used);
    publish(&store, &numbered(9), &vec![7; 300_000]);
}

#[test]
#[ignore = "needs root"]
fn collection_evicts_by_last_use_over_all_versions_of_the_runtime() {
    let fixture = Fixture::new();
    let now = SystemTime::now();
    let ago = |seconds| now - Duration::from_secs(seconds);
    let mut all = Vec::new();
    for (number, last_use) in [
        ago(40),
        ago(20),
        ago(30),
        // The clock was wrong.
        now + Duration::from_hours(1000),
        ago(10),
    ]
    .into_iter()
    .enumerate()
    {
        let mut inputs = numbered(number);
        inputs.version = format!("0.{number}");
        drop(publish(&fixture.store, &inputs, &[7; 10_000]));
        use_at(&fixture, &inputs.key(), last_use);
        all.push(inputs.key());
    }
    let mut store = fixture.another();
    store.max_entries = 2;
    let collected = store.collect_garbage().unwrap();
    let evicted: Vec<Key> = collected.evicted.iter().map(|(key, _)| *key).collect();
    assert_eq!(evicted, [all[3], all[0], all[2]]);
    assert!(store.find(&all[1]).unwrap().is_some());
    assert!(store.find(&all[4]).unwrap().is_some());
}

#[test]
#[ignore = "needs root"]
fn use_of_an_artifact_postpones_its_eviction() {
    let fixture = Fixture::new();
    for number in 0..3 {
        let key = numbered(number).key();
        drop(publish(&fixture.store, &numbered(number), b"code"));
        let age = Duration::from_secs(100 - number as u64);
        use_at(&fixture, &key, SystemTime::now() - age);
    }
    drop(fixture.store.find(&numbered(0).key()).unwrap());
    let mut store = fixture.another();
    store.max_entries = 2;
    let collected = store.collect_garbage().unwrap();
    let evicted: Vec<Key> = collected.evicted.iter().map(|(key, _)| *key).collect();
    assert_eq!(evicted, [numbered(1).key()]);
}

#[test]
#[ignore = "needs root"]
fn collection_removes_what_killed_processes_left_and_spares_work_under_way() {
    let fixture = Fixture::new();
    let under_way = publish::make_draft(&fixture.store.folders().unwrap().drafts).unwrap();
    let lock = fixture.store.lock(&numbered(0).key()).unwrap();
    let left = fixture.path("drafts/0123");
    fs::create_dir_all(left.join("code")).unwrap();
    fs::write(left.join("code/artifact"), b"half").unwrap();
    fs::write(fixture.path("drafts/file"), b"x").unwrap();
    fs::write(fixture.path(&format!("locks/{}", numbered(1).key())), b"").unwrap();
    let collected = fixture.another().collect_garbage().unwrap();
    assert_eq!((collected.drafts, collected.locks), (2, 1));
    assert!(fixture.path("drafts").join(&under_way.0).exists());
    assert!(fixture.another().try_lock(&lock.key()).unwrap().is_none());
    drop(under_way);
    assert_eq!(fixture.another().collect_garbage().unwrap().drafts, 1);
}

#[test]
#[ignore = "needs root"]
fn share_of_the_disk_bounds_the_store() {
    on_tmpfs(MsFlags::empty(), "size=10m", |folder| {
        let mut options = options(&folder.join("artifacts"));
        options.max_disk_share = Percent::new(20).unwrap();
        let store = Store::open(options).unwrap();
        assert_eq!(store.usage().unwrap().max_bytes, 2 * MIB);
        for number in 0..4 {
            drop(publish(&store, &numbered(number), &vec![7; 900_000]));
        }
        assert_eq!(store.usage().unwrap().entries, 2);
        let refused = try_publish(&store, &numbered(9), &vec![7; 2_100_000]);
        assert!(
            matches!(refused, Err(StoreError::TooLarge { .. })),
            "{refused:?}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn nearly_full_disk_evicts_before_it_refuses() {
    on_tmpfs(MsFlags::empty(), "size=4m", |folder| {
        let store = Store::open(options(&folder.join("artifacts"))).unwrap();
        drop(publish(&store, &numbered(0), &vec![7; 1_000_000]));
        fs::write(folder.join("other"), vec![7; 2_500_000]).unwrap();
        drop(publish(&store, &numbered(1), &vec![7; 1_000_000]));
        assert!(store.find(&numbered(0).key()).unwrap().is_none());
        let used = store.find(&numbered(1).key()).unwrap().unwrap();
        let refused = try_publish(&store, &numbered(2), &vec![7; 1_000_000]);
        assert!(
            matches!(refused, Err(StoreError::Full { .. })),
            "{refused:?}"
        );
        assert_eq!(content(used.file()).len(), 1_000_000);
    });
}

#[test]
#[ignore = "needs root"]
fn disk_that_fills_at_any_step_of_a_publication_leaves_nothing() {
    let attempt = |inodes: u32| {
        on_tmpfs(
            MsFlags::empty(),
            &format!("size=4m,nr_inodes={inodes}"),
            |folder| {
                let root = folder.join("artifacts");
                let Ok(store) = Store::open(options(&root)) else {
                    return None;
                };
                let names = |part: &str| fs::read_dir(root.join("v1").join(part)).unwrap().count();
                let lock = match store.lock(&numbered(0).key()) {
                    Ok(lock) => lock,
                    Err(error) => {
                        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
                        return Some(false);
                    }
                };
                let draft = store.draft(&lock, SPACE).unwrap();
                write(&draft, b"code");
                let published = store.publish(lock, draft, made(&numbered(0)));
                assert_eq!((names("drafts"), names("locks")), (0, 0));
                match published {
                    Ok(_) => Some(true),
                    Err(error) => {
                        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
                        assert_eq!(names("entries"), 0);
                        Some(false)
                    }
                }
            },
        )
    };
    let results: Vec<Option<bool>> = (1..24).map(attempt).collect();
    let refused = results
        .iter()
        .filter(|result| **result == Some(false))
        .count();
    assert!(refused >= 4, "each file and folder fails once: {results:?}");
    assert_eq!(results.last(), Some(&Some(true)));
}

#[test]
#[ignore = "needs root"]
fn failed_compile_is_remembered_for_a_day_and_forgotten_by_a_success() {
    let fixture = Fixture::new();
    let key = numbered(0).key();
    assert_eq!(fixture.store.failure(&key).unwrap(), None);
    fail(&fixture.store, &numbered(0));
    let failure = fixture.another().failure(&key).unwrap().unwrap();
    assert_eq!(
        (failure.key, &*failure.reason),
        (key, "the compiler crashed")
    );
    assert_eq!(failure.inputs.version, numbered(0).version);
    assert_eq!(fixture.store.failures().unwrap(), [failure]);
    drop(publish(&fixture.store, &numbered(0), b"code"));
    assert_eq!(fixture.store.failure(&key).unwrap(), None);

    let now = SystemTime::now();
    let jumps = [now - FAILURE_TTL, now + Duration::from_hours(1)];
    for (number, time) in jumps.into_iter().enumerate() {
        fail_at(&fixture.store, &numbered(number), time, 100);
        assert_eq!(
            fixture.store.failure(&numbered(number).key()).unwrap(),
            None
        );
        fixture.store.collect_garbage().unwrap();
        assert_eq!(fs::read_dir(fixture.path("failures")).unwrap().count(), 0);
    }
}

#[test]
#[ignore = "needs root"]
fn remembered_failures_are_bounded_and_the_oldest_are_forgotten() {
    let store = Store::in_memory(MIB).unwrap();
    let now = SystemTime::now();
    for number in 0..30 {
        let time = now - Duration::from_secs(1000 - number as u64);
        fail_at(&store, &numbered(number), time, 10);
    }
    let left = store.failures().unwrap();
    assert_eq!(left.len(), 10);
    assert_eq!(left[0].key, numbered(29).key());
    assert_eq!(left[9].key, numbered(20).key());
}

#[test]
#[ignore = "needs root"]
fn damaged_failure_prevents_nothing() {
    let fixture = Fixture::new();
    let key = numbered(0).key();
    fail(&fixture.store, &numbered(0));
    flip(&fixture.path(&format!("failures/{key}.json")), 60);
    assert_eq!(fixture.store.failure(&key).unwrap(), None);
    assert_eq!(fixture.store.collect_garbage().unwrap().failures, 1);
}
