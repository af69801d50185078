//! A handler's entry: a folder with a link to the launcher and an options file beside it.
//!
//! containerd 2.4 cannot create a user namespace for a handler with an options table, so the
//! options are in a file. The launcher reads it from the folder of the path by which containerd
//! executes it. An entry is named for the runtime's folder and for its options, and its content
//! never changes: other options make another entry. So containerd's configuration, which names the
//! entry, changes launcher and options in one step, in a rollback too.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use installer_protocol::Settings;
use sha2::{Digest as _, Sha256};

use crate::files::{self, FileAccess};
use crate::node_root::NodePath;
use crate::unpack::LAUNCHER;

/// The options file. The launcher expects this name.
pub const OPTIONS: &str = "options.toml";
/// Separates the name of the runtime's folder from the digest of the options.
const SEPARATOR: char = '@';
/// Hexadecimal digits of the digest.
const DIGEST_DIGITS: usize = 12;
/// The first lines of the options file.
const HEAD: &str = "# Options of a WasmEdge runtime handler, written by the node installer. Change \
                    them in the WasmRuntime:\n\
                    # an edit of this file is undone.\n";

/// An entry in the versions folder of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerEntry {
    /// Its folder's name.
    name: String,
    /// The name of the runtime's folder.
    runtime: String,
    /// The bytes of its options file.
    options: String,
}

impl HandlerEntry {
    /// Makes the entry with these options for the runtime's folder `runtime`.
    pub fn new(runtime: &str, systemd_cgroup: bool, settings: &Settings) -> Self {
        let mut options = format!("{HEAD}SystemdCgroup = {systemd_cgroup}\n");
        for (key, value) in settings.options.table() {
            // Writing to a String cannot fail.
            let _ = writeln!(options, "{key} = {value}");
        }
        let digest = crate::fetch::hex(&Sha256::digest(options.as_bytes()));
        Self {
            name: format!("{runtime}{SEPARATOR}{}", &digest[..DIGEST_DIGITS]),
            runtime: runtime.to_owned(),
            options,
        }
    }

    /// Returns the path that containerd executes, for an entry in this folder of the node.
    pub fn launcher(&self, versions: &NodePath) -> NodePath {
        versions.join(&self.name).join(launcher_name())
    }

    /// Writes or repairs the entry in `versions`: first the options, then the link.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make(&self, versions: &Path) -> io::Result<()> {
        let folder = versions.join(&self.name);
        if folder.symlink_metadata().is_ok_and(|facts| !facts.is_dir()) {
            fs::remove_file(&folder)?;
        }
        files::make_folders(&folder)?;
        let options = folder.join(OPTIONS);
        if !is_own_file(&options, self.options.as_bytes()) {
            files::write(&options, self.options.as_bytes(), FileAccess::READABLE)?;
        }
        let (link, target) = (
            folder.join(launcher_name()),
            format!("../{}/{LAUNCHER}", self.runtime),
        );
        if fs::read_link(&link).ok().as_deref() != Some(Path::new(&target)) {
            files::remove(&link)?;
            symlink(target, &link)?;
            fs::File::open(&folder)?.sync_all()?;
        }
        Ok(())
    }
}

/// Returns the runtime's folder that the folder `name` belongs to: an entry's runtime, or `name`
/// itself.
pub fn runtime_of(name: &str) -> &str {
    name.rsplit_once(SEPARATOR)
        .map_or(name, |(runtime, _)| runtime)
}

/// Returns whether `launcher` is the path of an entry, so that the options are in the entry's file.
pub fn is_entry(launcher: &str) -> bool {
    let folder = launcher.rsplit('/').nth(1).unwrap_or_default();
    launcher.ends_with(launcher_name()) && folder.contains(SEPARATOR)
}

fn launcher_name() -> &'static str {
    LAUNCHER.rsplit('/').next().unwrap_or(LAUNCHER)
}

