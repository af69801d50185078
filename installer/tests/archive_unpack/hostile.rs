//! Archives that want to reach what is not theirs.

use std::fs;
use std::io::Write as _;

use flate2::write::GzEncoder;
use installer_protocol::Reason;
use node_installer::unpack::{Refusal, UnpackError, verify};
use proptest::prelude::*;
use tar::EntryType;

use crate::maker::{Bed, Maker, Raw, TOP, write};

#[test]
fn an_entry_that_no_runtime_has_is_refused() {
    let at = |path: &str| format!("{TOP}/{path}");
    for (raw, expected) in [
        (Raw::file("/etc/cron.d/x", "x"), Refusal::Path),
        (Raw::file(&at("../../../etc/x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/../../x"), "x"), Refusal::Path),
        (Raw::file(&at("lib//x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/./x"), "x"), Refusal::Path),
        (Raw::file(&at("lib/a\nb"), "x"), Refusal::Path),
        (Raw { path: b"wasmedge-runtime/1.0.0/\xff".to_vec(), ..Raw::file("", "x") }, Refusal::Path),
        (Raw::file("README", "x"), Refusal::Place),
        (Raw::file("wasmedge-runtime/2.0.0/lib/x", "x"), Refusal::Place),
        (Raw::file("wasmedge-runtime/1.0.0", "x"), Refusal::Place),
        (Raw::of(EntryType::Directory, "wasmedge-runtime/.state"), Refusal::Place),
        (Raw::file(&at("bin/su"), "x").mode(0o4755), Refusal::Mode),
        (Raw::file(&at("bin/su"), "x").mode(0o2755), Refusal::Mode),
        (Raw::of(EntryType::Directory, &at("tmp")).mode(0o1777), Refusal::Mode),
        (Raw::of(EntryType::Char, &at("lib/null")), Refusal::Kind),
        (Raw::of(EntryType::Block, &at("lib/sda")), Refusal::Kind),
        (Raw::of(EntryType::Fifo, &at("lib/pipe")), Refusal::Kind),
        (Raw { link: b"/etc/shadow".to_vec(), ..Raw::of(EntryType::Link, &at("lib/hard")) }, Refusal::Kind),
        (Raw::of(EntryType::GNULongName, &at("lib/long")), Refusal::Kind),
        (Raw::of(EntryType::XHeader, &at("lib/pax")), Refusal::Kind),
        (Raw::of(EntryType::GNUSparse, &at("lib/sparse")), Refusal::Kind),
        (Raw::link(&at("lib/evil"), "/etc"), Refusal::Link),
        (Raw::link(&at("lib/evil"), "../../x"), Refusal::Link),
        (Raw::link(&at("lib/evil"), "a/../../../x"), Refusal::Link),
        (Raw::link(&at("lib/evil"), ""), Refusal::Link),
        (Raw::file(&at("lib/libc.so.6"), "x"), Refusal::Twice),
        (Raw::file(&at("lib/libc.so.6/x"), "x"), Refusal::Twice),
        (Raw::file(&at("lib/libc.so/x"), "x"), Refusal::Twice),
        (Raw::file(&at("lib"), "x"), Refusal::Twice),
        (Raw { claimed: Some(2 << 30), ..Raw::file(&at("lib/bomb"), "x") }, Refusal::Size),
    ] {
        // Behind the whole runtime, so that what is in its way is there already.
        let error = Bed::new().refused(&Maker::whole().after(raw.clone()));
        assert!(matches!(&error, UnpackError::Entry { why, .. } if *why == expected), "{raw:?}: {error:?}");
    }
}

