//! What `cargo xtask test` prepares once and hands to the test programs of the node, vm and cluster
//! classes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::containerd::Install;
use crate::vm;

/// The variable that names the file in which [`Prepared`] is written down.
pub const VARIABLE: &str = "TESTBED_PREPARED";

/// Things that take long to make and that every test program needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The runtime bundle's folder, with `bin`, `lib` and `share`.
    pub bundle: PathBuf,
    /// The runtime's archive (`.tar.gz`), made of that bundle; its digest lies beside it, with
    /// `.sha256` behind its name.
    pub archive: PathBuf,
    /// The same files as another version, for upgrades.
    pub next_archive: PathBuf,
    /// The project's images; only the cluster class has them.
    pub images: Option<Images>,
    /// Every containerd that the node class runs on.
    pub containerds: Vec<Install>,
    /// Programs of more containerds, by their versions: they are asked what they make of
    /// configurations, and restarted under running containers.
    pub daemons: BTreeMap<String, PathBuf>,
    /// Guests and programs that a compiler made.
    pub guests: Guests,
    /// The emulated machine; only the vm class has it.
    pub vm: Option<Vm>,
}

/// The emulated machine, and the tests that run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// What it is made of.
    pub machine: vm::Machine,
    /// The program with the tests, `vm-inside`: it needs no C library.
    pub inside: PathBuf,
}

/// The project's images as OCI archives:
/// [`Packed::read_archive`](crate::image::Packed::read_archive) reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The operator's.
    pub operator: PathBuf,
    /// The installer's, with the runtime in it.
    pub installer: PathBuf,
    /// The runtime's archive as an OCI artifact.
    pub runtime: PathBuf,
}

/// Guests that are compiled from C.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guests {
    /// The probe: a Wasm module whose first argument says what it does.
    pub probe: PathBuf,
    /// The static Linux program that stands for a sidecar.
    pub native: PathBuf,
}

/// Whether a test program was started by `cargo xtask test`.
#[derive(Debug)]
pub enum Preparation {
    /// It was; here is what it may use.
    Done(Box<Prepared>),
    /// It was not: its tests cannot run, for this reason.
    Missing(String),
}

impl Preparation {
    /// Reads what was prepared, from the file that the variable names.
    ///
    /// # Errors
    /// When the variable names a file that cannot be read.
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
    /// Writes it down in `file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("write down what was prepared")?;
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

    /// The project's images.
    ///
    /// # Errors
    /// When the tests of another class ask for them.
    pub fn images(&self) -> Result<&Images> {
        self.images
            .as_ref()
            .context("the images are made for the cluster class alone: put the test there")
    }

    /// The emulated machine.
    ///
    /// # Errors
    /// When the tests of another class ask for it.
    pub fn vm(&self) -> Result<&Vm> {
        self.vm
            .as_ref()
            .context("the emulated machine is made for the vm class alone: put the test there")
    }

    /// The folder in the bundle that holds the shim.
    pub fn shims(&self) -> PathBuf {
        self.bundle.join("bin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
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
    fn without_the_variable_the_reason_names_the_command() {
        // The unit tests themselves are run without it.
        let Preparation::Missing(reason) = Preparation::from_environment().unwrap() else {
            panic!("prepared, in a unit test")
        };
        assert!(reason.contains("cargo xtask test"), "{reason}");
    }
}
