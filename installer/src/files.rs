//! Writes files so that a crash at any moment leaves the old file or the new one, on disk and
//! whole.
//!
//! A draft lies beside its file under a name that belongs to it alone: there is one writer, under
//! the installers' lock, so the next one writes over a draft that a killed one left, or removes it
//! with [`remove`].

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Who owns a file, and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// User and group; none are those of whoever writes it.
    pub owner: Option<(u32, u32)>,
}

impl Access {
    /// For files that the installer makes: everybody may read them.
    pub const READABLE: Self = Self {
        mode: 0o644,
        owner: None,
    };
    /// For programs: everybody may run them.
    pub const PROGRAM: Self = Self {
        mode: 0o755,
        owner: None,
    };
    /// For files with what is nobody else's business.
    pub const PRIVATE: Self = Self {
        mode: 0o600,
        owner: None,
    };

    /// A file's own.
    ///
    /// # Errors
    /// When the file is there but cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(facts) => Ok(Some(Self::from(&facts))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl From<&Metadata> for Access {
    fn from(facts: &Metadata) -> Self {
        Self {
            mode: facts.mode() & 0o7777,
            owner: Some((facts.uid(), facts.gid())),
        }
    }
}

/// Puts `bytes` at `path`, at once and durably.
///
/// # Errors
/// When the draft cannot be written (then it is removed, and the file is as it was) or cannot take
/// the file's place.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let draft = draft_of(path);
    let put = || {
        write_draft(&draft, bytes, access)?;
        fs::rename(&draft, path)?;
        sync(folder_of(path))
    };
    put().inspect_err(|_| {
        // The reason why there is no file is the one to tell; a draft that stays is written over by
        // the next attempt.
        let _ = fs::remove_file(&draft);
    })
}

/// Removes a file and its draft. An absent one is removed already.
///
/// # Errors
/// When it stays.
pub fn remove(path: &Path) -> io::Result<()> {
    for place in [draft_of(path), path.to_owned()] {
        match fs::remove_file(&place) {
            Ok(()) => sync(folder_of(path))?,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The folders that are absent on the way to `folder` and at it, the outermost first.
pub fn absent_folders(folder: &Path) -> Vec<PathBuf> {
    let mut absent: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|place| !place.exists())
        .map(Path::to_owned)
        .collect();
    absent.reverse();
    absent
}

/// Makes a folder and those it lies in.
///
/// # Errors
/// When one cannot be made.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    for place in absent_folders(folder) {
        fs::create_dir(&place)?;
        // Whatever the process's mask is.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        sync(folder_of(&place))?;
    }
    Ok(())
}

/// What became of a folder that was to go if nothing is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// It is gone, or was not there.
    Gone,
    /// Something is in it.
    Kept,
}

/// Removes a folder in which nothing is.
///
/// # Errors
/// When it is empty and stays.
pub fn remove_empty_folder(folder: &Path) -> io::Result<Folder> {
    match fs::remove_dir(folder) {
        Ok(()) => sync(folder_of(folder)).map(|()| Folder::Gone),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Folder::Gone),
            io::ErrorKind::DirectoryNotEmpty => Ok(Folder::Kept),
            _ => Err(error),
        },
    }
}

/// Removes a folder with all that is in it. An absent one is removed already.
///
/// # Errors
/// When something stays.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => sync(folder_of(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where a file's draft lies. No ending of the file's own, lest whoever reads all files of a folder
/// reads the draft.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.wasmedge-runtime-draft"))
}

fn write_draft(draft: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(bytes)?;
    let facts = file.metadata()?;
    if let Some((user, group)) = access.owner
        && (facts.uid(), facts.gid()) != (user, group)
    {
        fchown(&file, Some(user), Some(group))?;
    }
    file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    file.sync_all()
}

/// Makes a folder's entries durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Access {
        let facts = fs::metadata("/proc/self").unwrap();
        Access {
            mode: 0o640,
            owner: Some((facts.uid(), facts.gid())),
        }
    }

    #[test]
    fn a_file_is_replaced_with_the_access_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        write(&file, b"one", own()).unwrap();
        write(&file, b"two", own()).unwrap();
        assert_eq!(
            (
                fs::read(&file).unwrap().as_slice(),
                Access::of(&file).unwrap()
            ),
            (b"two".as_slice(), Some(own()))
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays_and_no_draft_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        write(&taken, b"x", own()).unwrap_err();
        assert!(taken.join("inside").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_takes_a_killed_ones_draft_along() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(draft_of(&file), "half").unwrap();
        fs::write(&file, "whole").unwrap();
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_goes_only_when_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        assert_eq!(
            absent_folders(&inner),
            [folder.path().join("a"), inner.clone()]
        );
        make_folders(&inner).unwrap();
        assert_eq!(
            remove_empty_folder(&folder.path().join("a")).unwrap(),
            Folder::Kept
        );
        assert_eq!(remove_empty_folder(&inner).unwrap(), Folder::Gone);
        assert_eq!(remove_empty_folder(&inner).unwrap(), Folder::Gone);
    }
}
