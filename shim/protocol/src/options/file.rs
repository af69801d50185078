//! The options file: runtime options beside the launcher, for handlers without an options table in
//! containerd's configuration.
//!
//! containerd 2.4 cannot create a user namespace for a handler that has a table. The launcher looks
//! for the file in the folder of the path by which containerd started it, so a link in a folder of
//! its own is a handler with options of its own. It copies the file into the container's bundle for
//! the host, which does not know handlers.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use runtime_options::RuntimeOptions;
use rustix::fs::OFlags;

use super::{OptionsError, from_toml};

/// The file's name beside the launcher.
pub const OPTIONS_FILE: &str = "options.toml";
/// The file's name in a container's bundle.
const IN_BUNDLE: &str = "wasmedge-options.toml";
/// The maximum size of the file.
const MAX_SIZE: u64 = 64 << 10;

/// A file with runtime options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsFile {
    /// The file's path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
    /// Its options.
    pub options: RuntimeOptions,
}

impl OptionsFile {
    /// Reads the file beside the launcher that containerd started by the path `launcher`; `None` if
    /// there is no such file.
    ///
    /// # Errors
    /// If users other than root and this process's user can write the file, or its options are not
    /// accepted.
    pub fn beside(launcher: &Path) -> Result<Option<Self>, OptionsError> {
        // A bare name was looked up in PATH, by a shell.
        let folder = launcher.parent().filter(|folder| folder.is_absolute());
        folder.map_or(Ok(None), |folder| Self::read(folder.join(OPTIONS_FILE)))
    }

    /// Reads the file that a launcher copied into a container's bundle; `None` if there is no such
    /// file.
    ///
    /// # Errors
    /// As [`OptionsFile::beside`].
    pub fn in_bundle(bundle: &Path) -> Result<Option<Self>, OptionsError> {
        Self::read(bundle.join(IN_BUNDLE))
    }

    /// Copies the file into a container's bundle.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn copy_to_bundle(&self, bundle: &Path) -> Result<(), OptionsError> {
        let path = bundle.join(IN_BUNDLE);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        written
            .and_then(|mut file| file.write_all(self.text.as_bytes()))
            .map_err(|error| OptionsError::HandOver {
                path: path.display().to_string(),
                reason: error.to_string(),
            })
    }

    fn read(path: PathBuf) -> Result<Option<Self>, OptionsError> {
        let unreadable = |path: &Path, reason: String| OptionsError::File {
            path: path.display().to_string(),
            reason,
        };
        // A FIFO must not block the launcher.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags =
            i32::try_from(flags.bits()).map_err(|error| unreadable(&path, error.to_string()))?;
        let mut file = match OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) if path.is_symlink() => return Err(unsafe_file(&path, "is a symbolic link")),
            Err(error) => return Err(unreadable(&path, error.to_string())),
        };
        must_be_safe(&path, &file)?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|error| unreadable(&path, error.to_string()))?;
        let options = from_toml(&text);
        let options = options.map_err(|error| OptionsError::InFile {
            path: path.display().to_string(),
            error: Box::new(error),
        })?;
        Ok(Some(Self {
            path,
            text,
            options,
        }))
    }
}

/// Refuses a file through which a user other than root could choose options.
fn must_be_safe(path: &Path, file: &File) -> Result<(), OptionsError> {
    let facts = file.metadata().map_err(|error| OptionsError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    if !facts.is_file() {
        return Err(unsafe_file(path, "is not a regular file"));
    }
    if facts.uid() != 0 && facts.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_file(path, "does not belong to root"));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(unsafe_file(
            path,
            "can be written by other users than its owner",
        ));
    }
    if facts.len() > MAX_SIZE {
        return Err(unsafe_file(path, "has more than 64 KiB"));
    }
    Ok(())
}

fn unsafe_file(path: &Path, problem: &'static str) -> OptionsError {
    OptionsError::UnsafeFile {
        path: path.display().to_string(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;
    use runtime_options::CgroupDriver;

    #[test]
    fn options_file_is_read_beside_the_launcher_and_copied_to_the_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let launcher = folder.path().join("containerd-shim-wasmedge-v1");
        symlink("/elsewhere/bin/containerd-shim-wasmedge-v1", &launcher).unwrap();
        assert_eq!(OptionsFile::beside(&launcher), Ok(None));
        fs::write(folder.path().join(OPTIONS_FILE), "SystemdCgroup = true\n").unwrap();
        let file = OptionsFile::beside(&launcher).unwrap().unwrap();
        assert_eq!(
            file.options,
            RuntimeOptions {
                cgroup_driver: CgroupDriver::Systemd,
                ..RuntimeOptions::default()
            }
        );
        for by_shell in [
            "containerd-shim-wasmedge-v1",
            "./containerd-shim-wasmedge-v1",
            "",
        ] {
            assert_eq!(OptionsFile::beside(Path::new(by_shell)), Ok(None));
        }

        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(OptionsFile::in_bundle(bundle.path()), Ok(None));
        file.copy_to_bundle(bundle.path()).unwrap();
        assert_eq!(
            OptionsFile::in_bundle(bundle.path())
                .unwrap()
                .unwrap()
                .options,
            file.options
        );
        file.copy_to_bundle(bundle.path()).unwrap();
        assert!(
            file.copy_to_bundle(Path::new("/nowhere"))
                .unwrap_err()
                .to_string()
                .contains(IN_BUNDLE)
        );
    }

    #[test]
    fn options_file_that_another_user_could_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (launcher, path) = (
            folder.path().join("launcher"),
            folder.path().join(OPTIONS_FILE),
        );
        let refused = |harm: &dyn Fn(), words: &str| {
            fs::write(&path, "SystemdCgroup = true\n").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            OptionsFile::beside(&launcher).unwrap().unwrap();
            harm();
            let error = OptionsFile::beside(&launcher).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains(path.to_str().unwrap()),
                "{words}: {error}"
            );
            if path.is_dir() {
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            }
            .unwrap();
        };
        let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused(&|| mode(0o664), "can be written");
        refused(&|| mode(0o646), "can be written");
        refused(&|| fs::write(&path, "Colour = 1").unwrap(), "Colour");
        refused(&|| fs::write(&path, "# ".repeat(40_000)).unwrap(), "64 KiB");
        refused(&|| fs::write(&path, [0xff]).unwrap(), "cannot be read");
        refused(
            &|| {
                fs::rename(&path, folder.path().join("real")).unwrap();
                symlink("real", &path).unwrap();
            },
            "symbolic link",
        );
        refused(
            &|| {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            },
            "regular file",
        );
        if rustix::process::geteuid().is_root() {
            refused(
                &|| chown(&path, Some(1000), None).unwrap(),
                "does not belong to root",
            );
        }
    }
}
