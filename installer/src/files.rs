//! Writes files so that after a crash at any moment the disk has the old file or the new one,
//! complete.
//!
//! A draft is a temporary file beside its target with a name that is derived from the target's.
//! Under the installers' lock there is one writer, so the next one overwrites the draft of a killed
//! one, or removes it with [`remove`].

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Owner and permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAccess {
    /// Permission bits.
    pub mode: u32,
    /// User and group; none for those of the writing process.
    pub owner: Option<(u32, u32)>,
}

impl FileAccess {
    /// Files of the installer: all users may read them.
    pub const READABLE: Self = Self {
        mode: 0o644,
        owner: None,
    };
    /// Programs: all users may run them.
    pub const PROGRAM: Self = Self {
        mode: 0o755,
        owner: None,
    };
    /// Files with secrets.
    pub const PRIVATE: Self = Self {
        mode: 0o600,
        owner: None,
    };

    /// Reads the access of an existing file; none if it is absent.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
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

impl From<&Metadata> for FileAccess {
    fn from(facts: &Metadata) -> Self {
        Self {
            mode: facts.mode() & 0o7777,
            owner: Some((facts.uid(), facts.gid())),
        }
    }
}

/// Replaces the content of `path` with `bytes`, atomically and durably.
///
/// # Errors
/// If the draft cannot be written (it is removed then, and the file is as it was) or cannot be
/// renamed.
pub fn write(path: &Path, bytes: &[u8], access: FileAccess) -> io::Result<()> {
    let draft = draft_of(path);
    let put = || {
        write_draft(&draft, bytes, access)?;
        fs::rename(&draft, path)?;
        sync(folder_of(path))
    };
    put().inspect_err(|_| {
        // The first error is the one to report. The next attempt overwrites a draft that stays.
        let _ = fs::remove_file(&draft);
    })
}

/// Removes a file and its draft, if they exist.
///
/// # Errors
/// If either cannot be removed.
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

/// Returns the absent folders on the path `folder`, the outermost first.
pub fn absent_folders(folder: &Path) -> Vec<PathBuf> {
    let mut absent: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|place| !place.exists())
        .map(Path::to_owned)
        .collect();
    absent.reverse();
    absent
}

/// Creates a folder and its parents.
///
/// # Errors
/// If one cannot be created.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    for place in absent_folders(folder) {
        fs::create_dir(&place)?;
        // Independent of the umask.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        sync(folder_of(&place))?;
    }
    Ok(())
}

/// The result of removing a folder if it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderRemoval {
    /// It is gone, or was absent.
    Gone,
    /// It is not empty.
    NotEmpty,
}

/// Removes a folder if it is empty.
///
/// # Errors
/// If it is empty and cannot be removed.
pub fn remove_empty_folder(folder: &Path) -> io::Result<FolderRemoval> {
    match fs::remove_dir(folder) {
        Ok(()) => sync(folder_of(folder)).map(|()| FolderRemoval::Gone),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(FolderRemoval::Gone),
            io::ErrorKind::DirectoryNotEmpty => Ok(FolderRemoval::NotEmpty),
            _ => Err(error),
        },
    }
}

/// Removes a folder with its content, if it exists.
///
/// # Errors
/// If something cannot be removed.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => sync(folder_of(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the path of a file's draft. Its name does not have the file's extension, so that
/// programs that read all files of a folder skip it.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.wasmedge-runtime-draft"))
}

fn write_draft(draft: &Path, bytes: &[u8], access: FileAccess) -> io::Result<()> {
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

/// Makes the entries of a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> FileAccess {
        let facts = fs::metadata("/proc/self").unwrap();
        FileAccess {
            mode: 0o640,
            owner: Some((facts.uid(), facts.gid())),
        }
    }

    #[test]
    fn file_is_replaced_with_the_given_access() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        write(&file, b"one", own()).unwrap();
        write(&file, b"two", own()).unwrap();
        assert_eq!(
            (
                fs::read(&file).unwrap().as_slice(),
                FileAccess::of(&file).unwrap()
            ),
            (b"two".as_slice(), Some(own()))
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_keeps_the_target_and_removes_the_draft() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        write(&taken, b"x", own()).unwrap_err();
        assert!(taken.join("inside").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn remove_takes_the_draft_of_a_killed_writer_along() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(draft_of(&file), "half").unwrap();
        fs::write(&file, "whole").unwrap();
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn folder_is_removed_only_if_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        assert_eq!(
            absent_folders(&inner),
            [folder.path().join("a"), inner.clone()]
        );
        make_folders(&inner).unwrap();
        assert_eq!(
            remove_empty_folder(&folder.path().join("a")).unwrap(),
            FolderRemoval::NotEmpty
        );
        assert_eq!(remove_empty_folder(&inner).unwrap(), FolderRemoval::Gone);
        assert_eq!(remove_empty_folder(&inner).unwrap(), FolderRemoval::Gone);
    }
}
