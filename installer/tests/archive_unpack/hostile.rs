//! Malicious archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use flate2::write::GzEncoder;
use installer_protocol::Reason;
use node_installer::unpack::{Refusal, UnpackError, verify};
use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use tar::EntryType;

use crate::maker::{Fixture, Maker, Raw, TOP, write};

#[test]
fn entry_that_a_runtime_must_not_have_is_refused() {
    let at = |path: &str| format!("{TOP}/{path}");
    for (raw, expected) in [
        (Raw::file("/etc/cron.d/x", "x"), Refusal::Path),
        (Raw::file(&at("../../../etc/x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/../../x"), "x"), Refusal::Path),
        (Raw::file(&at("lib//x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/./x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/a\nb"), "x"), Refusal::Path),
        (
            Raw {
                path: b"wasmedge-runtime/1.0.0/\xff".to_vec(),
                ..Raw::file("", "x")
            },
            Refusal::Path,
        ),
        (Raw::file("README", "x"), Refusal::Place),
        (
            Raw::file("wasmedge-runtime/2.0.0/lib/x", "x"),
            Refusal::Place,
        ),
        (Raw::file("wasmedge-runtime/1.0.0", "x"), Refusal::Place),
        (
            Raw::of(EntryType::Directory, "wasmedge-runtime/.state"),
            Refusal::Place,
        ),
        (Raw::file(&at("bin/su"), "x").mode(0o4755), Refusal::Mode),
        (Raw::file(&at("bin/su"), "x").mode(0o2755), Refusal::Mode),
        (
            Raw::of(EntryType::Directory, &at("tmp")).mode(0o1777),
            Refusal::Mode,
        ),
        (Raw::of(EntryType::Char, &at("lib/null")), Refusal::Kind),
        (Raw::of(EntryType::Block, &at("lib/sda")), Refusal::Kind),
        (Raw::of(EntryType::Fifo, &at("lib/pipe")), Refusal::Kind),
        (
            Raw {
                link: b"/etc/shadow".to_vec(),
                ..Raw::of(EntryType::Link, &at("lib/hard"))
            },
            Refusal::Kind,
        ),
        (
            Raw::of(EntryType::GNULongName, &at("lib/long")),
            Refusal::Kind,
        ),
        (Raw::of(EntryType::XHeader, &at("lib/pax")), Refusal::Kind),
        (
            Raw::of(EntryType::GNUSparse, &at("lib/sparse")),
            Refusal::Kind,
        ),
        (Raw::link(&at("lib/evil"), "/etc"), Refusal::Link),
        (Raw::link(&at("lib/evil"), "../../x"), Refusal::Link),
        (Raw::link(&at("lib/evil"), ""), Refusal::Link),
        (Raw::file(&at("lib/libc.so.6"), "x"), Refusal::Twice),
        (Raw::file(&at("lib/libc.so.6/x"), "x"), Refusal::Twice),
        (Raw::file(&at("lib/libc.so/x"), "x"), Refusal::Twice),
        (Raw::file(&at("lib"), "x"), Refusal::Twice),
        (
            Raw {
                claimed: Some(2 << 30),
                ..Raw::file(&at("lib/bomb"), "x")
            },
            Refusal::Size,
        ),
    ] {
        // After the runtime's entries, so that conflicting ones exist already.
        let error = Fixture::new().refused(&Maker::whole().after(raw.clone()));
        assert!(
            matches!(&error, UnpackError::Entry { why, .. } if *why == expected),
            "{raw:?}: {error:?}"
        );
    }
}

