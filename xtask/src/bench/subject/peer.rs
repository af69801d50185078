//! Shims of other projects, as `--peer NAME=PATH[,WORKLOAD]` names them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::name::PeerName;
use crate::bench::programs::Workload;

/// The form of the flag's value.
pub(in crate::bench) const FORM: &str = "NAME=PATH[,WORKLOAD]";

/// A shim of another project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bench) struct Peer {
    pub(super) name: PeerName,
    /// The shim's executable.
    pub(super) shim: PathBuf,
    pub(super) runtime_type: RuntimeType,
    pub(super) workload: Workload,
}

/// The name by which containerd finds a shim on its `PATH`, as `io.containerd.runc.v2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuntimeType(String);

impl RuntimeType {
    /// Returns the type of the shim in the file `path`; `None` if containerd would not accept the
    /// file's name as a shim's.
    fn of_shim(path: &Path) -> Option<Self> {
        let (name, version) = path
            .file_name()?
            .to_str()?
            .strip_prefix("containerd-shim-")?
            .rsplit_once('-')?;
        let number = version.strip_prefix('v')?;
        // containerd builds the file's name from the last two parts of the type, which a dot
        // separates.
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let is_version = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        (is_name && is_version).then(|| Self(format!("io.containerd.{name}.{version}")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Peer {
    /// Parses the flag's value. clap adds the flag and the value to the error.
    ///
    /// # Errors
    /// If a part is missing or not valid.
    pub(in crate::bench) fn parse(text: &str) -> Result<Self> {
        let Some((name, rest)) = text.split_once('=') else {
            bail!("the path is missing: expected {FORM}, as foo=/usr/bin/containerd-shim-foo-v1")
        };
        let (path, workload) = match rest.rsplit_once(',') {
            Some((path, workload)) => (path, Workload::parse(workload)?),
            None => (rest, Workload::default()),
        };
        let Some(runtime_type) = RuntimeType::of_shim(Path::new(path)) else {
            bail!(
                "the path {path:?} is not that of a shim: expected an executable whose name is \
                 containerd-shim-NAME-vN"
            )
        };
        Ok(Self {
            name: PeerName::parse(name)?,
            shim: path.into(),
            runtime_type,
            workload,
        })
    }

    /// Returns the absolute path of the executable: containerd accepts no other.
    ///
    /// # Errors
    /// If there is no executable file.
    pub(super) fn executable(&self) -> Result<PathBuf> {
        let shim = std::path::absolute(&self.shim)
            .with_context(|| format!("--peer: find {}", self.shim.display()))?;
        let found = fs::metadata(&shim).with_context(|| {
            format!(
                "--peer: look at {}: expected a shim's executable",
                shim.display()
            )
        })?;
        let is_executable = found.is_file() && found.permissions().mode() & 0o111 != 0;
        ensure!(
            is_executable,
            "--peer: {} is not an executable file: expected a shim's executable",
            shim.display()
        );
        Ok(shim)
    }
}

/// Checks that the names of peers are unique.
///
/// # Errors
/// If two peers have the same name.
pub(super) fn check_names(peers: &[Peer]) -> Result<()> {
    for (index, Peer { name, .. }) in peers.iter().enumerate() {
        let is_twice = peers[..index].iter().any(|other| other.name == *name);
        ensure!(
            !is_twice,
            "--peer: the name {:?} is given twice: expected a name of its own for each peer",
            name.as_str()
        );
    }
    Ok(())
}

/// Returns the words of a command line as reports show them. Paths of peers are specific to a
/// machine, so only their file names stay.
pub(in crate::bench) fn without_paths(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut is_value = false;
    let shorten = |word: String| {
        let was_flag = std::mem::replace(&mut is_value, word == "--peer");
        let (flag, value) = match word.strip_prefix("--peer=") {
            Some(value) => ("--peer=", value),
            None if was_flag => ("", word.as_str()),
            None => return word,
        };
        let shortened = value.split_once('=').map(|(name, path)| {
            format!("{flag}{name}={}", path.rsplit('/').next().unwrap_or(path))
        });
        shortened.unwrap_or(word)
    };
    words.into_iter().map(shorten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, shim: &str, runtime_type: &str, workload: Workload) -> Peer {
        let name = PeerName::parse(name).unwrap();
        Peer {
            name,
            shim: shim.into(),
            runtime_type: RuntimeType(runtime_type.to_owned()),
            workload,
        }
    }

    #[test]
    fn peer_flag_has_a_name_a_path_and_perhaps_a_workload() {
        for (text, expected) in [
            (
                "foo=/x/containerd-shim-foo-v1",
                peer(
                    "foo",
                    "/x/containerd-shim-foo-v1",
                    "io.containerd.foo.v1",
                    Workload::Rootfs,
                ),
            ),
            (
                "a=containerd-shim-foo-bar-v12,layer",
                peer(
                    "a",
                    "containerd-shim-foo-bar-v12",
                    "io.containerd.foo-bar.v12",
                    Workload::Layer,
                ),
            ),
            (
                "a=/x=1,2/containerd-shim-runc-v2,native",
                peer(
                    "a",
                    "/x=1,2/containerd-shim-runc-v2",
                    "io.containerd.runc.v2",
                    Workload::Native,
                ),
            ),
            (
                "a=/containerd-shim-a-v1,rootfs",
                peer(
                    "a",
                    "/containerd-shim-a-v1",
                    "io.containerd.a.v1",
                    Workload::Rootfs,
                ),
            ),
        ] {
            assert_eq!(Peer::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn peer_flag_with_a_bad_part_is_refused_by_the_part_and_what_is_expected() {
        for (text, part) in [
            ("", "path is missing"),
            ("/x/containerd-shim-foo-v1", "path is missing"),
            ("Foo=/x/containerd-shim-foo-v1", "\"Foo\""),
            ("=/x/containerd-shim-foo-v1", "\"\""),
            ("ours=/x/containerd-shim-foo-v1", "built-in"),
            ("foo=", "\"\""),
            ("foo=/x/runc", "\"/x/runc\""),
            ("foo=/x/containerd-shim-v1", "containerd-shim-NAME-vN"),
            ("foo=/x/containerd-shim-foo-v", "containerd-shim-NAME-vN"),
            (
                "foo=/x/containerd-shim-foo.bar-v1",
                "containerd-shim-NAME-vN",
            ),
            ("foo=/x/containerd-shim-foo-v1,wasm", "\"wasm\""),
            ("foo=/x/containerd-shim-foo-v1,", "rootfs, layer, native"),
        ] {
            let error = Peer::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("expected"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn two_peers_of_one_name_are_refused_by_the_name() {
        let peers = |names: &[&str]| -> Vec<Peer> {
            names
                .iter()
                .map(|name| {
                    peer(
                        name,
                        "/containerd-shim-a-v1",
                        "io.containerd.a.v1",
                        Workload::Rootfs,
                    )
                })
                .collect()
        };
        check_names(&peers(&["foo", "bar"])).unwrap();
        let error = check_names(&peers(&["foo", "bar", "foo"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--peer") && error.contains("\"foo\""),
            "{error}"
        );
    }

    #[test]
    fn peer_that_is_not_an_executable_file_is_refused_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("containerd-shim-foo-v1");
        let found = || {
            Peer::parse(&format!("foo={}", shim.display()))
                .unwrap()
                .executable()
        };
        let refused = || format!("{:#}", found().unwrap_err());
        assert!(
            refused().contains(&format!("--peer: look at {}", shim.display())),
            "{}",
            refused()
        );
        fs::write(&shim, "").unwrap();
        assert!(
            refused().contains("is not an executable file"),
            "{}",
            refused()
        );
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found().unwrap(), shim);
    }

    #[test]
    fn recorded_command_names_peers_by_their_files() {
        let words = |text: &str| without_paths(text.split(' ').map(str::to_owned)).join(" ");
        for (text, expected) in [
            ("bench start --rounds 3", "bench start --rounds 3"),
            (
                "--peer a=/x/containerd-shim-a-v1,layer start",
                "--peer a=containerd-shim-a-v1,layer start",
            ),
            (
                "--peer=a=/x/containerd-shim-a-v1 /y",
                "--peer=a=containerd-shim-a-v1 /y",
            ),
            ("--peer a=/x/c --peer b=/y/d", "--peer a=c --peer b=d"),
        ] {
            assert_eq!(words(text), expected);
        }
    }
}
