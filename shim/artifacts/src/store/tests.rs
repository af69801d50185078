//! Rules of the store, on a real file system. Most need root: the store trusts nothing else.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, openat};
use rustix::io::Errno;
use tempfile::TempDir;

use super::*;
use crate::digest::Sha256Digest;
use crate::draft::ARTIFACT;
use crate::key::KeyInputs;
use crate::key::tests::inputs;
use crate::record::Made;

mod bounds;
mod folder;
mod hostile;

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) const SPACE: DraftSpace = DraftSpace {
    max_bytes: 16 * MIB,
    uid: 65534,
    gid: 65534,
};

/// A store in a folder of the test.
pub(super) struct Fixture {
    pub(super) store: Store,
    root: PathBuf,
    _folder: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("artifacts");
        Self {
            store: Store::open(options(&root)).unwrap(),
            root,
            _folder: folder,
        }
    }

    /// The store as another process sees it: with nothing verified yet.
    pub(super) fn another(&self) -> Store {
        Store::open(options(&self.root)).unwrap()
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join("v1").join(below)
    }

    pub(super) fn entry(&self, key: &Key) -> PathBuf {
        self.path("entries").join(key.to_string())
    }

    /// The names in `drafts`, which only unfinished work leaves.
    pub(super) fn drafts(&self) -> usize {
        fs::read_dir(self.path("drafts")).unwrap().count()
    }
}

pub(super) fn options(folder: &Path) -> StoreOptions {
    StoreOptions {
        folder: folder.to_owned(),
        max_bytes: 64 * MIB,
        max_disk_share: Percent::WHOLE,
    }
}

pub(super) fn made(inputs: &KeyInputs) -> Made {
    Made {
        inputs: inputs.clone(),
        module_name: "registry/app:1".to_owned(),
        compile_cpu_ms: 12,
        compile_peak_bytes: 34,
    }
}

pub(super) fn write(draft: &Draft, content: &[u8]) -> File {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(draft.folder(), ARTIFACT, flags, Mode::RUSR | Mode::WUSR).unwrap();
    let mut file = File::from(file);
    file.write_all(content).unwrap();
    file
}

pub(super) fn try_publish(
    store: &Store,
    inputs: &KeyInputs,
    content: &[u8],
) -> Result<Artifact, StoreError> {
    let lock = store.lock(&inputs.key()).unwrap();
    let draft = store.draft(&lock, SPACE).unwrap();
    write(&draft, content);
    store.publish(lock, draft, made(inputs))
}

pub(super) fn publish(store: &Store, inputs: &KeyInputs, content: &[u8]) -> Artifact {
    try_publish(store, inputs, content).unwrap()
}

