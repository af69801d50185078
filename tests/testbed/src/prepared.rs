//! Artifacts that `cargo xtask test` prepares once and passes to the test programs of the node, vm
//! and cluster classes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::containerd::Install;
use crate::vm;

/// The variable with the path of the file that holds [`Prepared`].
pub const VARIABLE: &str = "TESTBED_PREPARED";

/// Artifacts that take long to make and that every test program needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The folder of the runtime bundle, with `bin`, `lib` and `share`.
    pub bundle: PathBuf,
    /// The runtime archive (`.tar.gz`) of that bundle; its digest lies beside it in a file with the
    /// suffix `.sha256`.
    pub archive: PathBuf,
    /// The same files as another version, for upgrades.
    pub next_archive: PathBuf,
    /// The project's images; for the cluster class only.
    pub images: Option<Images>,
    /// Every containerd that the node class runs on.
    pub containerds: Vec<Install>,
    /// Programs of more containerd versions: tests check configurations with them, and restart them
    /// under running containers.
    pub daemons: BTreeMap<String, PathBuf>,
    /// Compiled guests and programs.
    pub guests: Guests,
    /// The emulated machine; for the vm class only.
    pub vm: Option<Vm>,
}

/// The emulated machine, and the tests that run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// The parts of the machine.
    pub machine: vm::Machine,
    /// The program with the tests, `vm-inside`: it needs no C library.
    pub inside: PathBuf,
}

/// The project's images as OCI archives, which
/// [`Packed::read_archive`](crate::image::Packed::read_archive) reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The operator's image.
    pub operator: PathBuf,
    /// The installer's image, with the runtime in it.
    pub installer: PathBuf,
    /// The runtime archive as an OCI artifact.
    pub runtime: PathBuf,
}

/// Guests that are compiled from C.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guests {
    /// The probe: a Wasm module; its first argument selects the action.
    pub probe: PathBuf,
    /// The static Linux program that serves as a sidecar.
    pub native: PathBuf,
}

/// Whether `cargo xtask test` started a test program.
#[derive(Debug)]
pub enum Preparation {
    /// It did, with these artifacts.
    Done(Box<Prepared>),
    /// It did not: the tests cannot run, for this reason.
    Missing(String),
}

impl Preparation {
    /// Reads the artifacts from the file that the variable names.
    ///
    /// # Errors
    /// Fails if the variable names a file that cannot be read.
    pub fn from_environment() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(file) => Prepared::read(&file).map(Box::new).map(Self::Done),
            None => Ok(Self::Missing(format!(
                "{VARIABLE} is not set: `cargo xtask test` prepares what these tests need and sets \
                 it"
            ))),
        }
    }
}

impl Prepared {
    /// Writes the artifacts to `file`.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("serialize the prepared artifacts")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    fn read(file: &OsStr) -> Result<Self> {
        let text = fs::read(file).with_context(|| {
            format!("read {}, which {VARIABLE} names", Path::new(file).display())
        })?;
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "read {}: run `cargo xtask test` of this checkout",
                Path::new(file).display()
            )
        })
    }

    /// Returns the project's images.
    ///
    /// # Errors
    /// Fails if a test of another class asks for them.
    pub fn images(&self) -> Result<&Images> {
        self.images
            .as_ref()
            .context("the images are made for the cluster class only: put the test there")
    }

    /// Returns the emulated machine.
    ///
    /// # Errors
    /// Fails if a test of another class asks for it.
    pub fn vm(&self) -> Result<&Vm> {
        self.vm
            .as_ref()
            .context("the emulated machine is made for the vm class only: put the test there")
    }

    /// Returns the folder in the bundle that holds the shim.
    pub fn shims(&self) -> PathBuf {
        self.bundle.join("bin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_artifacts_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prepared.json");
        let install = Install {
            name: "debian".into(),
            version: "1.6.20".into(),
            bin: "/bin".into(),
            runc: "/sbin".into(),
        };
        let guests = Guests {
            probe: "/probe.wasm".into(),
            native: "/native".into(),
        };
        let images = Images {
            operator: "/operator.tar".into(),
            installer: "/installer.tar".into(),
            runtime: "/runtime.tar".into(),
        };
        let prepared = Prepared {
            bundle: "/bundle".into(),
            archive: "/archive.tar.gz".into(),
            next_archive: "/next.tar.gz".into(),
            images: Some(images),
            containerds: vec![install],
            daemons: BTreeMap::from([("1.7.35".to_owned(), "/containerd".into())]),
            guests,
            vm: None,
        };
        prepared.write(&file).unwrap();
        assert_eq!(Prepared::read(file.as_os_str()).unwrap(), prepared);
    }

    #[test]
    fn reason_names_the_command_if_the_variable_is_not_set() {
        // `cargo test` runs the unit tests without it.
        let Preparation::Missing(reason) = Preparation::from_environment().unwrap() else {
            panic!("prepared, in a unit test")
        };
        assert!(reason.contains("cargo xtask test"), "{reason}");
    }
}
