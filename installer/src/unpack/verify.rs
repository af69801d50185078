//! Verifies a runtime's folder with its manifest, file by file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::manifest::{LINK, MANIFEST, Manifest};

/// The first difference between a folder and its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A file is absent.
    Missing(String),
    /// A file has other bytes, or a link another target.
    Changed(String),
    /// A program is not executable, or a file is writable by others.
    Mode(String),
    /// A file is not in the manifest.
    Stray(String),
    /// A file cannot be read.
    Unreadable(String, io::ErrorKind),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{path} is missing"),
            Self::Changed(path) => write!(f, "{path} differs from the manifest"),
            Self::Mode(path) => write!(f, "{path} has a wrong mode"),
            Self::Stray(path) => write!(f, "{path} does not belong there"),
            Self::Unreadable(path, kind) => write!(f, "{path} cannot be read: {kind}"),
        }
    }
}

/// Verifies the runtime in `folder` with its own manifest.
///
/// # Errors
/// The first difference.
pub fn verify(folder: &Path) -> Result<Manifest, Damage> {
    let text = fs::read(folder.join(MANIFEST)).map_err(|error| unreadable(MANIFEST, &error))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|_| Damage::Changed(MANIFEST.to_owned()))?;
    compare(folder, &manifest, &text)?;
    Ok(manifest)
}

/// Verifies `folder` with `manifest`. The manifest's file there must contain `text`.
pub(super) fn compare(folder: &Path, manifest: &Manifest, text: &[u8]) -> Result<(), Damage> {
    // A link could be redirected to another folder after the check.
    if !folder
        .symlink_metadata()
        .map_err(|error| unreadable("the folder", &error))?
        .is_dir()
    {
        return Err(Damage::Changed("the folder".to_owned()));
    }
    let programs = manifest.programs();
    for (path, what) in &manifest.files {
        let place = folder.join(path);
        let facts = place
            .symlink_metadata()
            .map_err(|error| unreadable(path, &error))?;
        let is = if facts.is_symlink() {
            let target = fs::read_link(&place).map_err(|error| unreadable(path, &error))?;
            format!("{LINK}{}", target.display())
        } else if facts.is_file() {
            sha256_of(&place).map_err(|error| unreadable(path, &error))?
        } else {
            return Err(Damage::Changed(path.clone()));
        };
        if is != *what {
            return Err(Damage::Changed(path.clone()));
        }
        let mode = facts.permissions().mode();
        let must_run = programs.contains(path) && mode & 0o111 != 0o111;
        let is_open = facts.is_file() && mode & 0o7022 != 0;
        if must_run || is_open {
            return Err(Damage::Mode(path.clone()));
        }
    }
    match fs::read(folder.join(MANIFEST)) {
        Ok(found) if found == text => {}
        Ok(_) => return Err(Damage::Changed(MANIFEST.to_owned())),
        Err(error) => return Err(unreadable(MANIFEST, &error)),
    }
    let known: BTreeSet<&str> = manifest
        .files
        .keys()
        .map(String::as_str)
        .chain([MANIFEST])
        .collect();
    check_no_stray_files(folder, folder, &known)
}

/// Finds a file in `folder`, a part of `root`, that is not `known`: an unknown library would be
/// loaded.
fn check_no_stray_files(root: &Path, folder: &Path, known: &BTreeSet<&str>) -> Result<(), Damage> {
    let name = |path: &Path| {
        path.strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let failed = |error: &io::Error| unreadable(&name(folder), error);
    for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let path = entry.path();
        if entry.file_type().map_err(|error| failed(&error))?.is_dir() {
            check_no_stray_files(root, &path, known)?;
        } else if !known.contains(name(&path).as_str()) {
            return Err(Damage::Stray(name(&path)));
        }
    }
    Ok(())
}

pub(super) fn unreadable(path: &str, error: &io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Damage::Missing(path.to_owned()),
        kind => Damage::Unreadable(path.to_owned(), kind),
    }
}

/// Returns the SHA-256 of a file in hexadecimal digits.
fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crate::fetch::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
