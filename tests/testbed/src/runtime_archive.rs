//! The runtime archive, `wasmedge-runtime-<version>-<architecture>.tar.gz`: made of a bundle's
//! folder, and modified for tests.
//!
//! It holds `wasmedge-runtime/<version>` with `bin`, `lib` and `share`. `compile` is left out: no
//! node uses it, and it is four fifths of a bundle. The manifest comes first, so that a reader can
//! check the rest against it. The same files give the same bytes. Tests derive broken archives from
//! valid ones; the manifest is updated with each change.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cache::hex;

/// Path of the manifest in a runtime's folder.
const MANIFEST: &str = "share/manifest.json";
/// The folders of a bundle that go into an archive.
const FOLDERS: &[&str] = &["bin", "lib", "share"];
/// The only top-level folder of an archive.
const TOP: &str = "wasmedge-runtime";

/// The content of an archive, in memory.
#[derive(Debug, Clone)]
pub struct RuntimeArchive {
    /// The manifest without its files, which are added when the archive is packed.
    manifest: Value,
    files: BTreeMap<String, Item>,
}

#[derive(Debug, Clone)]
struct Item {
    mode: u32,
    bytes: Vec<u8>,
}

/// A written archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file. Its digest lies beside it with the suffix `.sha256`, in the format of `sha256sum`.
    pub file: PathBuf,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

impl RuntimeArchive {
    /// Collects the archive's content from the bundle in `root`.
    ///
    /// # Errors
    /// Fails if `root` is not a bundle, or one of its folders holds anything but files and folders.
    pub fn of_bundle(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for folder in FOLDERS {
            collect(root, &root.join(folder), &mut files)?;
        }
        Self::of_files(files).with_context(|| format!("{} is not a runtime bundle", root.display()))
    }

    /// Reads an archive, to derive another one from it.
    ///
    /// # Errors
    /// Fails if it is not a runtime archive.
    pub fn read(archive: &Path) -> Result<Self> {
        let file =
            fs::File::open(archive).with_context(|| format!("open {}", archive.display()))?;
        let context = || format!("read {}", archive.display());
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(file))
            .entries()
            .with_context(context)?
        {
            let mut entry = entry.with_context(context)?;
            let path = entry.path().with_context(context)?.into_owned();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = path
                .components()
                .skip(2)
                .collect::<PathBuf>()
                .display()
                .to_string();
            let mode = entry.header().mode().with_context(context)?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).with_context(context)?;
            files.insert(name, Item { mode, bytes });
        }
        Self::of_files(files)
            .with_context(|| format!("{} is not a runtime archive", archive.display()))
    }

    fn of_files(mut files: BTreeMap<String, Item>) -> Result<Self> {
        let manifest = files.remove(MANIFEST).context("it has no manifest")?;
        let manifest = serde_json::from_slice(&manifest.bytes).context("read its manifest")?;
        Ok(Self { manifest, files })
    }

    /// Returns the runtime's version.
    pub fn version(&self) -> &str {
        self.manifest["version"].as_str().unwrap_or_default()
    }

    /// Returns the processor architecture of its programs.
    pub fn architecture(&self) -> &str {
        self.manifest["architecture"].as_str().unwrap_or_default()
    }

    /// Returns the same files as another version.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.manifest["version"] = json!(version);
        self
    }

    /// Returns the same files, marked as built for another processor.
    #[must_use]
    pub fn with_architecture(mut self, architecture: &str) -> Self {
        self.manifest["architecture"] = json!(architecture);
        self
    }

    /// Replaces the bytes of the file `path`, which keeps its mode; a new file is executable.
    #[must_use]
    pub fn with_file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let mode = self.files.get(path).map_or(0o755, |item| item.mode);
        self.files.insert(
            path.to_owned(),
            Item {
                mode,
                bytes: bytes.into(),
            },
        );
        self
    }

    /// Removes the file `path`.
    #[must_use]
    pub fn without_file(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }

    /// Returns the bytes of the file `path`.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(|item| item.bytes.as_slice())
    }

    /// Returns its file name in releases.
    pub fn file_name(&self) -> String {
        format!("{TOP}-{}-{}.tar.gz", self.version(), self.architecture())
    }

    /// Formats the manifest with the digest of each file.
    fn manifest_text(&self) -> Result<Vec<u8>> {
        let mut manifest = self.manifest.clone();
        let digests = self
            .files
            .iter()
            .map(|(path, item)| (path.clone(), json!(hex(&Sha256::digest(&item.bytes)))));
        manifest["files"] = Value::Object(digests.collect());
        serde_json::to_vec_pretty(&manifest).context("serialize the manifest")
    }

    /// Returns the archive's bytes.
    ///
    /// # Errors
    /// Fails if a path is too long for a plain tar header.
    pub fn pack(&self) -> Result<Vec<u8>> {
        let gzip = flate2::GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), flate2::Compression::best());
        let mut tar = tar::Builder::new(gzip);
        let top = format!("{TOP}/{}", self.version());
        let manifest = Item {
            mode: 0o644,
            bytes: self.manifest_text()?,
        };
        append(&mut tar, &format!("{top}/{MANIFEST}"), &manifest)?;
        for (path, item) in &self.files {
            append(&mut tar, &format!("{top}/{path}"), item)?;
        }
        tar.into_inner()
            .and_then(flate2::write::GzEncoder::finish)
            .context("finish the archive")
    }

    /// Writes the archive and its digest into `folder`, under its usual name. An existing file with
    /// the same content is kept.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Written> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let name = self.file_name();
        let file = folder.join(&name);
        let bytes = self.pack()?;
        let sha256 = hex(&Sha256::digest(&bytes));
        for (path, bytes) in [
            (file.clone(), &bytes),
            (
                folder.join(format!("{name}.sha256")),
                &format!("{sha256}  {name}\n").into_bytes(),
            ),
        ] {
            let draft = folder.join(format!(".{name}-{}", std::process::id()));
            fs::write(&draft, bytes).with_context(|| format!("write {}", draft.display()))?;
            fs::rename(&draft, &path)
                .with_context(|| format!("rename {} to {}", draft.display(), path.display()))?;
        }
        Ok(Written {
            file,
            sha256,
            size: bytes.len() as u64,
        })
    }
}