#[test]
fn link_in_an_archive_does_not_redirect_later_entries() {
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    for (link, file) in [("share/out", "share/out/x"), ("lib", "lib/x")] {
        let maker = Maker::whole()
            .before(Raw::link(&format!("{TOP}/{link}"), &target))
            .before(Raw::file(&format!("{TOP}/{file}"), "x"));
        fixture.refused(&maker);
        // A link that stays inside is not a folder either.
        let maker = Maker::whole()
            .before(Raw::link(&format!("{TOP}/{link}"), "."))
            .before(Raw::file(&format!("{TOP}/{file}"), "x"));
        fixture.refused(&maker);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// Makes a runtime with these links, which its manifest lists.
fn with_links(links: &[(&str, &str)]) -> Maker {
    let mut maker = Maker::whole();
    maker.links.extend(
        links
            .iter()
            .map(|(path, target)| ((*path).to_owned(), (*target).to_owned())),
    );
    maker
}

#[test]
fn links_that_lead_out_of_the_folder_together_are_refused() {
    let chains: [&[(&str, &str)]; 6] = [
        &[("lib/a", "absent/../../../x")],
        &[("lib/a", ".."), ("lib/b", "a/../..")],
        // In the archive the link precedes the one that it leads through.
        &[("lib/a", "b/../.."), ("lib/b", "..")],
        &[
            ("lib/a", "../share"),
            ("lib/b", "a/../lib/../../x"),
            ("lib/c", "b"),
        ],
        &[("lib/a", "a")],
        &[("lib/a", "../share/b"), ("share/b", "../lib/a")],
    ];
    for links in chains {
        let error = Fixture::new().refused(&with_links(links));
        assert!(
            matches!(
                &error,
                UnpackError::Entry {
                    why: Refusal::Link,
                    ..
                }
            ),
            "{links:?}: {error:?}"
        );
    }
    let inside: [&[(&str, &str)]; 3] = [
        &[("lib/a", ".."), ("lib/b", "a/lib/libc.so.6")],
        &[("lib/a", "../share"), ("lib/b", "a/../bin")],
        &[("lib/a", "absent/../libc.so")],
    ];
    for links in inside {
        Fixture::new()
            .make(&with_links(links))
            .unwrap_or_else(|error| panic!("{links:?}: {error}"));
    }
}

#[test]
fn decompression_bomb_is_refused_before_it_is_unpacked() {
    // Two gigabytes of zeros in two megabytes, with a correct or a false size in the header.
    for claimed in [2 << 30, 5] {
        let fixture = Fixture::new();
        let file = fixture.folder.path().join("archive.tar.gz");
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("{TOP}/lib/bomb")).unwrap();
        header.set_mode(0o644);
        header.set_size(claimed);
        header.set_cksum();
        let mut gzip = GzEncoder::new(
            fs::File::create(&file).unwrap(),
            flate2::Compression::best(),
        );
        gzip.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..64).try_for_each(|_| gzip.write_all(&zeros)).unwrap();
        gzip.finish().unwrap();
        let error = fixture.unpack(&file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
        assert_eq!(fs::read_dir(fixture.versions()).unwrap().count(), 0);
    }
}

#[test]
fn archive_with_a_million_entries_is_refused() {
    let fixture = Fixture::new();
    let entries: Vec<Raw> = (0..10_001)
        .map(|index| Raw::of(EntryType::Directory, &format!("{TOP}/{index}")))
        .collect();
    let error = fixture
        .unpack(&write(fixture.folder.path(), &entries))
        .unwrap_err();
    assert!(
        matches!(
            error,
            UnpackError::Entry {
                why: Refusal::Size,
                ..
            }
        ),
        "{error:?}"
    );
}

/// Generates paths from conflicting components.
fn paths() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("lib".to_owned()),
        Just("bin".to_owned()),
        Just("share".to_owned()),
        Just("libc.so.6".to_owned()),
        "[a-c]{1,2}",
    ];
    let inside = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    prop_oneof![3 => inside.clone().prop_map(|path| format!("{TOP}/{path}")), 1 => inside]
}

fn raws() -> impl Strategy<Value = Raw> {
    let kind = prop_oneof![
        4 => Just(EntryType::Regular),
        2 => Just(EntryType::Directory),
        4 => Just(EntryType::Symlink),
        1 => Just(EntryType::Link),
        1 => Just(EntryType::Fifo),
    ];
    (paths(), kind, any::<u16>(), paths(), "[a-z]{0,20}").prop_map(
        |(path, kind, mode, link, text)| Raw {
            kind,
            mode: u32::from(mode & 0o1777),
            link: if kind == EntryType::Regular {
                Vec::new()
            } else {
                link.into_bytes()
            },
            ..Raw::file(
                &path,
                if kind == EntryType::Regular {
                    &text
                } else {
                    ""
                },
            )
        },
    )
}

/// Resolves the link at `path` in the kernel; leaving `root` is an error.
fn followed(root: &fs::File, path: &str) -> Result<(), Errno> {
    openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH,
    )
    .map(drop)
}

