//! What a runtime says of itself, and what every runtime must have.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{UnpackError, tree};

/// Where the manifest lies in a runtime's folder.
pub const MANIFEST: &str = "share/manifest.json";
/// What containerd executes.
pub const LAUNCHER: &str = "bin/containerd-shim-wasmedge-v1";
/// What serves tasks.
pub const HOST: &str = "bin/wasmedge-host";

/// Bytes of a manifest: ours has 20 kB.
pub(super) const LIMIT: u64 = 4 << 20;

/// A runtime's manifest. It says more than what is read here: where the libraries come from, for
/// people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// The runtime's version.
    pub version: String,
    /// The processor that its programs are for, in Rust's word (`x86_64`).
    pub architecture: String,
    /// File name of the loader in `lib` that starts the host.
    pub loader: String,
    /// Whether its launcher reads runtime options from a file ([`crate::entry`]). Older runtimes
    /// know a table alone.
    #[serde(default)]
    pub options_file: bool,
    /// SHA-256 of every file but the manifest itself, by its path in the folder; `-> target` for a
    /// link.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the manifest of the archive's folder `version`.
    pub(super) fn read(text: &[u8], version: &str) -> Result<Self, UnpackError> {
        let manifest: Self =
            serde_json::from_slice(text).map_err(|source| UnpackError::Manifest { source })?;
        let contradiction = |what: String| Err(UnpackError::Contradiction { what });
        if manifest.version != version {
            return contradiction(format!(
                "says version {:?}, its folder is {version:?}",
                manifest.version
            ));
        }
        for needed in manifest.programs() {
            if !manifest
                .files
                .get(&needed)
                .is_some_and(|what| is_digest(what))
            {
                return contradiction(format!("names no file {needed}"));
            }
        }
        for (path, what) in &manifest.files {
            if path == MANIFEST || !tree::is_plain(path) {
                return contradiction(format!(
                    "names {path:?}, which is no path of a file in the folder"
                ));
            }
            if !is_digest(what) && !what.starts_with(LINK) {
                return contradiction(format!(
                    "says {what:?} of {path}, which is neither a SHA-256 nor a link"
                ));
            }
        }
        Ok(manifest)
    }

    /// Refuses the manifest of a runtime for another processor than `node`.
    pub(super) fn must_be_for(&self, node: &str) -> Result<(), UnpackError> {
        if self.architecture == node {
            return Ok(());
        }
        Err(UnpackError::Architecture {
            archive: self.architecture.clone(),
            node: node.to_owned(),
        })
    }

    /// The files that are executed.
    pub(super) fn programs(&self) -> [String; 3] {
        [
            LAUNCHER.to_owned(),
            HOST.to_owned(),
            format!("lib/{}", self.loader),
        ]
    }
}

/// What begins a link's entry in the manifest.
pub(super) const LINK: &str = "-> ";

/// Whether `text` is a SHA-256 as the manifest writes it.
fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
