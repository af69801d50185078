//! Archives that a runtime can come in, and those that somebody else made: on real files, in folders of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use installer_protocol::Reason;
use node_installer::unpack::{Change, Damage, Expect, Refusal, UnpackError, Unpacked, unpack, verify};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const TOP: &str = "wasmedge-runtime/1.0.0";

/// One header with its content, as it will stand in the archive, however wrong.
#[derive(Debug, Clone)]
struct Raw {
    path: Vec<u8>,
    kind: EntryType,
    mode: u32,
    link: Vec<u8>,
    bytes: Vec<u8>,
    /// The size that the header claims; none for the true one.
    claimed: Option<u64>,
}

impl Raw {
    fn file(path: &str, text: &str) -> Self {
        Self { path: path.into(), kind: EntryType::Regular, mode: 0o644, link: Vec::new(), bytes: text.into(), claimed: None }
    }

    fn link(path: &str, target: &str) -> Self {
        Self { kind: EntryType::Symlink, link: target.into(), ..Self::file(path, "") }
    }

    fn of(kind: EntryType, path: &str) -> Self {
        Self { kind, ..Self::file(path, "") }
    }

    fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// An archive in the making: a whole runtime, until a test says otherwise.
#[derive(Debug, Clone)]
struct Maker {
    files: BTreeMap<String, (u32, String)>,
    links: BTreeMap<String, String>,
    manifest: serde_json::Value,
    before: Vec<Raw>,
    after: Vec<Raw>,
}

impl Maker {
    fn whole() -> Self {
        let file = |path: &str, mode: u32| (path.to_owned(), (mode, format!("this is {path}")));
        Self {
            files: BTreeMap::from([
                file("bin/containerd-shim-wasmedge-v1", 0o755),
                file("bin/wasmedge-host", 0o755),
                file("lib/ld-linux.so.2", 0o755),
                file("lib/libc.so.6", 0o644),
                file("share/licenses/libc6/copyright", 0o644),
            ]),
            links: BTreeMap::from([("lib/libc.so".to_owned(), "libc.so.6".to_owned())]),
            manifest: serde_json::json!({ "version": "1.0.0", "architecture": std::env::consts::ARCH, "loader": "ld-linux.so.2" }),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    fn manifest(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.manifest[key] = value.into();
        self
    }

    fn before(mut self, raw: Raw) -> Self {
        self.before.push(raw);
        self
    }

    fn after(mut self, raw: Raw) -> Self {
        self.after.push(raw);
        self
    }

    fn entries(&self) -> Vec<Raw> {
        let mut manifest = self.manifest.clone();
        if manifest["files"].is_null() {
            let digests = self.files.iter().map(|(path, (_, text))| (path.clone(), hex(text.as_bytes())));
            let links = self.links.iter().map(|(path, target)| (path.clone(), format!("-> {target}")));
            manifest["files"] = digests.chain(links).map(|(path, what)| (path, what.into())).collect::<serde_json::Map<_, _>>().into();
        }
        let mut entries = self.before.clone();
        entries.push(Raw::file(&format!("{TOP}/share/manifest.json"), &manifest.to_string()));
        entries.extend(self.files.iter().map(|(path, (mode, text))| Raw::file(&format!("{TOP}/{path}"), text).mode(*mode)));
        entries.extend(self.links.iter().map(|(path, target)| Raw::link(&format!("{TOP}/{path}"), target)));
        entries.extend(self.after.clone());
        entries
    }

    fn write(&self, folder: &Path) -> PathBuf {
        write(folder, &self.entries())
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes headers byte by byte: a library for making archives would correct what a test gets wrong on purpose.
fn write(folder: &Path, entries: &[Raw]) -> PathBuf {
    let mut plain = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..entry.path.len()].copy_from_slice(&entry.path);
        raw.linkname[..entry.link.len()].copy_from_slice(&entry.link);
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.claimed.unwrap_or(entry.bytes.len() as u64));
        header.set_cksum();
        plain.extend(header.as_bytes());
        plain.extend(&entry.bytes);
        plain.resize(plain.len().next_multiple_of(512), 0);
    }
    plain.resize(plain.len() + 1024, 0);
    let file = folder.join("archive.tar.gz");
    let mut gzip = GzEncoder::new(fs::File::create(&file).unwrap(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    gzip.finish().unwrap();
    file
}

/// A folder for the archive and a shelf.
struct Bed {
    folder: tempfile::TempDir,
    in_use: BTreeSet<String>,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, in_use: BTreeSet::new() }
    }

    fn shelf(&self) -> PathBuf {
        self.folder.path().join("node/wasmedge-runtime")
    }

    fn place(&self) -> PathBuf {
        self.shelf().join("1.0.0-0123456789ab")
    }

    fn unpack(&self, archive: &Path) -> Result<Unpacked, UnpackError> {
        unpack(archive, &Expect::here(SHA256, self.in_use.clone()), &self.shelf())
    }

    /// Unpacks what `maker` makes.
    fn make(&self, maker: &Maker) -> Result<Unpacked, UnpackError> {
        self.unpack(&maker.write(self.folder.path()))
    }

    /// The refusal of what `maker` makes, which must leave nothing behind.
    fn refused(&self, maker: &Maker) -> UnpackError {
        let error = self.make(maker).unwrap_err();
        assert_eq!(fs::read_dir(self.shelf()).unwrap().count(), 0, "something is left after {error}");
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error}");
        error
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(self.shelf()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_whole_archive_becomes_a_folder_that_is_named_by_version_and_digest() {
    let bed = Bed::new();
    let unpacked = bed.make(&Maker::whole()).unwrap();
    assert_eq!((unpacked.path, unpacked.version.as_str(), unpacked.change), (bed.place(), "1.0.0", Change::Made));
    assert_eq!(bed.names(), [unpacked.name]);
    assert_eq!(mode(&bed.place()), 0o755);
    assert_eq!(mode(&bed.place().join("bin/containerd-shim-wasmedge-v1")), 0o755);
    assert_eq!(mode(&bed.place().join("lib/libc.so.6")), 0o644);
    assert_eq!(fs::read_to_string(bed.place().join("lib/libc.so")).unwrap(), "this is lib/libc.so.6");
    assert_eq!(verify(&bed.place()).unwrap().version, "1.0.0");
}

#[test]
fn a_folder_that_is_whole_is_left_alone() {
    let bed = Bed::new();
    bed.make(&Maker::whole()).unwrap();
    let made = fs::metadata(bed.place()).unwrap().modified().unwrap();
    assert_eq!(bed.make(&Maker::whole()).unwrap().change, Change::None);
    assert_eq!(fs::metadata(bed.place()).unwrap().modified().unwrap(), made);
}

#[test]
fn a_damaged_folder_is_made_anew_unless_containers_run_from_it() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("a byte is another", |root| fs::write(root.join("lib/libc.so.6"), "this is lib/libc.so.7").unwrap()),
        ("a file is cut", |root| fs::write(root.join("bin/wasmedge-host"), "").unwrap()),
        ("a file is gone", |root| fs::remove_file(root.join("bin/wasmedge-host")).unwrap()),
        ("a library too many", |root| fs::write(root.join("lib/libevil.so"), "").unwrap()),
        ("a program cannot be executed", |root| {
            fs::set_permissions(root.join("bin/wasmedge-host"), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("everybody may write", |root| fs::set_permissions(root.join("lib/libc.so.6"), fs::Permissions::from_mode(0o666)).unwrap()),
        ("the manifest is another", |root| fs::write(root.join("share/manifest.json"), "{}").unwrap()),
        ("a file became a link", |root| {
            fs::rename(root.join("lib/libc.so.6"), root.join("lib/other")).unwrap();
            symlink("other", root.join("lib/libc.so.6")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let mut bed = Bed::new();
        bed.make(&Maker::whole()).unwrap();
        harm(&bed.place());
        bed.in_use.insert("1.0.0-0123456789ab".to_owned());
        let error = bed.make(&Maker::whole()).unwrap_err();
        assert!(matches!(error, UnpackError::InUse { .. }) && error.reason() == Reason::InUse, "{what}: {error}");
        verify(&bed.place()).unwrap_err();
        bed.in_use.clear();
        assert_eq!(bed.make(&Maker::whole()).unwrap().change, Change::Repaired, "{what}");
        verify(&bed.place()).unwrap();
        assert_eq!(bed.names(), ["1.0.0-0123456789ab"], "{what}");
    }
}

#[test]
fn what_lies_in_the_place_of_the_folder_is_replaced() {
    for link in [false, true] {
        let bed = Bed::new();
        fs::create_dir_all(bed.shelf()).unwrap();
        if link {
            // A link to a whole runtime: whoever moves that would move ours.
            let other = Bed::new();
            other.make(&Maker::whole()).unwrap();
            fs::rename(other.place(), bed.folder.path().join("elsewhere")).unwrap();
            symlink(bed.folder.path().join("elsewhere"), bed.place()).unwrap();
        } else {
            fs::write(bed.place(), "").unwrap();
        }
        assert_eq!(bed.make(&Maker::whole()).unwrap().change, Change::Repaired);
        assert!(fs::symlink_metadata(bed.place()).unwrap().is_dir());
        assert_eq!(bed.names().len(), 1);
    }
}

#[test]
fn what_killed_attempts_left_is_removed_and_other_versions_stay() {
    let bed = Bed::new();
    fs::create_dir_all(bed.shelf().join(".unpack-x7y/lib")).unwrap();
    fs::write(bed.shelf().join(".unpack-file"), "").unwrap();
    fs::create_dir_all(bed.shelf().join("0.9.0-aaaaaaaaaaaa")).unwrap();
    fs::create_dir_all(bed.shelf().join(".state")).unwrap();
    bed.make(&Maker::whole()).unwrap();
    let mut names = bed.names();
    names.sort();
    assert_eq!(names, [".state", "0.9.0-aaaaaaaaaaaa", "1.0.0-0123456789ab"]);
}

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
fn an_archive_that_contradicts_its_manifest_is_refused() {
    let stray = Maker::whole().after(Raw::file(&format!("{TOP}/lib/libstray.so"), "x"));
    assert!(matches!(Bed::new().refused(&stray), UnpackError::Contradiction { .. }));

    let mut changed = Maker::whole();
    let entries = changed.entries();
    let manifest = serde_json::from_slice::<serde_json::Value>(&entries[0].bytes).unwrap();
    changed = changed.manifest("files", manifest["files"].clone());
    let mut cut = changed.clone();
    cut.files.get_mut("bin/containerd-shim-wasmedge-v1").unwrap().1.truncate(4);
    let error = Bed::new().refused(&cut);
    assert!(matches!(&error, UnpackError::Content { damage: Damage::Changed(path) } if path.ends_with("shim-wasmedge-v1")), "{error:?}");
    changed.files.remove("lib/libc.so.6");
    let error = Bed::new().refused(&changed);
    assert!(matches!(&error, UnpackError::Content { damage: Damage::Missing(path) } if path == "lib/libc.so.6"), "{error:?}");

    for version in ["2.0.0", "1.0.0/..", ""] {
        assert!(matches!(Bed::new().refused(&Maker::whole().manifest("version", version)), UnpackError::Contradiction { .. }));
    }
    for path in ["../x", "/x", "share/manifest.json", "a//b"] {
        let mut files = manifest["files"].clone();
        files[path] = "0".repeat(64).into();
        assert!(matches!(Bed::new().refused(&Maker::whole().manifest("files", files)), UnpackError::Contradiction { .. }), "{path}");
    }
}

#[test]
fn an_archive_without_launcher_host_or_loader_is_no_runtime() {
    for path in ["bin/containerd-shim-wasmedge-v1", "bin/wasmedge-host", "lib/ld-linux.so.2"] {
        let mut maker = Maker::whole();
        maker.files.remove(path);
        let error = Bed::new().refused(&maker);
        assert!(error.to_string().contains(path), "{error}");
    }
    let bed = Bed::new();
    let archive = write(bed.folder.path(), &[Raw::file(&format!("{TOP}/bin/wasmedge-host"), "x")]);
    assert!(matches!(bed.unpack(&archive).unwrap_err(), UnpackError::NoManifest));
}

#[test]
fn another_architectures_archive_is_refused_with_both_names() {
    let error = Bed::new().refused(&Maker::whole().manifest("architecture", "riscv64")).to_string();
    assert!(error.contains("riscv64") && error.contains(std::env::consts::ARCH), "{error}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let bed = Bed::new();
    let file = bed.folder.path().join("archive.tar.gz");
    for bytes in [b"".as_slice(), b"<html>404</html>", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]] {
        fs::write(&file, bytes).unwrap();
        let error = bed.unpack(&file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    }
    let error = bed.unpack(&bed.folder.path().join("absent")).unwrap_err();
    assert_eq!(error.reason(), Reason::HostFiles, "{error:?}");
    assert_eq!(fs::read_dir(bed.shelf()).unwrap().count(), 0);
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
