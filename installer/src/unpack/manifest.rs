//! The manifest of a runtime, and the files that every runtime has.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{UnpackError, tree};

/// The manifest's path in a runtime's folder.
pub const MANIFEST: &str = "share/manifest.json";
/// The program that containerd executes.
pub const LAUNCHER: &str = "bin/containerd-shim-wasmedge-v1";
/// The program that serves tasks.
pub const HOST: &str = "bin/wasmedge-host";

/// Maximum bytes of a manifest; ours has 20 kB.
pub(super) const MAX_SIZE: u64 = 4 << 20;

/// A runtime's manifest. Its other fields, such as the origin of the libraries, are for people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// The runtime's version.
    pub version: String,
    /// The processor architecture in Rust's notation (`x86_64`).
    pub architecture: String,
    /// File name of the loader in `lib` that starts the node host.
    pub loader: String,
    /// Whether its launcher reads runtime options from a file ([`crate::entry`]). Older runtimes
    /// read only an options table.
    #[serde(default)]
    pub options_file: bool,
    /// SHA-256 of every file except the manifest, by its path in the folder; `-> target` for a
    /// link.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses the manifest of the archive's folder `version`.
    pub(super) fn read(text: &[u8], version: &str) -> Result<Self, UnpackError> {
        let manifest: Self =
            serde_json::from_slice(text).map_err(|source| UnpackError::Manifest { source })?;
        let contradiction = |what: String| Err(UnpackError::Contradiction { what });
        if manifest.version != version {
            return contradiction(format!(
                "has version {:?}, its folder is {version:?}",
                manifest.version
            ));
        }
        for needed in manifest.programs() {
            if !manifest
                .files
                .get(&needed)
                .is_some_and(|what| is_digest(what))
            {
                return contradiction(format!("does not list the file {needed}"));
            }
        }
        for (path, what) in &manifest.files {
            if path == MANIFEST || !tree::is_plain(path) {
                return contradiction(format!(
                    "lists {path:?}, which is not a path of a file in the folder"
                ));
            }
            if !is_digest(what) && !what.starts_with(LINK) {
                return contradiction(format!(
                    "gives {path} the digest {what:?}, which is neither a SHA-256 nor a link"
                ));
            }
        }
        Ok(manifest)
    }

    /// Checks that the runtime is for the architecture `node`.
    pub(super) fn check_architecture(&self, node: &str) -> Result<(), UnpackError> {
        if self.architecture == node {
            return Ok(());
        }
        Err(UnpackError::Architecture {
            archive: self.architecture.clone(),
            node: node.to_owned(),
        })
    }

    /// Returns the files that are executed.
    pub(super) fn programs(&self) -> [String; 3] {
        [
            LAUNCHER.to_owned(),
            HOST.to_owned(),
            format!("lib/{}", self.loader),
        ]
    }
}

/// Prefix of a link's target in the manifest.
pub(super) const LINK: &str = "-> ";

/// Returns whether `text` is a SHA-256 in lower case.
fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
