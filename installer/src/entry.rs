//! A handler's entry: a folder with a link to the launcher and the file of runtime options beside
//! it.
//!
//! containerd 2.4 cannot create a user namespace for a handler whose configuration has an options
//! table, so the options are in a file. The launcher reads it from the folder of the path by which
//! containerd starts it. An entry is named for the runtime's folder and for the options in it, and
//! its content never changes: other options are another entry. So an edit of containerd's
//! configuration, which names the entry, changes launcher and options in one step, and so does the
//! way back.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use installer_protocol::Settings;
use sha2::{Digest as _, Sha256};

use crate::files::{self, Access};
use crate::host::HostPath;
use crate::unpack::LAUNCHER;

/// The file of runtime options. The launcher knows it by this name.
pub const OPTIONS: &str = "options.toml";
/// Stands between the name of the runtime's folder and the digest of the options.
const SEPARATOR: char = '@';
/// Hexadecimal digits of the digest.
const DIGITS: usize = 12;
/// The first lines of the file.
const HEAD: &str = "# Options of a WasmEdge runtime handler, written by the node installer. Change \
                    them in the WasmRuntime:\n\
                    # an edit of this file is undone.\n";

/// An entry on the shelf of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its folder's name.
    name: String,
    /// The name of the runtime's folder.
    runtime: String,
    /// The bytes of its options file.
    options: String,
}

impl Entry {
    /// The entry with these options for the runtime in the folder `runtime` of the shelf.
    pub fn new(runtime: &str, systemd_cgroup: bool, settings: Settings) -> Self {
        let mut options = format!("{HEAD}SystemdCgroup = {systemd_cgroup}\n");
        for (key, value) in settings.options() {
            // Writing to a String cannot fail.
            let _ = writeln!(options, "{key} = {value}");
        }
        let digest = crate::fetch::hex(&Sha256::digest(options.as_bytes()));
        Self {
            name: format!("{runtime}{SEPARATOR}{}", &digest[..DIGITS]),
            runtime: runtime.to_owned(),
            options,
        }
    }

    /// What containerd executes, for an entry in this folder of the host's versions.
    pub fn launcher(&self, versions: &HostPath) -> HostPath {
        versions.join(&self.name).join(launcher_name())
    }

    /// Makes the entry in `versions`, or repairs it: first the options, then the link that leads to
    /// them.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn make(&self, versions: &Path) -> io::Result<()> {
        let folder = versions.join(&self.name);
        if folder.symlink_metadata().is_ok_and(|facts| !facts.is_dir()) {
            fs::remove_file(&folder)?;
        }
        files::make_folders(&folder)?;
        let options = folder.join(OPTIONS);
        if !is_own_file(&options, self.options.as_bytes()) {
            files::write(&options, self.options.as_bytes(), Access::READABLE)?;
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

/// The name of the runtime's folder that the folder `name` on a shelf belongs to: an entry's
/// runtime, or the folder itself.
pub fn runtime_of(name: &str) -> &str {
    name.rsplit_once(SEPARATOR)
        .map_or(name, |(runtime, _)| runtime)
}

/// Whether the launcher's path leads through an entry, so that its options are in the entry's file.
pub fn is_entry(launcher: &str) -> bool {
    let folder = launcher.rsplit('/').nth(1).unwrap_or_default();
    launcher.ends_with(launcher_name()) && folder.contains(SEPARATOR)
}

fn launcher_name() -> &'static str {
    LAUNCHER.rsplit('/').next().unwrap_or(LAUNCHER)
}

/// Whether this is a file of ours with these bytes that only we can write.
fn is_own_file(path: &Path, bytes: &[u8]) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_own = path.symlink_metadata().is_ok_and(|facts| {
        facts.is_file() && facts.uid() == own && facts.mode() & 0o7777 == Access::READABLE.mode
    });
    is_own && fs::read(path).is_ok_and(|found| found == bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use installer_protocol::settings::{Grouping, LogLevel};

    use super::*;

    const RUNTIME: &str = "0.1.0-0123456789ab";

    #[test]
    fn entry_of_other_options_is_another_folder_of_the_same_runtime() {
        let plain = Entry::new(RUNTIME, false, Settings::default());
        let chosen = Settings {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            ..Settings::default()
        };
        let entries = [
            plain.clone(),
            Entry::new(RUNTIME, true, Settings::default()),
            Entry::new(RUNTIME, false, chosen),
        ];
        let names: std::collections::BTreeSet<&str> =
            entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), entries.len());
        assert!(names.iter().all(|name| runtime_of(name) == RUNTIME));
        assert_eq!(plain, Entry::new(RUNTIME, false, Settings::default()));
        let options: toml_edit::DocumentMut = entries[2].options.parse().unwrap();
        let found = ["grouping", "log_level"].map(|key| options[key].as_str().unwrap());
        assert_eq!(
            (found, options["SystemdCgroup"].as_bool()),
            (["pod", "debug"], Some(false))
        );
    }

    #[test]
    fn entry_is_known_by_the_launchers_path() {
        let shelf = HostPath::new("/opt/wasmedge-runtime/wasmedge").unwrap();
        let launcher = Entry::new(RUNTIME, true, Settings::default()).launcher(&shelf);
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
    fn entry_leads_to_the_launcher_and_is_made_again_when_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = folder.path();
        fs::create_dir_all(shelf.join(RUNTIME).join("bin")).unwrap();
        fs::write(shelf.join(RUNTIME).join(LAUNCHER), "launcher").unwrap();
        let entry = Entry::new(RUNTIME, true, Settings::default());
        let place = shelf.join(&entry.name);
        let whole = || {
            entry.make(shelf).unwrap();
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
                fs::rename(place.join(OPTIONS), shelf.join("elsewhere")).unwrap();
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
