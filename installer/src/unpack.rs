//! The runtime's folder out of its archive: nothing of it is believed before it was compared.
//!
//! An archive holds one folder `wasmedge-runtime/<version>` with `bin`, `lib` and `share`; its
//! manifest (`share/manifest.json`) names every file with its SHA-256. It becomes the folder
//! `<version>-<digest>` on the node's shelf, `<install>/wasmedge-runtime`, so that another archive
//! never touches a runtime that is there. It is filled under a hidden name and renamed when every
//! byte is on the disk: whoever looks finds it whole or not at all.

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

/// Begins the names of folders in the making. They are removed by whoever comes next.
const DRAFT: &str = ".unpack-";
/// Hexadecimal digits of an archive's SHA-256 in its folder's name.
const DIGITS: usize = 12;
/// Bytes of all files of an archive together: ours has 43 MB.
const TOTAL_LIMIT: u64 = 1 << 30;
/// Entries of an archive: ours has about a hundred.
const ENTRY_LIMIT: usize = 10_000;

/// What an archive has to be.
#[derive(Debug, Clone)]
pub struct Expect {
    /// SHA-256 of the archive, 64 hexadecimal digits, as it was compared when it was fetched. Names
    /// the folder.
    pub sha256: String,
    /// The processor that its programs are for, in Rust's word (`x86_64`).
    pub architecture: String,
    /// Names of folders on the shelf that containers run from: these are never replaced.
    pub in_use: BTreeSet<String>,
}

impl Expect {
    /// The archive `sha256`, for this machine.
    pub fn here(sha256: &str, in_use: BTreeSet<String>) -> Self {
        Self {
            sha256: sha256.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            in_use,
        }
    }
}

/// A runtime's folder that was compared with its manifest, file by file.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The folder, below the shelf that was given.
    pub path: PathBuf,
    /// Its name on the shelf, `<version>-<digest>`.
    pub name: String,
    /// The runtime's version.
    pub version: String,
    /// Whether its launcher reads runtime options from a file.
    pub options_file: bool,
    /// What had to be done.
    pub change: Change,
}

/// What had to be done for a folder to be as its archive says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was there, and whole.
    None,
    /// It was not there.
    Made,
    /// It was there, damaged; it was made anew.
    Repaired,
}