#[test]
fn a_link_is_never_a_way_to_write_elsewhere() {
    let bed = Bed::new();
    let outside = bed.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    for (link, file) in [("share/out", "share/out/x"), ("lib", "lib/x")] {
        let maker = Maker::whole().before(Raw::link(&format!("{TOP}/{link}"), &target)).before(Raw::file(&format!("{TOP}/{file}"), "x"));
        bed.refused(&maker);
        // A link that stays inside is no folder either.
        let maker = Maker::whole().before(Raw::link(&format!("{TOP}/{link}"), ".")).before(Raw::file(&format!("{TOP}/{file}"), "x"));
        bed.refused(&maker);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    // Two gigabytes of zeros in two megabytes, whose header says so, or lies.
    for claimed in [2 << 30, 5] {
        let bed = Bed::new();
        let file = bed.folder.path().join("archive.tar.gz");
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("{TOP}/lib/bomb")).unwrap();
        header.set_mode(0o644);
        header.set_size(claimed);
        header.set_cksum();
        let mut gzip = GzEncoder::new(fs::File::create(&file).unwrap(), flate2::Compression::best());
        gzip.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..64).try_for_each(|_| gzip.write_all(&zeros)).unwrap();
        gzip.finish().unwrap();
        let error = bed.unpack(&file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
        assert_eq!(fs::read_dir(bed.shelf()).unwrap().count(), 0);
    }
}

#[test]
fn a_million_entries_are_refused() {
    let bed = Bed::new();
    let entries: Vec<Raw> = (0..10_001).map(|index| Raw::of(EntryType::Directory, &format!("{TOP}/{index}"))).collect();
    let error = bed.unpack(&write(bed.folder.path(), &entries)).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { why: Refusal::Size, .. }), "{error:?}");
}

/// Parts of paths that get along badly.
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
    (paths(), kind, any::<u16>(), paths(), "[a-z]{0,20}").prop_map(|(path, kind, mode, link, text)| Raw {
        kind,
        mode: u32::from(mode & 0o1777),
        link: if kind == EntryType::Regular { Vec::new() } else { link.into_bytes() },
        ..Raw::file(&path, if kind == EntryType::Regular { &text } else { "" })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the entries are: nothing outside of the shelf changes, and what is on it is a whole runtime or nothing.
    #[test]
    fn hostile_entries_reach_nothing(raws in proptest::collection::vec(raws(), 0..6), first in any::<bool>()) {
        let bed = Bed::new();
        let witness = bed.folder.path().join("node/witness");
        fs::create_dir_all(witness.parent().unwrap()).unwrap();
        fs::write(&witness, "untouched").unwrap();
        let maker = raws.into_iter().fold(Maker::whole(), |maker, raw| if first { maker.before(raw) } else { maker.after(raw) });
        let result = bed.make(&maker);
        prop_assert_eq!(fs::read_to_string(&witness).unwrap(), "untouched");
        let mut top: Vec<_> = fs::read_dir(bed.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        top.sort();
        prop_assert_eq!(top, ["archive.tar.gz", "node"]);
        prop_assert_eq!(fs::read_dir(bed.folder.path().join("node")).unwrap().count(), 2);
        match result {
            Ok(unpacked) => {
                verify(&unpacked.path).unwrap();
                prop_assert_eq!(bed.names(), [unpacked.name]);
            }
            Err(_) => prop_assert!(bed.names().is_empty()),
        }
    }

    /// A flipped byte is noticed, wherever it is, or changes nothing.
    #[test]
    fn a_damaged_archive_never_becomes_another_runtime(place in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let bed = Bed::new();
        let archive = Maker::whole().write(bed.folder.path());
        let mut bytes = fs::read(&archive).unwrap();
        let index = place.index(bytes.len());
        if cut { bytes.truncate(index) } else { bytes[index] ^= 1 << bit }
        fs::write(&archive, bytes).unwrap();
        match bed.unpack(&archive) {
            Ok(unpacked) => { verify(&unpacked.path).unwrap(); }
            Err(error) => {
                prop_assert!(error.reason() == Reason::InvalidArtifact, "{error:?}");
                prop_assert!(bed.names().is_empty());
            }
        }
    }
}
