//! Makes archives of runtimes, with faults on request.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use installer_protocol::Reason;
use node_installer::unpack::{Damage, ExpectedArchive, UnpackError, Unpacked, find, unpack};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

pub(crate) const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const TOP: &str = "wasmedge-runtime/1.0.0";

/// A header and its content, written as they are.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) link: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    /// The size in the header; none for the actual size.
    pub(crate) claimed: Option<u64>,
}

impl Raw {
    pub(crate) fn file(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            kind: EntryType::Regular,
            mode: 0o644,
            link: Vec::new(),
            bytes: text.into(),
            claimed: None,
        }
    }

    pub(crate) fn link(path: &str, target: &str) -> Self {
        Self {
            kind: EntryType::Symlink,
            link: target.into(),
            ..Self::file(path, "")
        }
    }

    pub(crate) fn of(kind: EntryType, path: &str) -> Self {
        Self {
            kind,
            ..Self::file(path, "")
        }
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// Makes an archive of a complete runtime, with a test's changes.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    pub(crate) files: BTreeMap<String, (u32, String)>,
    pub(crate) links: BTreeMap<String, String>,
    pub(crate) manifest: serde_json::Value,
    pub(crate) before: Vec<Raw>,
    pub(crate) after: Vec<Raw>,
}

impl Maker {
    pub(crate) fn whole() -> Self {
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
            manifest: serde_json::json!({ "version": "1.0.0",
                "architecture": std::env::consts::ARCH, "loader": "ld-linux.so.2" }),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    pub(crate) fn manifest(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.manifest[key] = value.into();
        self
    }

    pub(crate) fn before(mut self, raw: Raw) -> Self {
        self.before.push(raw);
        self
    }

    pub(crate) fn after(mut self, raw: Raw) -> Self {
        self.after.push(raw);
        self
    }

    pub(crate) fn entries(&self) -> Vec<Raw> {
        let mut manifest = self.manifest.clone();
        if manifest["files"].is_null() {
            let digests = self
                .files
                .iter()
                .map(|(path, (_, text))| (path.clone(), hex(text.as_bytes())));
            let links = self
                .links
                .iter()
                .map(|(path, target)| (path.clone(), format!("-> {target}")));
            manifest["files"] = digests
                .chain(links)
                .map(|(path, what)| (path, what.into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        let mut entries = self.before.clone();
        entries.push(Raw::file(
            &format!("{TOP}/share/manifest.json"),
            &manifest.to_string(),
        ));
        entries.extend(
            self.files
                .iter()
                .map(|(path, (mode, text))| Raw::file(&format!("{TOP}/{path}"), text).mode(*mode)),
        );
        entries.extend(
            self.links
                .iter()
                .map(|(path, target)| Raw::link(&format!("{TOP}/{path}"), target)),
        );
        entries.extend(self.after.clone());
        entries
    }

    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        write(folder, &self.entries())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

/// Writes headers byte by byte: an archive library would correct intended faults.
pub(crate) fn write(folder: &Path, entries: &[Raw]) -> PathBuf {
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
    let mut gzip = GzEncoder::new(
        fs::File::create(&file).unwrap(),
        flate2::Compression::fast(),
    );
    gzip.write_all(&plain).unwrap();
    gzip.finish().unwrap();
    file
}

/// A folder for the archive and the versions.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) in_use: BTreeSet<String>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            in_use: BTreeSet::new(),
        }
    }

    pub(crate) fn versions(&self) -> PathBuf {
        self.folder.path().join("node/wasmedge-runtime")
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.versions().join("1.0.0-0123456789ab")
    }

    pub(crate) fn unpack(&self, archive: &Path) -> Result<Unpacked, UnpackError> {
        unpack(
            archive,
            &ExpectedArchive::here(SHA256, self.in_use.clone()),
            &self.versions(),
        )
    }

    /// Finds the unpacked folder without an archive.
    pub(crate) fn found(&self) -> Result<Unpacked, Damage> {
        find(
            &self.versions(),
            "1.0.0-0123456789ab",
            &ExpectedArchive::here(SHA256, BTreeSet::new()),
        )
    }

    /// Unpacks the archive of `maker`.
    pub(crate) fn make(&self, maker: &Maker) -> Result<Unpacked, UnpackError> {
        self.unpack(&maker.write(self.folder.path()))
    }

    /// Returns the refusal of the archive of `maker`, and checks that no file stays.
    pub(crate) fn refused(&self, maker: &Maker) -> UnpackError {
        let error = self.make(maker).unwrap_err();
        assert_eq!(
            fs::read_dir(self.versions()).unwrap().count(),
            0,
            "something is left after {error}"
        );
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error}");
        error
    }

    pub(crate) fn names(&self) -> Vec<String> {
        fs::read_dir(self.versions())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

/// Returns the permission bits of `path`.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
