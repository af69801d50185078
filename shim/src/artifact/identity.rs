//! The parts of an artifact's key beside its module and its tier: the engines as this bundle has
//! them, and the machine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use artifact_store::cpu::CpuError;
use artifact_store::{CpuFeatures, EngineName, KeyInputs, Sha256Digest, Tier};
use serde::Deserialize;
use thiserror::Error;

/// The bundle's list of its files with their digests.
const MANIFEST: &str = "share/manifest.json";
/// The files of a bundle that make and load WasmEdge's code.
const WASMEDGE_FILES: &[&str] = &["bin/wasmedge-compile", "lib/libwasmedge", "compile/"];
/// The files of a bundle that make and load Wasmtime's code. The host's executable has the part
/// that loads it; its version is that of the program that compiles.
const WASMTIME_FILES: &[&str] = &["bin/wasmtime-compile"];

/// The parts of keys that are the same for all modules of a host.
#[derive(Debug)]
pub(crate) struct Identity {
    wasmedge: String,
    wasmtime: String,
    cpu: String,
}

/// Guests cannot be compiled: what their code would depend on is not known.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    /// The bundle has no readable manifest.
    #[error("cannot read {}: install the runtime bundle again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bundle has no program that compiles.
    #[error("{} lists no {program}: install the runtime bundle again", path.display())]
    Incomplete {
        /// The manifest.
        path: PathBuf,
        /// The program's path in the bundle.
        program: &'static str,
    },
    /// The features of the processor are not known.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

/// The part of a manifest that matters here.
#[derive(Debug, Deserialize)]
struct Manifest {
    files: BTreeMap<String, String>,
}

impl Identity {
    /// Reads the identity of the engines in the bundle `root`, whose versions are `wasmedge` and
    /// `wasmtime`, and of the machine.
    ///
    /// # Errors
    /// If the bundle is incomplete, or the kernel does not describe the processor.
    pub(crate) fn of(root: &Path, wasmedge: &str, wasmtime: &str) -> Result<Self, IdentityError> {
        let path = root.join(MANIFEST);
        let read = std::fs::read(&path)
            .and_then(|bytes| Ok(serde_json::from_slice::<Manifest>(&bytes)?))
            .map_err(|source| IdentityError::Manifest {
                path: path.clone(),
                source,
            })?;
        let build = |version: &str, parts: &'static [&'static str]| {
            build_of(version, parts, &read.files).ok_or_else(|| IdentityError::Incomplete {
                path: path.clone(),
                program: parts[0],
            })
        };
        Ok(Self {
            wasmedge: build(wasmedge, WASMEDGE_FILES)?,
            wasmtime: build(wasmtime, WASMTIME_FILES)?,
            cpu: CpuFeatures::of_this_machine()?.to_string(),
        })
    }

    /// Returns the inputs of the key of `module`, compiled to `tier` for `engine`.
    pub(crate) fn inputs(&self, module: Sha256Digest, engine: EngineName, tier: Tier) -> KeyInputs {
        let version = match engine {
            EngineName::WasmEdge => &self.wasmedge,
            EngineName::Wasmtime => &self.wasmtime,
        };
        KeyInputs {
            module,
            engine,
            version: version.clone(),
            tier,
            target: format!("{}-linux", std::env::consts::ARCH),
            cpu: self.cpu.clone(),
            options: Vec::new(),
        }
    }
}

/// Returns `version` with the digest of the files whose paths begin as `parts`; none if there is
/// no file for the first of them, the program.
fn build_of(version: &str, parts: &[&str], files: &BTreeMap<String, String>) -> Option<String> {
    files.get(parts[0])?;
    let listed: Vec<String> = files
        .iter()
        .filter(|(file, _)| parts.iter().any(|part| file.starts_with(part)))
        .map(|(file, digest)| format!("{file} {digest}\n"))
        .collect();
    let digest = Sha256Digest::of(listed.concat().as_bytes());
    Some(format!("{version}+{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(changed: &str) -> BTreeMap<String, String> {
        [
            "bin/wasmedge-compile",
            "bin/wasmedge-host",
            "bin/wasmtime-compile",
            "compile/libLLVM.so",
            "lib/libwasmedge.so.0",
        ]
        .map(|file| {
            let digest = if file == changed { "new" } else { "old" };
            (file.to_owned(), digest.to_owned())
        })
        .into()
    }

    #[test]
    fn build_changes_with_each_file_that_makes_or_loads_its_code_and_with_no_other() {
        let of = |changed, parts| build_of("1.0", parts, &files(changed)).unwrap();
        for (file, wasmedge, wasmtime) in [
            ("bin/wasmedge-compile", true, false),
            ("lib/libwasmedge.so.0", true, false),
            ("compile/libLLVM.so", true, false),
            ("bin/wasmtime-compile", false, true),
            ("bin/wasmedge-host", false, false),
        ] {
            let changes = |parts| of(file, parts) != of("", parts);
            assert_eq!(changes(WASMEDGE_FILES), wasmedge, "{file}");
            assert_eq!(changes(WASMTIME_FILES), wasmtime, "{file}");
        }
        assert_eq!(build_of("1.0", WASMEDGE_FILES, &BTreeMap::new()), None);
    }
}
