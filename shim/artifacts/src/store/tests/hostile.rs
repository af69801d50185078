//! Rules for hostile drafts, and for foreign files in the store's folder.

use std::os::unix::fs::{chown, symlink};

use rustix::fs::{FileType, linkat, mkdirat, mkfifoat, mknodat, renameat, symlinkat};

use super::*;

fn bad_draft(store: &Store, write: impl FnOnce(&Draft)) -> String {
    let module = inputs(b"module");
    let lock = store.lock(&module.key()).unwrap();
    let draft = store.draft(&lock, SPACE).unwrap();
    write(&draft);
    match store.publish(lock, draft, made(&module)) {
        Err(StoreError::BadDraft(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs root"]
fn helper_that_leaves_anything_but_a_plain_file_is_refused() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let all = Mode::RWXU;
    for (reason, write) in [
        ("no file", (|_| {}) as fn(&Draft)),
        ("Symlink", |draft| {
            symlinkat("/etc/passwd", draft.folder(), ARTIFACT).unwrap();
        }),
        ("Fifo", |draft| {
            mkfifoat(draft.folder(), ARTIFACT, Mode::RWXU).unwrap();
        }),
        ("Directory", |draft| {
            mkdirat(draft.folder(), ARTIFACT, Mode::RWXU).unwrap();
        }),
        ("empty", |draft| drop(super::write(draft, b""))),
        ("2 names", |draft| {
            drop(super::write(draft, b"code"));
            linkat(
                draft.folder(),
                ARTIFACT,
                draft.folder(),
                "b",
                AtFlags::empty(),
            )
            .unwrap();
        }),
        ("claims", |draft| {
            super::write(draft, b"code")
                .set_len(SPACE.max_bytes + 1)
                .unwrap();
        }),
    ] {
        let found = bad_draft(store, write);
        assert!(found.contains(reason), "{reason}: {found}");
    }
    let found = bad_draft(store, |draft| {
        mknodat(
            draft.folder(),
            ARTIFACT,
            FileType::CharacterDevice,
            all,
            0x0103,
        )
        .unwrap();
    });
    assert!(found.contains("CharacterDevice"), "{found}");
    assert_eq!(fixture.drafts(), 0);
    assert!(store.list().unwrap().is_empty());
}

#[test]
#[ignore = "needs root"]
fn helper_cannot_change_an_artifact_after_its_publication() {
    let fixture = Fixture::new();
    let module = inputs(b"module");
    let lock = fixture.store.lock(&module.key()).unwrap();
    let draft = fixture.store.draft(&lock, SPACE).unwrap();
    let folder = draft.folder().try_clone_to_owned().unwrap();
    let mut kept = write(&draft, b"code");
    mkdirat(&folder, "more", Mode::RWXU).unwrap();
    let artifact = fixture.store.publish(lock, draft, made(&module)).unwrap();
    kept.seek(SeekFrom::Start(0)).unwrap();
    kept.write_all(b"evil").unwrap();
    renameat(&folder, ARTIFACT, &folder, "more/b").unwrap();
    assert_eq!(content(artifact.file()), b"code");
    assert_eq!(
        fixture.store.verify(&module.key()).unwrap(),
        Some(Verdict::Sound)
    );
    assert_eq!(names(artifact.folder_for_guest().unwrap()), [ARTIFACT]);
}

#[test]
#[ignore = "needs root"]
fn helper_cannot_take_more_space_or_files_than_its_draft_has() {
    let fixture = Fixture::new();
    let lock = fixture.store.lock(&inputs(b"module").key()).unwrap();
    let space = DraftSpace {
        max_bytes: MIB,
        ..SPACE
    };
    let draft = fixture.store.draft(&lock, space).unwrap();
    let owner = rustix::fs::statat(draft.folder(), ".", AtFlags::empty()).unwrap();
    assert_eq!(
        (owner.st_uid, owner.st_gid, owner.st_mode & 0o777),
        (65534, 65534, 0o700)
    );
    let mut file = write(&draft, b"");
    let error = file.write_all(&vec![7; 2_000_000]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let made = (0..1000)
        .take_while(|number| mkdirat(draft.folder(), number.to_string(), Mode::RWXU).is_ok())
        .count();
    assert!(made < 100, "{made}");
}

/// Puts something where an entry or a part of it should be.
type Stand = fn(&Path);

const STANDS: &[(&str, Stand)] = &[
    ("link", |at| symlink("/etc/passwd", at).unwrap()),
    ("link to a folder", |at| symlink("/etc", at).unwrap()),
    ("fifo", |at| {
        mkfifoat(rustix::fs::CWD, at, Mode::RWXU).unwrap();
    }),
    ("device", |at| {
        mknodat(
            rustix::fs::CWD,
            at,
            FileType::CharacterDevice,
            Mode::RWXU,
            0x0103,
        )
        .unwrap();
    }),
    ("empty folder", |at| fs::create_dir(at).unwrap()),
    ("folder", |at| fs::create_dir_all(at.join("a/b")).unwrap()),
    ("file", |at| fs::write(at, b"x").unwrap()),
    ("file of another user", |at| {
        fs::write(at, b"code").unwrap();
        chown(at, Some(1234), None).unwrap();
    }),
    ("file that others can write", |at| {
        fs::write(at, b"code").unwrap();
        fs::set_permissions(at, fs::Permissions::from_mode(0o666)).unwrap();
    }),
];

#[test]
#[ignore = "needs root"]
fn foreign_file_in_place_of_any_part_is_a_miss_and_never_followed() {
    let fixture = Fixture::new();
    let module = inputs(b"module");
    let entry = fixture.entry(&module.key());
    for part in ["", "record.json", "code", "code/artifact"] {
        for (name, stand) in STANDS {
            drop(publish(&fixture.store, &module, b"code"));
            let place = if part.is_empty() {
                entry.clone()
            } else {
                entry.join(part)
            };
            if place.is_dir() {
                fs::remove_dir_all(&place).unwrap();
            } else {
                fs::remove_file(&place).unwrap();
            }
            stand(&place);
            let case = format!("{name} in place of {part:?}");
            fixture.store.list().unwrap();
            let verdict = fixture.store.verify(&module.key()).unwrap();
            assert!(
                matches!(verdict, Some(Verdict::Damaged(_))),
                "{case}: {verdict:?}"
            );
            assert!(
                fixture.store.find(&module.key()).unwrap().is_none(),
                "{case}"
            );
            assert!(fs::symlink_metadata(&entry).is_err(), "{case}");
            assert_eq!(fixture.drafts(), 0, "{case}");
            // Published over it, too.
            stand(&entry);
            let artifact = publish(&fixture.store, &module, b"code");
            assert_eq!(content(artifact.file()), b"code", "{case}");
            drop(artifact);
            assert_eq!(
                fixture.store.remove(&module.key()).unwrap(),
                Removal::Removed,
                "{case}"
            );
            stand(&entry);
            assert_eq!(
                fixture.store.remove(&module.key()).unwrap(),
                Removal::Removed,
                "{case}"
            );
        }
    }
    assert!(fs::read("/etc/passwd").unwrap().len() > 1);
}

#[test]
#[ignore = "needs root"]
fn foreign_files_beside_entries_are_left_alone_or_swept_but_never_followed() {
    let fixture = Fixture::new();
    drop(publish(&fixture.store, &inputs(b"module"), b"code"));
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("precious"), b"x").unwrap();
    for folder in ["entries", "drafts", "locks", "failures"] {
        for (name, stand) in STANDS {
            stand(&fixture.path(folder).join(name.replace(' ', "-")));
        }
        symlink(outside.path(), fixture.path(folder).join("outside")).unwrap();
        fs::create_dir(fixture.path(folder).join("inner")).unwrap();
        symlink(outside.path(), fixture.path(folder).join("inner/outside")).unwrap();
    }
    assert_eq!(fixture.store.list().unwrap().len(), 1);
    assert_eq!(fixture.store.usage().unwrap().entries, 1);
    assert_eq!(fixture.store.failures().unwrap(), []);
    let collected = fixture.store.collect_garbage().unwrap();
    assert_eq!(collected.drafts, STANDS.len() + 2);
    assert_eq!(fixture.drafts(), 0);
    assert!(outside.path().join("precious").exists());
    assert!(fixture.path("entries/outside").exists());
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
fn remnant_that_is_too_deep_to_remove_does_not_prevent_the_collection_of_others() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("drafts/0/1/2/3/4/5/6/7/8/9/10")).unwrap();
    fs::create_dir_all(fixture.path("drafts/1/1")).unwrap();
    assert_eq!(fixture.store.collect_garbage().unwrap().drafts, 1);
    assert_eq!(fixture.drafts(), 1);
}

#[test]
#[ignore = "needs root"]
fn foreign_file_in_place_of_a_lock_or_a_failure_blocks_no_call() {
    let fixture = Fixture::new();
    let key = inputs(b"module").key();
    for (name, stand) in STANDS {
        let lock = fixture.path(&format!("locks/{key}"));
        stand(&lock);
        match fixture.store.try_lock(&key) {
            // The file of a process that was killed looks like this.
            Ok(Some(_)) => assert_eq!(*name, "file"),
            other => assert!(
                matches!(other, Err(StoreError::Io { .. })),
                "{name}: {other:?}"
            ),
        }
        let failure = fixture.path(&format!("failures/{key}.json"));
        stand(&failure);
        assert_eq!(fixture.store.failure(&key).unwrap(), None, "{name}");
        fixture.store.collect_garbage().unwrap();
        assert!(fs::symlink_metadata(&failure).is_err(), "{name}");
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_dir_all(&lock);
    }
}
