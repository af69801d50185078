//! The runtime's folder from its archive. Every byte of it is verified.
//!
//! An archive has one folder `wasmedge-runtime/<version>` with `bin`, `lib` and `share`. Its
//! manifest (`share/manifest.json`) lists every file with its SHA-256. It becomes the folder
//! `<version>-<digest>` in the node's versions folder, `<install>/wasmedge-runtime/<runtime>`, so
//! another archive never changes an existing runtime. The folder is filled under a hidden name and
//! renamed when every byte is on the disk, so it is complete or absent.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use installer_protocol::Reason;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

mod extract;
mod manifest;
mod tree;
mod verify;

pub use manifest::{HOST, LAUNCHER, MANIFEST, Manifest};
pub use tree::Refusal;
pub use verify::{Damage, verify};

/// Prefix of incomplete folders. The next run removes them.
const PARTIAL_PREFIX: &str = ".unpack-";
/// Hexadecimal digits of an archive's SHA-256 in its folder's name.
const DIGEST_DIGITS: usize = 12;
/// Maximum bytes of all files of an archive together; ours has 43 MB.
const MAX_TOTAL_SIZE: u64 = 1 << 30;
/// Maximum number of entries of an archive; ours has about a hundred.
const MAX_ENTRIES: usize = 10_000;

/// The expected properties of an archive.
#[derive(Debug, Clone)]
pub struct ExpectedArchive {
    /// SHA-256 of the archive, 64 hexadecimal digits, already verified. It names the folder.
    pub sha256: String,
    /// The processor architecture in Rust's notation (`x86_64`).
    pub architecture: String,
    /// Names of folders that containers run from: these are never replaced.
    pub in_use: BTreeSet<String>,
}

impl ExpectedArchive {
    /// Expects the archive `sha256` for this machine's architecture.
    pub fn here(sha256: &str, in_use: BTreeSet<String>) -> Self {
        Self {
            sha256: sha256.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            in_use,
        }
    }
}

/// A runtime's folder that was verified with its manifest.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The folder.
    pub path: PathBuf,
    /// Its name, `<version>-<digest>`.
    pub name: String,
    /// The runtime's version.
    pub version: String,
    /// Whether its launcher reads runtime options from a file.
    pub options_file: bool,
    /// What was done to the folder.
    pub change: FolderChange,
}

/// A change of a runtime's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderChange {
    /// None: it was intact.
    None,
    /// It was absent and was made.
    Made,
    /// It was damaged and was replaced.
    Repaired,
}

