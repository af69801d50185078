//! The measured runtimes: executables that were found or built, and the workload of each.
//!
//! - [`name`]: the names of subjects; [`peer`]: shims of other projects.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::cache::{self, Cache};
use testbed::command::Run;
use testbed::containerd::Install;

use super::programs::Workload;
use super::report::Part;
use crate::bundle::{self, LAUNCHER};

pub(super) mod name;
pub(super) mod peer;

use name::SubjectName;
use peer::Peer;

/// A subject that is measured without `--peer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum BuiltIn {
    /// containerd's own shim, and runc
    Runc,
    /// This checkout's runtime
    Ours,
}

/// One runtime.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: SubjectName,
    /// The shim's executable.
    pub(super) shim: PathBuf,
    pub(super) files: Files,
    pub(super) workload: Workload,
}

/// The files that a subject needs on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Files {
    /// They come with containerd.
    WithContainerd,
    /// A runtime bundle of this project that includes the shim.
    Bundle(PathBuf),
    /// The shim's executable alone.
    Executable,
}

impl Subject {
    /// Returns the runtime name for containerd, which takes a path as well. By their paths two
    /// builds of one shim differ.
    pub(super) fn runtime(&self) -> String {
        match self.files {
            Files::WithContainerd => "io.containerd.runc.v2".to_owned(),
            Files::Bundle(_) | Files::Executable => self.shim.display().to_string(),
        }
    }

    /// Returns whether the shim can be called without containerd: bench-client supports this
    /// project's shim in any version.
    pub(super) fn can_be_called_directly(&self) -> bool {
        matches!(self.files, Files::Bundle(_))
    }
}

/// All subjects of a run, and a report's description of each.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) subjects: Vec<Subject>,
    pub(super) parts: Vec<Part>,
}

impl Field {
    /// Finds or builds the built-in subjects, beside `peers`; ours is the bundle in `bundle`, or
    /// this checkout's.
    ///
    /// # Errors
    /// If a shim cannot be found or built.
    pub(super) fn assemble(
        cache: &Cache,
        install: &Install,
        built_in: &[BuiltIn],
        peers: Vec<(Subject, String)>,
        bundle: Option<&Path>,
    ) -> Result<Self> {
        let mut found = peers;
        for built_in in built_in {
            found.push(match built_in {
                BuiltIn::Runc => runc(install)?,
                BuiltIn::Ours => ours(cache, bundle)?,
            });
        }
        // Ours comes last; peers stay in the order of the command line.
        found.sort_by_key(|(subject, _)| match subject.name {
            SubjectName::Runc => 0,
            SubjectName::Peer(_) => 1,
            SubjectName::Ours => 2,
        });
        let mut field = Self {
            subjects: Vec::new(),
            parts: Vec::new(),
        };
        for (subject, what) in found {
            let Subject { name, shim, .. } = &subject;
            ensure!(
                shim.is_file(),
                "find the shim of {name}: {} is not a file",
                shim.display()
            );
            field.parts.push(Part {
                name: name.clone(),
                what,
            });
            field.subjects.push(subject);
        }
        Ok(field)
    }
}

/// Returns the workloads of all subjects.
pub(super) fn workloads(subjects: &[Subject]) -> Vec<Workload> {
    subjects.iter().map(|subject| subject.workload).collect()
}

/// Finds the shims of peers; each comes with its description for a report.
///
/// # Errors
/// If a shim does not exist, or two peers have one name.
pub(super) fn of_peers(peers: &[Peer]) -> Result<Vec<(Subject, String)>> {
    peer::check_names(peers)?;
    peers.iter().map(of_peer).collect()
}

fn runc(install: &Install) -> Result<(Subject, String)> {
    let version = Run::new(install.runc.join("runc"))
        .arg("--version")
        .text()?;
    let what = format!(
        "containerd-shim-runc-v2 of containerd {}, {}",
        install.version,
        version.lines().next().unwrap_or_default()
    );
    let shim = install.bin.join("containerd-shim-runc-v2");
    Ok((
        Subject {
            name: SubjectName::Runc,
            shim,
            files: Files::WithContainerd,
            workload: Workload::Native,
        },
        what,
    ))
}

fn ours(cache: &Cache, bundle: Option<&Path>) -> Result<(Subject, String)> {
    let root = match bundle {
        Some(root) => root
            .canonicalize()
            .with_context(|| format!("find {}", root.display()))?,
        None => bundle::build(cache)?.root,
    };
    let shim = root.join("bin").join(LAUNCHER);
    let subject = Subject {
        name: SubjectName::Ours,
        shim,
        files: Files::Bundle(root),
        workload: Workload::Rootfs,
    };
    Ok((subject, format!("the runtime bundle {}", bundle::VERSION)))
}

fn of_peer(peer: &Peer) -> Result<(Subject, String)> {
    let shim = peer.executable()?;
    let file = shim
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let digest = cache::sha256_of_file(&shim)?;
    let what = format!(
        "{file} ({}), SHA-256 {}…; it runs {}",
        peer.runtime_type.as_str(),
        digest.get(..12).unwrap_or(&digest),
        peer.workload.description()
    );
    let files = match shim.ancestors().nth(2) {
        Some(root) if bundle::has_manifest(root) => Files::Bundle(root.to_owned()),
        _ => Files::Executable,
    };
    let name = SubjectName::Peer(peer.name.clone());
    Ok((
        Subject {
            name,
            shim,
            files,
            workload: peer.workload,
        },
        what,
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn peer(folder: &Path, workload: &str) -> Peer {
        let shim = folder.join("bin/containerd-shim-foo-v1");
        fs::create_dir_all(shim.parent().unwrap()).unwrap();
        fs::write(&shim, "").unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        Peer::parse(&format!("foo={}{workload}", shim.display())).unwrap()
    }

    #[test]
    fn peer_is_described_by_file_type_digest_and_workload() {
        let folder = tempfile::tempdir().unwrap();
        let (subject, what) = of_peer(&peer(folder.path(), ",layer")).unwrap();
        // The digest of an empty file.
        let expected = "containerd-shim-foo-v1 (io.containerd.foo.v1), SHA-256 e3b0c44298fc…; it \
                        runs a Wasm module in a layer of its own";
        assert_eq!(what, expected);
        assert_eq!(
            subject.runtime(),
            folder
                .path()
                .join("bin/containerd-shim-foo-v1")
                .display()
                .to_string()
        );
        assert_eq!(subject.workload, Workload::Layer);
    }

    #[test]
    fn peer_in_a_bundle_of_this_project_comes_with_the_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let peer = peer(folder.path(), "");
        let (subject, _) = of_peer(&peer).unwrap();
        assert_eq!(
            (&subject.files, subject.can_be_called_directly()),
            (&Files::Executable, false)
        );
        fs::create_dir(folder.path().join("share")).unwrap();
        fs::write(folder.path().join("share/manifest.json"), "{}").unwrap();
        let (subject, _) = of_peer(&peer).unwrap();
        assert_eq!(
            (&subject.files, subject.can_be_called_directly()),
            (&Files::Bundle(folder.path().to_owned()), true)
        );
    }
}