/// Generates links in the folders of a runtime, to each other, to folders and to absent paths.
fn links() -> impl Strategy<Value = BTreeMap<String, String>> {
    let folder = || prop_oneof![Just("bin"), Just("lib"), Just("share"), Just("lib/deep/er")];
    let path = (folder(), 0..4_u8).prop_map(|(folder, number)| format!("{folder}/{number}"));
    let part = prop_oneof![
        6 => Just("..".to_owned()),
        2 => folder().prop_map(str::to_owned),
        6 => (0..4_u8).prop_map(|number| number.to_string()),
        1 => Just(".".to_owned()),
        1 => Just("absent".to_owned()),
    ];
    let target = proptest::collection::vec(part, 1..6).prop_map(|parts| parts.join("/"));
    proptest::collection::btree_map(path, target, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// With any entries, nothing outside of the versions folder changes, and it contains a complete
    /// runtime or nothing.
    #[test]
    fn hostile_entries_reach_nothing(raws in proptest::collection::vec(raws(), 0..6),
        first in any::<bool>()) {
        let fixture = Fixture::new();
        let witness = fixture.folder.path().join("node/witness");
        fs::create_dir_all(witness.parent().unwrap()).unwrap();
        fs::write(&witness, "untouched").unwrap();
        let maker = raws.into_iter().fold(Maker::whole(), |maker,
            raw| if first { maker.before(raw) } else { maker.after(raw) });
        let result = fixture.make(&maker);
        prop_assert_eq!(fs::read_to_string(&witness).unwrap(), "untouched");
        let mut top: Vec<_> = fs::read_dir(fixture.folder.path()).unwrap().map(|entry|
            entry.unwrap().file_name()).collect();
        top.sort();
        prop_assert_eq!(top, ["archive.tar.gz", "node"]);
        prop_assert_eq!(fs::read_dir(fixture.folder.path().join("node")).unwrap().count(), 2);
        match result {
            Ok(unpacked) => {
                verify(&unpacked.path).unwrap();
                prop_assert_eq!(fixture.names(), [unpacked.name]);
            }
            Err(_) => prop_assert!(fixture.names().is_empty()),
        }
    }

    /// Every link of an unpacked runtime stays inside when the kernel follows it; a refused one
    /// does not.
    #[test]
    fn links_of_an_unpacked_runtime_stay_inside_it(links in links()) {
        let fixture = Fixture::new();
        let mut maker = Maker::whole();
        // A folder for links to lead through.
        maker.files.insert("lib/deep/er/file".to_owned(), (0o644, "deep".to_owned()));
        maker.links.extend(links.clone());
        match fixture.make(&maker) {
            Ok(unpacked) => {
                let root = fs::File::open(&unpacked.path).unwrap();
                for link in links.keys() {
                    let ended = followed(&root, link);
                    prop_assert!(!matches!(ended, Err(Errno::XDEV | Errno::LOOP)), "{} ended with \
                                                            {:?} in {:?}", link, ended, links);
                }
            }
            Err(UnpackError::Entry { why: Refusal::Link, .. }) => {
                // The same links, made directly.
                let by_hand = fixture.folder.path().join("by-hand");
                fs::create_dir_all(by_hand.join("lib/deep/er")).unwrap();
                for folder in ["bin", "share"] {
                    fs::create_dir(by_hand.join(folder)).unwrap();
                }
                for (path, target) in &links {
                    symlink(target, by_hand.join(path)).unwrap();
                }
                let root = fs::File::open(&by_hand).unwrap();
                let ends: Vec<_> = links.keys().map(|link| followed(&root, link)).collect();
                // The kernel stops at an absent path. A link is refused if it would lead out when
                // that path existed.
                prop_assert!(ends.iter().any(|end| matches!(end,
                    Err(Errno::XDEV | Errno::LOOP | Errno::NOENT | Errno::NOTDIR))), "{:?}: {:?}",
                        links, ends);
            }
            Err(error) => prop_assert!(false, "{} with {:?}", error, links),
        }
    }

    /// A flipped byte is detected, or changes nothing.
    #[test]
    fn damaged_archive_is_refused_or_becomes_the_same_runtime(place in any::<prop::sample::Index>(),
        bit in 0_u8..8, cut in any::<bool>()) {
        let fixture = Fixture::new();
        let archive = Maker::whole().write(fixture.folder.path());
        let mut bytes = fs::read(&archive).unwrap();
        let index = place.index(bytes.len());
        if cut { bytes.truncate(index) } else { bytes[index] ^= 1 << bit }
        fs::write(&archive, bytes).unwrap();
        match fixture.unpack(&archive) {
            Ok(unpacked) => { verify(&unpacked.path).unwrap(); }
            Err(error) => {
                prop_assert!(error.reason() == Reason::InvalidArtifact, "{error:?}");
                prop_assert!(fixture.names().is_empty());
            }
        }
    }
}