/// An archive that did not become a folder. The versions folder is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be decompressed, or is truncated.
    #[error("{} is not a complete gzip-compressed tar archive", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The decoder's error.
        source: io::Error,
    },
    /// It has an entry that a runtime must not have.
    #[error("the archive's entry {entry:?} is refused: {why}")]
    Entry {
        /// Its path in the archive.
        entry: String,
        /// The cause.
        why: Refusal,
    },
    /// It has no manifest.
    #[error(
        "the archive has no {MANIFEST} in a folder wasmedge-runtime/<version>: it is not a runtime"
    )]
    NoManifest,
    /// Its manifest cannot be parsed.
    #[error("the archive's {MANIFEST} cannot be parsed")]
    Manifest {
        /// The cause.
        source: serde_json::Error,
    },
    /// Its manifest contradicts the archive, or lacks a required file.
    #[error("the archive's {MANIFEST} {what}")]
    Contradiction {
        /// The contradiction.
        what: String,
    },
    /// It is for another architecture.
    #[error(
        "the archive is for {archive}, this node is {node}: give one for {node} under the artifact \
         of that architecture"
    )]
    Architecture {
        /// The archive's architecture.
        archive: String,
        /// The node's architecture.
        node: String,
    },
    /// Its files do not match its manifest.
    #[error("the archive contradicts its own manifest: {damage}")]
    Content {
        /// The difference.
        damage: Damage,
    },
    /// A folder on the node is damaged, and containers run from it.
    #[error(
        "{} is damaged ({damage}) and containers run from it: stop them, then it is made anew",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The difference.
        damage: Damage,
    },
    /// A file operation on the node failed.
    #[error("cannot {operation} {}", path.display())]
    Host {
        /// The operation.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl UnpackError {
    /// Returns the reason for the report.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Archive { .. }
            | Self::Entry { .. }
            | Self::NoManifest
            | Self::Manifest { .. }
            | Self::Contradiction { .. }
            | Self::Architecture { .. }
            | Self::Content { .. } => Reason::InvalidArtifact,
            Self::InUse { .. } => Reason::InUse,
            Self::Host { .. } => Reason::HostFiles,
        }
    }

    /// Adds the operation and its object to an I/O error.
    fn host(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// Returns the name of a runtime's folder.
pub fn folder_name(version: &str, sha256: &str) -> String {
    format!(
        "{version}-{}",
        sha256.get(..DIGEST_DIGITS).unwrap_or(sha256)
    )
}

/// Finds the runtime in the folder `name` of `versions` if it is intact, so that no archive is
/// needed. It is verified with its own manifest, which is the archive's. A damaged manifest does
/// not match the files.
///
/// # Errors
/// The first difference.
pub fn find(versions: &Path, name: &str, expected: &ExpectedArchive) -> Result<Unpacked, Damage> {
    let path = versions.join(name);
    let text =
        fs::read(path.join(MANIFEST)).map_err(|error| verify::unreadable(MANIFEST, &error))?;
    let digits = folder_name("", &expected.sha256);
    let manifest = name
        .strip_suffix(&digits)
        .and_then(|version| Manifest::read(&text, version).ok());
    let manifest =
        manifest.filter(|manifest| manifest.check_architecture(&expected.architecture).is_ok());
    let manifest = manifest.ok_or_else(|| Damage::Changed(MANIFEST.to_owned()))?;
    verify::compare(&path, &manifest, &text)?;
    let options_file = manifest.options_file;
    Ok(Unpacked {
        path,
        name: name.to_owned(),
        version: manifest.version,
        options_file,
        change: FolderChange::None,
    })
}

/// Makes the folder of `archive` in `versions`, or verifies the existing one.
///
/// The caller holds the node's lock: this removes what killed runs left.
///
/// # Errors
/// See [`UnpackError`]. No incomplete folder stays.
pub fn unpack(
    archive: &Path,
    expected: &ExpectedArchive,
    versions: &Path,
) -> Result<Unpacked, UnpackError> {
    fs::create_dir_all(versions).map_err(UnpackError::host("make", versions))?;
    remove_leftovers(versions)?;
    let (manifest, text) = extract::manifest_of(archive)?;
    manifest.check_architecture(&expected.architecture)?;
    let name = folder_name(&manifest.version, &expected.sha256);
    let path = versions.join(&name);
    let (version, options_file) = (manifest.version.clone(), manifest.options_file);
    let unpacked = |change| Unpacked {
        path: path.clone(),
        name: name.clone(),
        version: version.clone(),
        options_file,
        change,
    };
    if path.symlink_metadata().is_err() {
        let partial = fill(archive, &manifest, &text, versions)?;
        fs::rename(partial.path(), &path).map_err(UnpackError::host("rename to", &path))?;
        sync(versions)?;
        return Ok(unpacked(FolderChange::Made));
    }
    let Err(damage) = verify::compare(&path, &manifest, &text) else {
        return Ok(unpacked(FolderChange::None));
    };
    tracing::warn!(folder = %path.display(), %damage, "the runtime's folder is damaged");
    if expected.in_use.contains(&name) {
        return Err(UnpackError::InUse {
            folder: path,
            damage,
        });
    }
    let partial = fill(archive, &manifest, &text, versions)?;
    replace(partial.path(), &path)?;
    sync(versions)?;
    Ok(unpacked(FolderChange::Repaired))
}

/// Replaces `path` by `partial` atomically: containerd's configuration may lead there.
fn replace(partial: &Path, path: &Path) -> Result<(), UnpackError> {
    match renameat_with(CWD, partial, CWD, path, RenameFlags::EXCHANGE) {
        // The file system does not support the exchange. No container runs from the damaged folder,
        // so it may be absent for a moment.
        Err(Errno::INVAL | Errno::NOSYS) => {
            remove(path)?;
            fs::rename(partial, path).map_err(UnpackError::host("rename to", path))
        }
        // The damaged folder has the partial one's name now.
        Ok(()) => remove(partial),
        Err(errno) => Err(UnpackError::host("exchange", path)(errno.into())),
    }
}

/// Makes a hidden folder in `versions` with the archive's files, all of them on the disk.
fn fill(
    archive: &Path,
    manifest: &Manifest,
    text: &[u8],
    versions: &Path,
) -> Result<PartialFolder, UnpackError> {
    let partial = PartialFolder::new(versions)?;
    extract::extract(archive, manifest, partial.path())?;
    // Verifies what is on the disk.
    verify::compare(partial.path(), manifest, text)
        .map_err(|damage| UnpackError::Content { damage })?;
    Ok(partial)
}

/// Flushes the entries of `folder` to the disk.
fn sync(folder: &Path) -> Result<(), UnpackError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(UnpackError::host("flush", folder))
}

/// Removes the incomplete folders of killed runs.
fn remove_leftovers(versions: &Path) -> Result<(), UnpackError> {
    for entry in fs::read_dir(versions).map_err(UnpackError::host("list", versions))? {
        let entry = entry.map_err(UnpackError::host("list", versions))?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(PARTIAL_PREFIX)
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a folder.
fn remove(path: &Path) -> Result<(), UnpackError> {
    let is_folder = path
        .symlink_metadata()
        .map_err(UnpackError::host("look at", path))?
        .is_dir();
    let removed = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(UnpackError::host("remove", path))
}

/// An incomplete folder, which is removed on drop if it still has its name.
#[derive(Debug)]
struct PartialFolder {
    folder: tempfile::TempDir,
}

impl PartialFolder {
    fn new(versions: &Path) -> Result<Self, UnpackError> {
        let folder = tempfile::Builder::new()
            .prefix(PARTIAL_PREFIX)
            .tempdir_in(versions)
            .map_err(UnpackError::host("make a folder in", versions))?;
        // Temporary folders are private; the runtime's folder is not, whatever the umask.
        extract::set_mode(folder.path(), 0o755)?;
        Ok(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}
