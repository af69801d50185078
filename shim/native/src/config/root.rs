//! Checks of a container's root file system. libcontainer (0.7) makes and removes some files by
//! path before it enters the root: if a folder on the way were a link, it would do so on the node.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::error::NativeError;

/// Folders on which the kernel's file systems are mounted, and in which libcontainer makes files by
/// path.
const FOLDERS: [&str; 3] = ["dev", "proc", "sys"];

/// Refuses a root file system in which one of [`FOLDERS`] is not a folder, and mounts over the root
/// or `/dev` with files that another process could change meanwhile.
pub(super) fn check(spec: &Spec) -> Result<(), NativeError> {
    let Some(root) = spec.root().as_ref().map(|root| root.path().clone()) else {
        return Ok(());
    };
    for mount in spec.mounts().iter().flatten() {
        let is_bind = mount.typ().as_deref() == Some("bind")
            || mount
                .options()
                .iter()
                .flatten()
                .any(|option| option == "bind" || option == "rbind");
        if let Some(reason) = covers(mount.destination(), is_bind) {
            return Err(NativeError::Root {
                path: mount.destination().clone(),
                reason,
            });
        }
    }
    // libcontainer reports a missing root.
    let Ok(folder) = openat(
        CWD,
        &root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return Ok(());
    };
    for name in FOLDERS {
        let path = PathBuf::from("/").join(name);
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
                return Err(NativeError::Root {
                    path,
                    reason: "it is a symbolic link; make it a folder in the image",
                });
            }
            Ok(_) => {
                return Err(NativeError::Root {
                    path,
                    reason: "it is not a folder; make it one in the image",
                });
            }
            Err(Errno::NOENT) => {}
            Err(error) => {
                return Err(NativeError::State {
                    action: "check",
                    path: root.join(name),
                    source: error.into(),
                });
            }
        }
    }
    Ok(())
}

/// Returns why such a mount on `destination` is refused, if it is.
fn covers(destination: &Path, is_bind: bool) -> Option<&'static str> {
    let mut names: Vec<&std::ffi::OsStr> = Vec::new();
    for component in destination.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match names[..] {
        [] => Some("nothing can be mounted on the root; mount it on a folder below"),
        [name] if name == "dev" && is_bind => Some(
            "no volume can be mounted on /dev; mount it on a folder below, or the devices one by \
             one",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn checked(root: &Path, mounts: &str) -> Result<(), NativeError> {
        let text = format!(
            r#"{{"ociVersion": "1.1.0", "root": {{"path": {root:?}}}, "mounts": [{mounts}]}}"#
        );
        check(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn root_with_a_link_in_place_of_a_folder_of_the_kernels_is_refused() {
        for name in FOLDERS {
            let root = tempfile::tempdir().unwrap();
            checked(root.path(), "").unwrap();
            std::fs::create_dir(root.path().join(name)).unwrap();
            checked(root.path(), "").unwrap();
            std::fs::remove_dir(root.path().join(name)).unwrap();
            symlink("/tmp", root.path().join(name)).unwrap();
            let error = checked(root.path(), "").unwrap_err().to_string();
            assert!(
                error.contains(&format!("/{name}")) && error.contains("symbolic link"),
                "{error}"
            );
        }
    }

    #[test]
    fn mount_over_the_root_or_a_volume_on_dev_is_refused() {
        for (destination, is_bind, is_refused) in [
            ("/", true, true),
            ("/a/..", false, true),
            ("/dev", true, true),
            ("/x/../dev/", true, true),
            ("/dev", false, false),
            ("/dev/shm", true, false),
            ("/data", true, false),
        ] {
            assert_eq!(
                covers(Path::new(destination), is_bind).is_some(),
                is_refused,
                "{destination} {is_bind}"
            );
        }
    }
}