/// Returns whether `path` is a regular file with these bytes that only this user can write.
fn is_own_file(path: &Path, bytes: &[u8]) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_own = path.symlink_metadata().is_ok_and(|facts| {
        facts.is_file() && facts.uid() == own && facts.mode() & 0o7777 == FileAccess::READABLE.mode
    });
    is_own && fs::read(path).is_ok_and(|found| found == bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use runtime_options::{Grouping, HandlerOptions, LogLevel};

    use super::*;

    const RUNTIME: &str = "0.1.0-0123456789ab";

    #[test]
    fn other_options_make_another_entry_of_the_same_runtime() {
        let plain = HandlerEntry::new(RUNTIME, false, &Settings::default());
        let chosen = Settings {
            options: HandlerOptions {
                grouping: Grouping::Pod,
                log_level: LogLevel::Debug,
                ..HandlerOptions::default()
            },
            ..Settings::default()
        };
        let entries = [
            plain.clone(),
            HandlerEntry::new(RUNTIME, true, &Settings::default()),
            HandlerEntry::new(RUNTIME, false, &chosen),
        ];
        let names: std::collections::BTreeSet<&str> =
            entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), entries.len());
        assert!(names.iter().all(|name| runtime_of(name) == RUNTIME));
        assert_eq!(
            plain,
            HandlerEntry::new(RUNTIME, false, &Settings::default())
        );
        let options: toml_edit::DocumentMut = entries[2].options.parse().unwrap();
        let found = ["grouping", "log_level"].map(|key| options[key].as_str().unwrap());
        assert_eq!(
            (found, options["SystemdCgroup"].as_bool()),
            (["pod", "debug"], Some(false))
        );
    }

    #[test]
    fn entry_is_recognized_by_the_launchers_path() {
        let versions = NodePath::new("/opt/wasmedge-runtime/wasmedge").unwrap();
        let launcher = HandlerEntry::new(RUNTIME, true, &Settings::default()).launcher(&versions);
        assert!(is_entry(launcher.as_str()), "{launcher}");
        for other in [
            "/opt/wasmedge-runtime/wasmedge/0.1.0-0123456789ab/bin/containerd-shim-wasmedge-v1",
            "/opt/a@b",
            "/a@b/c",
            "",
        ] {
            assert!(!is_entry(other), "{other}");
        }
        assert_eq!(runtime_of(RUNTIME), RUNTIME);
    }

    #[test]
    fn entry_leads_to_the_launcher_and_a_damaged_one_is_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let versions = folder.path();
        fs::create_dir_all(versions.join(RUNTIME).join("bin")).unwrap();
        fs::write(versions.join(RUNTIME).join(LAUNCHER), "launcher").unwrap();
        let entry = HandlerEntry::new(RUNTIME, true, &Settings::default());
        let place = versions.join(&entry.name);
        let whole = || {
            entry.make(versions).unwrap();
            assert_eq!(
                fs::read_to_string(place.join(launcher_name())).unwrap(),
                "launcher"
            );
            let facts = place.join(OPTIONS).symlink_metadata().unwrap();
            assert_eq!((facts.is_file(), facts.mode() & 0o777), (true, 0o644));
            assert_eq!(
                fs::read_to_string(place.join(OPTIONS)).unwrap(),
                entry.options
            );
            assert_eq!(fs::read_dir(&place).unwrap().count(), 2);
        };
        whole();
        whole();
        let harms: [&dyn Fn(); 6] = [
            &|| fs::write(place.join(OPTIONS), "SystemdCgroup = false").unwrap(),
            &|| {
                fs::set_permissions(place.join(OPTIONS), fs::Permissions::from_mode(0o666))
                    .unwrap();
            },
            &|| {
                fs::rename(place.join(OPTIONS), versions.join("elsewhere")).unwrap();
                symlink("../elsewhere", place.join(OPTIONS)).unwrap();
            },
            &|| fs::remove_file(place.join(launcher_name())).unwrap(),
            &|| {
                fs::remove_file(place.join(launcher_name())).unwrap();
                symlink("/bin/true", place.join(launcher_name())).unwrap();
            },
            &|| {
                fs::remove_dir_all(&place).unwrap();
                symlink("nowhere", &place).unwrap();
            },
        ];
        for harm in harms {
            harm();
            whole();
        }
    }
}