/// Why an archive did not become a folder. The shelf is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be decompressed, or ends too early.
    #[error("{} is no whole gzip-compressed tar archive", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What the decoder says.
        source: io::Error,
    },
    /// An entry is none that a runtime has.
    #[error("the archive's entry {entry:?} is refused: {why}")]
    Entry {
        /// Its path in the archive.
        entry: String,
        /// Why.
        why: Refusal,
    },
    /// It has no manifest.
    #[error(
        "the archive holds no {MANIFEST} in a folder wasmedge-runtime/<version>: it is no runtime"
    )]
    NoManifest,
    /// Its manifest cannot be read.
    #[error("the archive's {MANIFEST} cannot be read")]
    Manifest {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its manifest contradicts the archive, or lacks what every runtime has.
    #[error("the archive's {MANIFEST} {what}")]
    Contradiction {
        /// In which way.
        what: String,
    },
    /// It is for another processor.
    #[error(
        "the archive is for {archive}, this node is {node}: give one for {node} under the artifact \
         of that architecture"
    )]
    Architecture {
        /// The archive's.
        archive: String,
        /// The node's.
        node: String,
    },
    /// What it holds is not what its manifest says.
    #[error("the archive contradicts its own manifest: {damage}")]
    Content {
        /// The difference.
        damage: Damage,
    },
    /// A folder on the node is damaged, and containers run from it.
    #[error(
        "{} is damaged ({damage}) and containers run from it: end them, then it is made anew",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The node's file system refused.
    #[error("cannot {operation} {}", path.display())]
    Host {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl UnpackError {
    /// The word for the report.
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

    /// Gives an error of the file system its operation and its object.
    fn host(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// The name of a runtime's folder on the shelf.
pub fn folder_name(version: &str, sha256: &str) -> String {
    format!("{version}-{}", sha256.get(..DIGITS).unwrap_or(sha256))
}

/// The runtime in the folder `name` of `shelf`, if it is there and whole: then no archive is
/// needed. It is compared with its own manifest, which was the archive's when the folder was made;
/// a damaged one names other files than there are.
///
/// # Errors
/// The first difference.
pub fn find(shelf: &Path, name: &str, expected: &Expect) -> Result<Unpacked, Damage> {
    let path = shelf.join(name);
    let text =
        fs::read(path.join(MANIFEST)).map_err(|error| verify::unreadable(MANIFEST, &error))?;
    let digits = folder_name("", &expected.sha256);
    let manifest = name
        .strip_suffix(&digits)
        .and_then(|version| Manifest::read(&text, version).ok());
    let manifest = manifest.filter(|manifest| manifest.must_be_for(&expected.architecture).is_ok());
    let manifest = manifest.ok_or_else(|| Damage::Changed(MANIFEST.to_owned()))?;
    verify::compare(&path, &manifest, &text)?;
    let options_file = manifest.options_file;
    Ok(Unpacked {
        path,
        name: name.to_owned(),
        version: manifest.version,
        options_file,
        change: Change::None,
    })
}

/// Makes the folder of `archive` on `shelf`, or proves that it is there.
///
/// The caller holds the node's lock: leftovers of attempts that were killed are removed here.
///
/// # Errors
/// See [`UnpackError`]; nothing is left behind.
pub fn unpack(archive: &Path, expected: &Expect, shelf: &Path) -> Result<Unpacked, UnpackError> {
    fs::create_dir_all(shelf).map_err(UnpackError::host("make", shelf))?;
    remove_leftovers(shelf)?;
    let (manifest, text) = extract::manifest_of(archive)?;
    manifest.must_be_for(&expected.architecture)?;
    let name = folder_name(&manifest.version, &expected.sha256);
    let path = shelf.join(&name);
    let (version, options_file) = (manifest.version.clone(), manifest.options_file);
    let unpacked = |change| Unpacked {
        path: path.clone(),
        name: name.clone(),
        version: version.clone(),
        options_file,
        change,
    };
    if path.symlink_metadata().is_err() {
        let draft = fill(archive, &manifest, &text, shelf)?;
        fs::rename(draft.path(), &path).map_err(UnpackError::host("rename to", &path))?;
        sync(shelf)?;
        return Ok(unpacked(Change::Made));
    }
    let Err(damage) = verify::compare(&path, &manifest, &text) else {
        return Ok(unpacked(Change::None));
    };
    tracing::warn!(folder = %path.display(), %damage, "the runtime's folder is damaged");
    if expected.in_use.contains(&name) {
        return Err(UnpackError::InUse {
            folder: path,
            damage,
        });
    }
    let draft = fill(archive, &manifest, &text, shelf)?;
    replace(draft.path(), &path)?;
    sync(shelf)?;
    Ok(unpacked(Change::Repaired))
}

/// Puts `draft` in the place of `path`, at once: containerd's configuration may lead there.
fn replace(draft: &Path, path: &Path) -> Result<(), UnpackError> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::EXCHANGE) {
        // Some file systems cannot exchange. Nothing runs from the damaged one, so a moment without
        // it is no harm.
        Err(Errno::INVAL | Errno::NOSYS) => {
            remove(path)?;
            fs::rename(draft, path).map_err(UnpackError::host("rename to", path))
        }
        // The damaged one bears the draft's name now.
        Ok(()) => remove(draft),
        Err(errno) => Err(UnpackError::host("exchange", path)(errno.into())),
    }
}

/// A folder beside its place that holds what the archive does, all of it on the disk.
fn fill(
    archive: &Path,
    manifest: &Manifest,
    text: &[u8],
    shelf: &Path,
) -> Result<Draft, UnpackError> {
    let draft = Draft::new(shelf)?;
    extract::extract(archive, manifest, draft.path())?;
    // What the disk gives back counts, not what was meant to be written.
    verify::compare(draft.path(), manifest, text)
        .map_err(|damage| UnpackError::Content { damage })?;
    Ok(draft)
}

/// Writes the names in `folder` to the disk.
fn sync(folder: &Path) -> Result<(), UnpackError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(UnpackError::host("write to the disk", folder))
}

/// Removes what killed attempts left on `shelf`.
fn remove_leftovers(shelf: &Path) -> Result<(), UnpackError> {
    for entry in fs::read_dir(shelf).map_err(UnpackError::host("list", shelf))? {
        let entry = entry.map_err(UnpackError::host("list", shelf))?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes `path`, whatever it is.
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

/// A folder in the making; what bears its name in the end is removed with it.
#[derive(Debug)]
struct Draft {
    folder: tempfile::TempDir,
}

impl Draft {
    fn new(shelf: &Path) -> Result<Self, UnpackError> {
        let folder = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(shelf)
            .map_err(UnpackError::host("make a folder in", shelf))?;
        // Temporary folders are closed to others; the runtime's is not, and the umask of whoever
        // runs us is no matter.
        extract::set_mode(folder.path(), 0o755)?;
        Ok(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}