pub(super) fn content(file: impl AsFd) -> Vec<u8> {
    let mut file = File::from(file.as_fd().try_clone_to_owned().unwrap());
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The names in a folder.
pub(super) fn names(folder: impl AsFd) -> Vec<String> {
    let folder = openat(folder, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let names = Dir::new(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|name| name.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    names
}

/// Damages an entry.
type Damage = fn(&Path);

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
#[ignore = "needs root"]
fn published_artifact_is_found_with_its_record_and_bytes() {
    let fixture = Fixture::new();
    let memory = Store::in_memory(MIB).unwrap();
    for store in [&fixture.store, &memory] {
        let inputs = inputs(b"module");
        let key = inputs.key();
        assert!(store.find(&key).unwrap().is_none());
        let artifact = publish(store, &inputs, b"code");
        let record = artifact.record().clone();
        assert_eq!((record.key, &record.inputs), (key, &inputs));
        assert_eq!((record.size, record.sha256), (4, Sha256Digest::of(b"code")));
        assert_eq!(record.module_name, "registry/app:1");
        drop(artifact);
        let found = store.find(&key).unwrap().unwrap();
        assert_eq!(found.record(), &record);
        assert_eq!(content(found.file()), b"code");
        assert_eq!(content(found.file_for_guest().unwrap()), b"code");
    }
    let artifact = fixture
        .another()
        .find(&inputs(b"module").key())
        .unwrap()
        .unwrap();
    assert_eq!(content(artifact.file()), b"code");
    assert_eq!(fixture.drafts(), 0);
    assert_eq!(fs::read_dir(fixture.path("locks")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn guest_sees_one_read_only_artifact_and_nothing_above_it() {
    let fixture = Fixture::new();
    let memory = Store::in_memory(MIB).unwrap();
    for store in [&fixture.store, &memory] {
        publish(store, &inputs(b"other"), b"other");
        let artifact = publish(store, &inputs(b"module"), b"code");
        let folder = artifact.folder_for_guest().unwrap();
        assert_eq!(names(&folder), [ARTIFACT]);
        let open = |name: &str, flags| openat(&folder, name, flags, Mode::RWXU);
        let file = open(ARTIFACT, OFlags::RDONLY).unwrap();
        assert_eq!(content(&file), b"code");
        let inode = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        let above = open("../..", OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        assert_eq!(inode(&above), inode(&folder));
        assert_eq!(
            open("../record.json", OFlags::RDONLY).unwrap_err(),
            Errno::NOENT
        );
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC] {
            assert_eq!(open(ARTIFACT, flags).unwrap_err(), Errno::ROFS);
        }
        let new = OFlags::WRONLY | OFlags::CREATE;
        assert_eq!(open("new", new).unwrap_err(), Errno::ROFS);
        let flags = fstatvfs(&folder).unwrap().f_flag;
        let expected =
            StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
        assert!(flags.contains(expected) && !flags.contains(StatVfsMountFlags::NOEXEC));
        // Nor by a descriptor, whatever privileges its holder has.
        let file = artifact.file_for_guest().unwrap();
        let chmod = rustix::fs::fchmod(&file, Mode::RWXU).unwrap_err();
        assert_eq!(chmod, Errno::ROFS);
        let stat = fstat(&file).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o444);
    }
}

#[test]
#[ignore = "needs root"]
fn guests_process_can_neither_lock_nor_unlock_an_artifact() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    let artifact = publish(&fixture.store, &inputs(b"module"), b"code");
    let folder = artifact.folder_for_guest().unwrap();
    let folder = openat(&folder, ".", OFlags::RDONLY, Mode::empty()).unwrap();
    let file = artifact.file_for_guest().unwrap();
    for lock in [&folder, &file] {
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(lock, exclusive).unwrap();
    }
    assert!(fixture.another().find(&key).unwrap().is_some());
    for lock in [&folder, &file] {
        rustix::fs::flock(lock, rustix::fs::FlockOperation::Unlock).unwrap();
    }
    assert_eq!(fixture.another().remove(&key).unwrap(), Removal::InUse);
}

#[test]
#[ignore = "needs root"]
fn flipped_byte_in_artifact_or_record_makes_a_miss_and_removes_the_entry() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    for (file, at) in [
        ("code/artifact", 0),
        ("code/artifact", 99_999),
        ("record.json", 0),
        ("record.json", 40),
        ("record.json", 200),
    ] {
        drop(publish(
            &fixture.store,
            &inputs(b"module"),
            &vec![7; 100_000],
        ));
        flip(&fixture.entry(&key).join(file), at);
        assert!(
            fixture.another().find(&key).unwrap().is_none(),
            "{file} {at}"
        );
        assert!(!fixture.entry(&key).exists(), "{file} {at}");
        assert_eq!(fixture.drafts(), 0);
    }
}

#[test]
#[ignore = "needs root"]
fn artifact_that_changes_after_its_first_use_is_found_out() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    drop(publish(&fixture.store, &inputs(b"module"), b"code"));
    assert!(fixture.store.find(&key).unwrap().is_some());
    flip(&fixture.entry(&key).join("code/artifact"), 0);
    assert!(fixture.store.find(&key).unwrap().is_none());
}

#[test]
#[ignore = "needs root"]
fn shortened_artifact_and_missing_parts_make_a_miss() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    let entry = fixture.entry(&key);
    let damages: [(&str, Damage); 5] = [
        ("short", |entry| {
            File::create(entry.join("code/artifact")).map(drop).unwrap();
        }),
        ("no artifact", |entry| {
            fs::remove_file(entry.join("code/artifact")).unwrap();
        }),
        ("no code", |entry| {
            fs::remove_dir_all(entry.join("code")).unwrap();
        }),
        ("no record", |entry| {
            fs::remove_file(entry.join("record.json")).unwrap();
        }),
        ("empty record", |entry| {
            File::create(entry.join("record.json")).map(drop).unwrap();
        }),
    ];
    for (name, damage) in damages {
        drop(publish(&fixture.store, &inputs(b"module"), b"code"));
        damage(&entry);
        let verdict = fixture.store.verify(&key).unwrap();
        assert!(
            matches!(verdict, Some(Verdict::Damaged(_))),
            "{name}: {verdict:?}"
        );
        assert!(fixture.store.find(&key).unwrap().is_none(), "{name}");
        assert!(!entry.exists(), "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn machine_with_fewer_features_does_not_find_the_artifact() {
    let fixture = Fixture::new();
    let here = inputs(b"module");
    drop(publish(&fixture.store, &here, b"code"));
    let lesser = KeyInputs {
        cpu: "Vendor/6/85 sse2".to_owned(),
        ..here.clone()
    };
    assert!(fixture.store.find(&lesser.key()).unwrap().is_none());
    assert!(fixture.store.find(&here.key()).unwrap().is_some());
}

#[test]
#[ignore = "needs root"]
fn upgrade_and_downgrade_find_their_own_artifacts() {
    let fixture = Fixture::new();
    let old = inputs(b"module");
    let mut new = old.clone();
    new.version = "0.18.0+def".to_owned();
    drop(publish(&fixture.store, &old, b"old code"));
    assert!(fixture.store.find(&new.key()).unwrap().is_none());
    drop(publish(&fixture.store, &new, b"new code"));
    for (inputs, code) in [(&old, "old code"), (&new, "new code")] {
        let artifact = fixture.another().find(&inputs.key()).unwrap().unwrap();
        assert_eq!(content(artifact.file()), code.as_bytes());
    }
}

#[test]
#[ignore = "needs root"]
fn entry_of_a_newer_format_is_listed_and_left_alone() {
    let fixture = Fixture::new();
    drop(publish(&fixture.store, &inputs(b"module"), b"code"));
    let newer = inputs(b"newer").key();
    fs::create_dir(fixture.entry(&newer)).unwrap();
    let record = br#"{"format":2,"pieces":["a","b"]}"#;
    fs::write(fixture.entry(&newer).join("record.json"), record).unwrap();
    let list = fixture.store.list().unwrap();
    let entry = list.iter().find(|entry| entry.key == newer).unwrap();
    assert!(
        matches!(entry.content, Content::OtherFormat(2)),
        "{entry:?}"
    );
    assert_eq!(
        fixture.store.verify(&newer).unwrap(),
        Some(Verdict::OtherFormat(2))
    );
    fixture.store.collect_garbage().unwrap();
    assert!(fixture.entry(&newer).exists());
    assert!(
        fixture
            .store
            .find(&inputs(b"module").key())
            .unwrap()
            .is_some()
    );
}

#[test]
#[ignore = "needs root"]
fn list_shows_records_and_use_with_the_last_used_first() {
    let fixture = Fixture::new();
    let used = publish(&fixture.store, &inputs(b"used"), b"code");
    drop(publish(&fixture.store, &inputs(b"idle"), b"more code"));
    used.mark_used();
    let list = fixture.store.list().unwrap();
    let facts: Vec<(Key, Use)> = list.iter().map(|entry| (entry.key, entry.in_use)).collect();
    let expected = [
        (inputs(b"used").key(), Use::InUse),
        (inputs(b"idle").key(), Use::Idle),
    ];
    assert_eq!(facts, expected);
    let usage = fixture.store.usage().unwrap();
    assert_eq!(usage.entries, 2);
    assert_eq!(
        usage.bytes,
        list.iter().map(|entry| entry.bytes).sum::<u64>()
    );
    for entry in list {
        assert!(matches!(entry.content, Content::Known(_)), "{entry:?}");
        assert_eq!(
            fixture.store.verify(&entry.key).unwrap(),
            Some(Verdict::Sound)
        );
    }
    assert_eq!(fixture.store.verify(&inputs(b"none").key()).unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn removal_spares_what_is_in_use_and_forgets_a_failure() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    assert_eq!(fixture.store.remove(&key).unwrap(), Removal::Missing);
    let artifact = publish(&fixture.store, &inputs(b"module"), b"code");
    assert_eq!(fixture.store.remove(&key).unwrap(), Removal::InUse);
    drop(artifact);
    assert_eq!(fixture.store.remove(&key).unwrap(), Removal::Removed);
    assert!(fixture.store.find(&key).unwrap().is_none());
    bounds::fail(&fixture.store, &inputs(b"module"));
    assert_eq!(fixture.store.remove(&key).unwrap(), Removal::Removed);
    assert_eq!(fixture.store.failure(&key).unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn discarded_artifact_is_removed_although_others_use_it() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    let first = publish(&fixture.store, &inputs(b"module"), b"code");
    let second = fixture.another().find(&key).unwrap().unwrap();
    fixture.store.discard(first).unwrap();
    assert!(fixture.store.find(&key).unwrap().is_none());
    assert_eq!(content(second.file()), b"code");
    // The new one is not the one that is discarded.
    drop(publish(&fixture.store, &inputs(b"module"), b"better"));
    fixture.store.discard(second).unwrap();
    assert!(fixture.store.find(&key).unwrap().is_some());
}

#[test]
#[ignore = "needs root"]
fn store_that_an_administrator_removed_is_made_again() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    let used = publish(&fixture.store, &inputs(b"module"), b"code");
    let lock = fixture.store.lock(&key).unwrap();
    for part in ["", "v1", "v1/entries"] {
        fs::remove_dir_all(fixture.root.join(part)).unwrap();
        assert_eq!(content(used.file()), b"code");
        assert!(fixture.store.find(&key).unwrap().is_none(), "{part}");
        drop(publish(&fixture.store, &inputs(b"module"), b"again"));
        assert!(fixture.another().find(&key).unwrap().is_some(), "{part}");
    }
    drop(lock);
}

#[test]
#[ignore = "needs root"]
fn entry_that_appeared_meanwhile_is_replaced_by_the_one_that_is_published() {
    let fixture = Fixture::new();
    let module = inputs(b"module");
    let lock = fixture.store.lock(&module.key()).unwrap();
    let draft = fixture.store.draft(&lock, SPACE).unwrap();
    write(&draft, b"mine");
    // An administrator removes the lock, and another host publishes.
    fs::remove_dir_all(fixture.path("locks")).unwrap();
    let theirs = publish(&fixture.another(), &module, b"theirs");
    let mine = fixture.store.publish(lock, draft, made(&module)).unwrap();
    assert_eq!(content(theirs.file()), b"theirs");
    assert_eq!(content(mine.file()), b"mine");
    let found = fixture.another().find(&module.key()).unwrap().unwrap();
    assert_eq!(content(found.file()), b"mine");
    assert_eq!(fixture.drafts(), 0);
}

#[test]
#[ignore = "needs root"]
fn lock_of_another_key_allows_nothing() {
    let fixture = Fixture::new();
    let lock = fixture.store.lock(&inputs(b"other").key()).unwrap();
    let draft = fixture.store.draft(&lock, SPACE).unwrap();
    write(&draft, b"code");
    let failed = fixture
        .store
        .remember_failure(&lock, bounds::failed(&inputs(b"module")));
    assert!(
        matches!(failed, Err(StoreError::WrongKey { .. })),
        "{failed:?}"
    );
    let published = fixture.store.publish(lock, draft, made(&inputs(b"module")));
    assert!(
        matches!(published, Err(StoreError::WrongKey { .. })),
        "{published:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn lock_is_free_again_when_it_is_dropped_and_leaves_no_file() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    let lock = fixture.store.lock(&key).unwrap();
    assert!(fixture.another().try_lock(&key).unwrap().is_none());
    assert!(
        fixture
            .another()
            .try_lock(&inputs(b"other").key())
            .unwrap()
            .is_some()
    );
    drop(lock);
    assert!(fixture.another().try_lock(&key).unwrap().is_some());
    assert_eq!(fs::read_dir(fixture.path("locks")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn files_are_readable_by_guests_of_any_user_and_folders_by_root_alone() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    drop(publish(&fixture.store, &inputs(b"module"), b"code"));
    let mode = |path: PathBuf| {
        let stat = fs::symlink_metadata(path).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (0, 0));
        stat.permissions().mode() & 0o7777
    };
    assert_eq!(mode(fixture.root.clone()), 0o700);
    assert_eq!(mode(fixture.path("entries")), 0o700);
    let entry = fixture.entry(&key);
    assert_eq!(mode(entry.clone()), 0o700);
    assert_eq!(mode(entry.join("code")), 0o555);
    assert_eq!(mode(entry.join("code/artifact")), 0o444);
    assert_eq!(mode(entry.join("record.json")), 0o444);
    let file = File::open(entry.join("code/artifact")).unwrap();
    let named = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH).unwrap();
    assert_eq!(named.st_nlink, 1);
}