/// Reads the files in `folder`, a part of `root`.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Item>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("list {}", folder.display()))?
            .path();
        let facts = path
            .symlink_metadata()
            .with_context(|| format!("look at {}", path.display()))?;
        if facts.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        if !facts.is_file() {
            bail!("{} is neither a file nor a folder", path.display());
        }
        let mode = if facts.permissions().mode() & 0o100 == 0 {
            0o644
        } else {
            0o755
        };
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path
            .strip_prefix(root)
            .with_context(|| format!("{} is not in the bundle", path.display()))?;
        files.insert(name.display().to_string(), Item { mode, bytes });
    }
    Ok(())
}

/// Adds a file in the plain tar format: readers on nodes refuse extensions.
fn append(tar: &mut tar::Builder<impl std::io::Write>, path: &str, item: &Item) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(path)
        .with_context(|| format!("write {path} into a tar header"))?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(item.mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(item.bytes.len() as u64);
    header.set_cksum();
    tar.append(&header, item.bytes.as_slice())
        .with_context(|| format!("add {path} to the archive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, mode, text) in [
            ("bin/containerd-shim-wasmedge-v1", 0o755, "launcher"),
            ("lib/libc.so.6", 0o644, "library"),
            ("compile/libLLVM.so", 0o644, "compiler"),
            (
                "share/manifest.json",
                0o644,
                r#"{"version": "1.0", "architecture": "x86_64", "files": {"compile/libLLVM.so": "00"}}"#,
            ),
        ] {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    #[test]
    fn archive_holds_the_manifests_files_and_no_compiler() {
        let (bundle, out) = (bundle(), tempfile::tempdir().unwrap());
        let written = RuntimeArchive::of_bundle(bundle.path())
            .unwrap()
            .write(out.path())
            .unwrap();
        assert_eq!(
            written.file.file_name().unwrap(),
            "wasmedge-runtime-1.0-x86_64.tar.gz"
        );
        let again = RuntimeArchive::read(&written.file).unwrap();
        assert_eq!(
            again.files.keys().collect::<Vec<_>>(),
            ["bin/containerd-shim-wasmedge-v1", "lib/libc.so.6"]
        );
        assert_eq!(again.manifest["files"].as_object().unwrap().len(), 2);
        let beside =
            fs::read_to_string(out.path().join("wasmedge-runtime-1.0-x86_64.tar.gz.sha256"))
                .unwrap();
        assert_eq!(
            beside,
            format!("{}  wasmedge-runtime-1.0-x86_64.tar.gz\n", written.sha256)
        );
    }

    #[test]
    fn same_files_give_the_same_bytes_at_any_time() {
        let archives = [bundle(), bundle()].map(|bundle| {
            RuntimeArchive::of_bundle(bundle.path())
                .unwrap()
                .pack()
                .unwrap()
        });
        assert_eq!(archives[0], archives[1]);
    }

    #[test]
    fn manifest_is_updated_with_a_change() {
        let archive = RuntimeArchive::of_bundle(bundle().path())
            .unwrap()
            .with_version("2.0")
            .with_file("bin/containerd-shim-wasmedge-v1", "");
        assert_eq!(archive.version(), "2.0");
        let manifest: Value = serde_json::from_slice(&archive.manifest_text().unwrap()).unwrap();
        assert_eq!(
            manifest["files"]["bin/containerd-shim-wasmedge-v1"],
            hex(&Sha256::digest(""))
        );
        assert!(
            archive
                .without_file("lib/libc.so.6")
                .file("lib/libc.so.6")
                .is_none()
        );
    }
}
